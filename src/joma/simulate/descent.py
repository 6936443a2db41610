"""Gradient descent of the one-layer model in finite steps, with the optimisers used in practice."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from joma.arrays import REAL
from joma.domains import POSITIVE, choose
from joma.errors import InvalidArgument
from joma.problem.one_layer import OneLayer, Parameters, check_parameters, velocity
from joma.progress import Progress, silent
from joma.records import Status
from joma.simulate.flow import few_threads
from joma.simulate.trajectory import Trajectory, trajectory_of

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""A function of the parameters and ``lr`` that returns an optimiser."""

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
}


@dataclass(frozen=True)
class Minibatches:
    """Random minibatches, drawn with replacement for each step.

    Args:
        size: number of samples of each query in a step, at least 1.
        seed: of the draws.
    """

    size: int
    seed: int = 0


def descent(
    model: OneLayer,
    start: Parameters,
    steps: Sequence[int],
    learning_rate: float,
    optimizer: str | OptimizerFactory = "sgd",
    minibatches: Minibatches | None = None,
    *,
    progress: Progress = silent,
) -> Trajectory:
    """Minimise the loss in finite steps and take snapshots at the given ones.

    Args:
        model: the model; problems in the leading axes are trained at once.
        start: its parameters before the first step.
        steps: step counts of the snapshots, increasing from 0; training ends at the last one.
        learning_rate: η > 0.
        optimizer: a name of ``OPTIMIZERS``, or a function that returns a ``torch.optim.Optimizer`` when called with
            (parameters, lr=...).
        minibatches: the samples of each step; ``None`` for all samples.
        progress: called at every snapshot with the number of steps done.

    Returns:
        The trajectory; its times are the step counts. If the parameters become infinite or NaN, the status reports it
        and the snapshots before are kept. The recoil integral exists for ``sgd`` only: Σ η · recoil over the steps.

    Raises:
        InvalidArgument: an argument outside its domain.
    """
    start = check_parameters(model, start, "descent")
    counts = _counts(steps)
    POSITIVE.check(learning_rate, "descent", "learning_rate")
    if minibatches is not None:
        POSITIVE.check(minibatches.size, "descent", "minibatches.size")
    factory = choose(optimizer, OPTIMIZERS, "descent", "optimizer") if isinstance(optimizer, str) else optimizer
    trained = {"weights": start.weights.clone(), "attention_logits": start.attention_logits.clone()}
    if model.trains_upper and start.upper is not None:
        trained["upper"] = start.upper.clone()
    stepper = factory(list(trained.values()), lr=learning_rate)
    recoils = {"recoil": torch.zeros_like(start.attention_logits)}
    if model.attention != "softmax" or optimizer != "sgd":
        recoils.clear()
    samples = _samples(minibatches, model.context.shape[-2])
    snapshots, status = [_copy(trained | recoils)], Status()
    for before, after in itertools.pairwise(counts):
        with few_threads(model, start):
            for _ in range(after - before):
                data = model if samples is None else model.subset(samples())
                ascent = velocity(data, start._replace(**trained))._asdict()
                for name, part in trained.items():
                    part.grad = -ascent[name]
                stepper.step()
                for name, total in recoils.items():
                    total += learning_rate * ascent[name]
        if not all(part.isfinite().all() for part in trained.values()):
            cause = f"the parameters became infinite or NaN between steps {before} and {after}"
            status = Status("diverged", cause, "lower learning_rate")
            break
        snapshots.append(_copy(trained | recoils))
        progress("gradient descent", after, counts[-1])
    seen = {name: torch.stack([snapshot[name] for snapshot in snapshots]) for name in snapshots[0]}
    recoil = seen.pop("recoil", None)
    if start.upper is not None and "upper" not in seen:
        seen["upper"] = start.upper.expand(len(snapshots), *start.upper.shape)
    times = torch.tensor(counts[: len(snapshots)], dtype=REAL)
    return trajectory_of(model, times, Parameters(**seen), recoil, status)


def _copy(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in parts.items()}


def _counts(steps: Sequence[int]) -> list[int]:
    counts = list(steps)
    whole = all(isinstance(count, int) for count in counts)
    if not whole or counts[:1] != [0] or any(b <= a for a, b in itertools.pairwise(counts)):
        raise InvalidArgument(
            "descent",
            "steps",
            required="whole numbers that increase from 0",
            received=f"{counts[:5]!r}{' …' if len(counts) > 5 else ''}",
            remedy="pass range(0, 1001, 10), for example",
        )
    return counts


def _samples(minibatches: Minibatches | None, num: int) -> Callable[[], torch.Tensor] | None:
    if minibatches is None:
        return None
    generator = torch.Generator().manual_seed(minibatches.seed)
    return lambda: torch.randint(num, (minibatches.size,), generator=generator)
