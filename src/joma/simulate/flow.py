"""Gradient flow of the one-layer model, complete or with the attention integrated out, with SciPy's solvers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy import integrate

from joma.arrays import REAL, Real, as_real
from joma.domains import POSITIVE, Domain, choose
from joma.errors import BadInput, InvalidArgument
from joma.problem.attention import attention_weights
from joma.problem.one_layer import OneLayer, Parameters, check_parameters, token_weights, velocity
from joma.progress import Progress, silent
from joma.records import Status
from joma.simulate.trajectory import Trajectory, trajectory_of
from joma.theory.invariants import expected_logits
from joma.theory.normalized import runge_kutta
from joma.threads import threads

SolverFactory = Callable[..., integrate.OdeSolver]
_WORTH_A_SECOND_THREAD = 10_000_000  # multiplications in one matrix product: some milliseconds of one core

RightHandSide = Callable[[float, np.ndarray], np.ndarray]

METHODS: dict[str, SolverFactory] = {
    "DOP853": integrate.DOP853,
    "RK45": integrate.RK45,
    "LSODA": integrate.LSODA,
    "Radau": integrate.Radau,
    "BDF": integrate.BDF,
}

_MOST_FAILURES = 10_000
"""Evaluations in a row that may be NaN: more than SciPy's solvers take to shorten a step from 1 to the shortest one.

Their step itself may become NaN, and then they would try for ever.
"""

_MOST_STEPS = 10_000_000  # of a fixed length between two snapshots: hours

_TOLERANCE = Domain(
    "a number from 1e-13 to 0.1",
    lambda value: 1e-13 <= value <= 0.1,
    (0.0, 1e-14, 1.0, math.nan),
    "pass 1e-10, for example; float64 cannot resolve less than 1e-13",
)


@dataclass(frozen=True)
class Adaptive:
    """A solver of SciPy with adaptive steps.

    Args:
        method: its name; LSODA, Radau or BDF for stiff problems.
        tolerance: relative and absolute, from 1e-13 to 0.1.
        max_evaluations: of the right-hand side; beyond it the flow stops and reports it in its status.
    """

    method: str = "DOP853"
    tolerance: float = 1e-10
    max_evaluations: int = 100_000

    def __post_init__(self) -> None:
        choose(self.method, METHODS, "Adaptive", "method")
        _TOLERANCE.check(self.tolerance, "Adaptive", "tolerance")
        POSITIVE.check(self.max_evaluations, "Adaptive", "max_evaluations")


@dataclass(frozen=True)
class FixedStep:
    """The classical Runge–Kutta method of order 4 with fixed steps, for flows with kinks (ReLU).

    If the flow pushes a preactivation to its kink from both sides, an adaptive solver reduces its steps without limit.

    Args:
        step: the longest step; the time between two snapshots is divided into equal steps.
    """

    step: float

    def __post_init__(self) -> None:
        POSITIVE.check(self.step, "FixedStep", "step")


DEFAULT_SOLVER = Adaptive()


@dataclass(frozen=True)
class _Layout:
    """The position of each part of the state in the solver's vector."""

    shapes: dict[str, torch.Size]
    device: torch.device

    def pack(self, parts: dict[str, torch.Tensor]) -> np.ndarray:
        return torch.cat([parts[name].reshape(-1) for name in self.shapes]).cpu().numpy()

    def unpack(self, states: np.ndarray) -> dict[str, torch.Tensor]:
        """The parts of one state (n,) or of several (T, n)."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        pieces = torch.from_numpy(states).to(self.device).split(sizes, -1)
        front = states.shape[:-1]
        return {
            name: piece.reshape(*front, *self.shapes[name]) for name, piece in zip(self.shapes, pieces, strict=True)
        }


def flow(
    model: OneLayer,
    start: Parameters,
    times: Real,
    *,
    reduced: bool = False,
    solver: Adaptive | FixedStep = DEFAULT_SOLVER,
    progress: Progress = silent,
) -> Trajectory:
    """Integrate the gradient flow and take snapshots at the given times.

    Problems in the leading axes are integrated together, with common steps. The tolerance holds on average
    over them, so do not combine problems with very different time scales.

    Args:
        model: the model.
        start: its parameters at the first time.
        times: increasing and finite, (T,); the first is that of ``start``.
        reduced: integrate the MLP only and compute the logits by Theorem 1 (``expected_logits``). Requires orthonormal
            embeddings, one query, and with linear attention z(0)² > Σₖ vₖ(0)² for every token, so that z keeps its
            sign. With softmax attention it is an approximation that keeps b̄ at its initial value.
        solver: the integration method.
        progress: called with the time integrated.

    Returns:
        The trajectory. If the solver cannot continue (the flow reaches infinity in finite time, or is too stiff for the
        method), the status reports it and the snapshots before are kept.

    Raises:
        InvalidArgument: an argument outside its domain.
    """
    start = check_parameters(model, start, "flow")
    moments = _moments(times)
    logits_of = _attention_from_theory(model, start) if reduced else None
    parts = {"weights": start.weights}
    if logits_of is None:
        parts["attention_logits"] = start.attention_logits
        if model.attention == "softmax":
            parts["recoil"] = torch.zeros_like(start.attention_logits)
    if model.trains_upper and start.upper is not None:
        parts["upper"] = start.upper
    layout = _Layout({name: part.shape for name, part in parts.items()}, start.weights.device)

    failures = 0

    def right_hand_side(_: float, state: np.ndarray) -> np.ndarray:
        nonlocal failures
        found = np.full_like(state, np.nan)  # the solver rejects the step and tries a shorter one
        if np.isfinite(state).all():
            now = layout.unpack(state)
            logits = now["attention_logits"] if logits_of is None else logits_of(now["weights"])
            ascent = velocity(model, Parameters(now["weights"], logits, now.get("upper", start.upper)))
            found = layout.pack({name: value for name, value in ascent._asdict().items() if value is not None})
        failures = 0 if np.isfinite(found).all() else failures + 1
        if failures > _MOST_FAILURES:
            raise FloatingPointError(f"{failures} times in a row the flow was infinite or NaN")
        return found

    with few_threads(model, start):
        if isinstance(solver, Adaptive):
            states, status = _adaptive(solver, right_hand_side, layout.pack(parts), moments, progress)
        else:
            states, status = _fixed_step(solver, right_hand_side, layout.pack(parts), moments, progress)
    seen = layout.unpack(states)
    weights, upper = seen["weights"], seen.get("upper")
    if upper is None and start.upper is not None:
        upper = start.upper.expand(len(states), *start.upper.shape)
    logits = seen["attention_logits"] if logits_of is None else torch.stack([logits_of(now) for now in weights])
    snapshots = Parameters(weights, logits, upper)
    return trajectory_of(model, torch.from_numpy(moments[: len(states)]), snapshots, seen.get("recoil"), status)


def _adaptive(
    settings: Adaptive, right_hand_side: RightHandSide, start: np.ndarray, times: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Status]:
    """The states (T, n) at the times reached, and the status."""
    states, reached, tolerance = [start.copy()], 1, settings.tolerance
    if len(times) == 1:
        return np.stack(states), Status()
    now = times[0]
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            factory = METHODS[settings.method]
            solver = factory(right_hand_side, now, start, times[-1], rtol=tolerance, atol=tolerance)
            while solver.status == "running":
                message = solver.step()
                now = solver.t
                if solver.status == "failed" or not np.isfinite(solver.y).all():
                    return np.stack(states), _stopped(now, message or "the state is not finite")
                progress("gradient flow", float(now - times[0]), float(times[-1] - times[0]))
                passed = int(np.searchsorted(times, now, side="right"))
                if passed > reached:
                    between = solver.dense_output()
                    states += [between(time) for time in times[reached:passed]]
                    reached = passed
                if solver.nfev > settings.max_evaluations and solver.status == "running":
                    return np.stack(states), Status(
                        "too_many_evaluations",
                        f"after {solver.nfev} evaluations the flow is at t = {now:.6g} of {times[-1]:.6g}",
                        "if stiff, try method='LSODA'; with kinks, FixedStep; or a larger tolerance or max_evaluations",
                    )
    except BadInput:
        raise
    except (FloatingPointError, ValueError) as error:  # ValueError: what SciPy's linear algebra says of a NaN
        return np.stack(states), _stopped(now, str(error))
    return np.stack(states), Status()


def _stopped(time: float, cause: str) -> Status:
    return Status(
        "stopped",
        f"the solver could not step past t = {time:.6g} ({cause})",
        "the flow may reach infinity there: pass earlier times, or try method='LSODA'",
    )


def _fixed_step(
    settings: FixedStep, right_hand_side: RightHandSide, start: np.ndarray, times: np.ndarray, progress: Progress
) -> tuple[np.ndarray, Status]:
    """As ``_adaptive``."""
    states, state = [start.copy()], start
    for before, after in itertools.pairwise(times):
        if not after - before <= _MOST_STEPS * settings.step:
            required = f"at least {(after - before) / _MOST_STEPS:.3g}, for {_MOST_STEPS:,} steps between two snapshots"
            received, remedy = f"{settings.step:g}", "pass a longer step, or more snapshots"
            raise InvalidArgument("flow", "step", required=required, received=received, remedy=remedy)
        num = math.ceil((after - before) / settings.step - 1e-9)
        step = (after - before) / num
        for _ in range(num):
            state = runge_kutta(partial(right_hand_side, before), state, step)
        if not np.isfinite(state).all():
            cause = f"the state became infinite or NaN between t = {before:.6g} and {after:.6g}"
            return np.stack(states), Status("stopped", cause, "pass a smaller step, or earlier times")
        states.append(state)
        progress("gradient flow", float(after - times[0]), float(times[-1] - times[0]))
    return np.stack(states), Status()


def _moments(times: Real) -> Float[np.ndarray, " T"]:
    moments = as_real(times, "flow", "times")
    if moments.ndim != 1 or not len(moments) or moments.isinf().any() or (moments.diff() <= 0).any():
        raise InvalidArgument(
            "flow",
            "times",
            required="finite and increasing times, (T,) with T of at least 1",
            received=f"of shape {tuple(moments.shape)}" if moments.ndim != 1 else "empty, infinite or not increasing",
            remedy="pass torch.linspace(0, 10, 101, dtype=torch.float64), for example",
        )
    return moments.detach().cpu().numpy()


def _attention_from_theory(model: OneLayer, start: Parameters) -> Callable[[torch.Tensor], torch.Tensor]:
    """The logits (..., 1, M) as a function of W alone."""
    first = token_weights(start.weights, model.context_embedding)
    logits = start.attention_logits[..., 0, :]
    problem = ""
    if not model.orthonormal:
        problem = "a model whose [U_C, u_q] is not orthonormal"
    elif model.context.shape[-3] != 1:
        problem = f"a model with {model.context.shape[-3]} queries, for which only the sum of the logits is known"
    elif model.attention == "linear" and (logits.square() <= first.square().sum(-1)).any():
        problem = "a start with z² ≤ Σₖ vₖ² at some token, after which the sign of z is not known"
    if problem:
        raise InvalidArgument(
            "flow",
            "reduced",
            required="False, or a problem in which Theorem 1 gives the logits",
            received=f"True for {problem}",
            remedy="integrate the full flow with reduced=False",
        )
    mean = None
    if model.attention == "softmax":
        attention = attention_weights(model.context, start.attention_logits, "softmax", model.temperature)
        mean = attention.mean(-2)[..., 0, :].to(REAL)

    def logits_of(weights: torch.Tensor) -> torch.Tensor:
        seen = token_weights(weights, model.context_embedding)
        return expected_logits(seen, model.attention, model.temperature, mean, (first, logits)).unsqueeze(-2)

    return logits_of


def few_threads(model: OneLayer, start: Parameters) -> AbstractContextManager[None]:
    """Return a context that uses one thread for small problems, where starting others costs more than it saves."""
    small = model.context.numel() * start.weights.shape[-2] < _WORTH_A_SECOND_THREAD
    return threads(1) if small else nullcontext()
