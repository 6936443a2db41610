"""Claims theorem1.linear and theorem1.exp: the invariants along a gradient flow, for several activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float

from joma.arrays import REAL
from joma.charts import Chart, Curve, Role
from joma.claims.workspace import Workspace
from joma.problem.attention import AttentionKind
from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, orthonormal_embeddings
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.flow import Adaptive, FixedStep, flow
from joma.simulate.trajectory import Trajectory
from joma.theory.invariants import expected_logits

N_CONTEXT, N_CLASSES, N_HIDDEN, N_SAMPLES, LENGTH = 12, 4, 8, 32, 8
TIMES = torch.cat([torch.zeros(1, dtype=REAL), torch.logspace(-1, 1.6, 27, dtype=REAL)])
SMOOTH = ("identity", "tanh", "gelu", "softplus")
SOLVER = Adaptive(tolerance=1e-10)
KINK_STEPS = (0.2, 0.05)
CRITERION = Criterion(
    "largest drift of the invariant, relative to the motion of the logits",
    "<=",
    1e-7,
    "the solver's tolerance is 1e-10 a step, some hundred steps are taken, and the smallest motion is near 0.1: an "
    "exact invariant stays below 1e-7, an approximate one does not",
)


def linear(workspace: Workspace) -> Agreement:
    """Measure the drift of z² − Σ v² with linear attention."""
    return _agreement(workspace, "linear")


def exponential(workspace: Workspace) -> Agreement:
    """Measure the drift of z − Σ v²/2T with exponential attention."""
    return _agreement(workspace, "exp")


def model_of(attention: AttentionKind, activation: str, seeds: Sequence[int], n_queries: int = 1) -> OneLayer:
    """Build a small classifier per seed, with orthonormal embeddings and a trained upper layer."""
    law = gaussian_classes(N_CLASSES, N_CONTEXT, width=2.0)
    return OneLayer(
        *classification_data(law, N_SAMPLES, LENGTH, seeds, n_queries),
        *orthonormal_embeddings(N_CONTEXT, n_queries),
        attention=attention,
        activation=activation,
        trains_upper=True,
    )


def run(model: OneLayer, seeds: Sequence[int], solver: Adaptive | FixedStep = SOLVER) -> Trajectory:
    """Integrate the gradient flow from random weights and from logits of 1."""
    return flow(model, random_parameters(model, N_HIDDEN, seeds, scale=0.3, logit=1.0), TIMES, solver=solver).complete()


def relative_drift(trajectory: Trajectory) -> torch.Tensor:
    """Return the largest drift over tokens relative to the largest motion of the whole run, (T, P)."""
    return trajectory.residual.abs().amax(-1) / trajectory.motion.abs().amax((0, -1))


def unit_embeddings(n_context: int, seeds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw random unit vectors for tokens and a query in as many dimensions as vectors, far from orthogonal."""
    drawn = [torch.randn(n_context + 1, n_context + 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    unit = torch.nn.functional.normalize(torch.stack(drawn).to(REAL), dim=-2)
    return unit[..., :n_context], unit[..., n_context:]


@dataclass(frozen=True)
class _Flows:
    """Flows by smooth activation, by Runge–Kutta step with ReLU, and with coherent embeddings (tanh)."""

    smooth: dict[str, Trajectory]
    kinked: dict[float, Trajectory]
    skewed: Trajectory


def _simulate(workspace: Workspace, attention: AttentionKind) -> _Flows:
    seeds = list(workspace.seeds(3))
    total = len(SMOOTH) + len(KINK_STEPS) + 1
    smooth, kinked = {}, {}
    for done, activation in enumerate(SMOOTH):
        workspace.progress(f"gradient flow, {activation}", done, total)
        smooth[activation] = run(model_of(attention, activation, seeds), seeds)
    for done, step in enumerate(KINK_STEPS, start=len(SMOOTH)):
        workspace.progress(f"gradient flow, relu, step {step}", done, total)
        kinked[step] = run(model_of(attention, "relu", seeds), seeds, FixedStep(step))
    workspace.progress("gradient flow, embeddings not orthonormal", total - 1, total)
    tokens, query = unit_embeddings(N_CONTEXT, seeds)
    skewed = run(replace(model_of(attention, "tanh", seeds), context_embedding=tokens, query_embedding=query), seeds)
    workspace.progress("gradient flow", total, total)
    return _Flows(smooth, kinked, skewed)


def _agreement(workspace: Workspace, attention: AttentionKind) -> Agreement:
    flows = _simulate(workspace, attention)
    worst = torch.stack([relative_drift(trajectory).amax(0) for trajectory in flows.smooth.values()]).amax(0)
    measured, skewed, of_other = (
        Estimate.of(drifts, "", "lognormal")
        for drifts in (worst, relative_drift(flows.skewed).amax(0), _other_drift(flows.smooth["tanh"]))
    )
    other = "z − Σv²/2" if attention == "linear" else "z² − Σv²"
    return Agreement(
        criterion=CRITERION,
        measured=measured,
        controls=(
            Control("embeddings not orthonormal (random unit vectors)", skewed),
            Control(f"the other kind's invariant, {other}", of_other),
        ),
        conclusion=_conclusion(measured, skewed, _in_words(flows.kinked)),
        findings=_findings(flows),
        charts=(_drift_chart(flows), _logits_chart(flows.smooth["tanh"])),
        notes=(f"{N_CONTEXT} tokens, {N_HIDDEN} hidden units, {N_CLASSES} classes, {N_SAMPLES} samples per seed.",),
    )


def _findings(flows: _Flows) -> tuple[Finding, ...]:
    motion = torch.stack([trajectory.motion.abs().amax((0, -1)) for trajectory in flows.smooth.values()]).amin(0)
    return (
        *(
            Finding(
                f"drift with {activation}",
                Estimate.of(relative_drift(seen).amax(0), "", "lognormal"),
                "relative to the logits' motion",
            )
            for activation, seen in flows.smooth.items()
        ),
        *(
            Finding(
                f"drift with relu, Runge–Kutta step {step:g}",
                Estimate.of(relative_drift(seen).amax(0), "", "lognormal"),
                "the error of the integrator where ReLU is not smooth",
            )
            for step, seen in flows.kinked.items()
        ),
        Finding(
            "change of the attention term", Estimate.of(motion, "", "lognormal"), "smallest over the smooth activations"
        ),
    )


def _conclusion(measured: Estimate, skewed: Estimate, with_relu: str) -> str:
    return (
        f"The invariant {kept(measured)} of the logits' motion, for four smooth activations with a trained upper layer "
        f"and a loss whose gradient is not constant. With ReLU, which is not smooth, it drifts by {with_relu}. "
        "With random unit vectors as embeddings, which are not orthonormal, it changes by "
        f"{skewed.mean:.0%}."
    )


def kept(drift: Estimate) -> str:
    """Describe the largest drift of an invariant in words, as a constant only if the criterion is met."""
    verb = "is constant to" if CRITERION.met_by(drift) else "drifts by up to"
    return f"{verb} {max(drift.values):.0e}"


def _in_words(kinked: dict[float, Trajectory]) -> str:
    drifts = {step: float(relative_drift(seen).amax()) for step, seen in kinked.items()}
    return " and ".join(f"{drift:.0e} with integrator steps of {step:g}" for step, drift in drifts.items())


def _other_drift(trajectory: Trajectory) -> torch.Tensor:
    """The drift of the other kind's invariant, which need not be constant, relative to its own motion."""
    other: AttentionKind = "exp" if trajectory.attention == "linear" else "linear"
    return relative_drift(replace(trajectory, attention=other)).amax(0)


def _drift_chart(flows: _Flows) -> Chart:
    finest = KINK_STEPS[-1]
    lines: list[tuple[str, Trajectory, Role]] = [(name, seen, "measured") for name, seen in flows.smooth.items()]
    lines.append((f"relu, step {finest:g}", flows.kinked[finest], "context"))
    lines.append(("embeddings not orthonormal", flows.skewed, "control"))
    return Chart(
        "drift",
        "Drift of Theorem 1's invariant along a gradient flow",
        "For smooth activations the drift is the solver's tolerance; for embeddings that are not orthonormal it is "
        "much larger. Largest over seeds.",
        "time",
        "largest drift / largest motion",
        tuple(
            Curve(name, TIMES[1:].tolist(), on_log_axis(relative_drift(seen)), role=role) for name, seen, role in lines
        ),
        x_scale="log",
        y_scale="log",
    )


def on_log_axis(drift: Float[torch.Tensor, "T P"]) -> list[float]:
    """Return the largest value over seeds at each time after the start, positive for a logarithmic axis."""
    return drift.amax(-1)[1:].clamp_min(1e-17).tolist()


def _logits_chart(trajectory: Trajectory) -> Chart:
    """Logits of the first seed and their prediction from the weights, for the smallest, median and largest logit."""
    weights, logits = trajectory.token_weights[:, 0], trajectory.attention_logits[:, 0, 0]
    expected = expected_logits(weights, trajectory.attention, start=(weights[0], logits[0]))
    order, times = logits[-1].argsort(), trajectory.times[1:].tolist()
    curves = []
    for token in order[[0, len(order) // 2, -1]].tolist():
        name, group, values = f"token {token}, from its weights", f"{token}", expected[1:, token].tolist()
        curves.append(Curve(f"token {token}, simulated", times, logits[1:, token].tolist(), group=group))
        curves.append(Curve(name, times, values, role="predicted", group=group))
    return Chart(
        "logits",
        "Attention logits, simulated and predicted from the MLP weights",
        "Three tokens of the first seed (tanh): the logit and the prediction of Theorem 1 from the weights coincide.",
        "time",
        "attention logit",
        tuple(curves),
        x_scale="log",
    )
