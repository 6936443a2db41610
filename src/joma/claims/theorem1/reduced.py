"""Claim reduced_equals_full: the MLP trained alone, with the logits of Theorem 1, against the whole model."""

from __future__ import annotations

import torch

from joma.charts import Chart, Curve
from joma.claims.theorem1.flow import N_CONTEXT, N_HIDDEN, SOLVER, TIMES, model_of, on_log_axis
from joma.claims.workspace import Workspace
from joma.problem.attention import ATTENTION_KINDS, AttentionKind
from joma.problem.classes import random_parameters
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.flow import flow

CRITERION = Criterion(
    "largest distance between the two flows, relative to the motion of the weights",
    "<=",
    1e-7,
    "both are integrated at 1e-10 a step for some hundred steps",
)


def reduced_equals_full(workspace: Workspace) -> Agreement:
    """Compare the flow of V alone with that of (W, z)."""
    seeds = list(workspace.seeds(3))
    distances: dict[AttentionKind, torch.Tensor] = {}
    for done, kind in enumerate(ATTENTION_KINDS):
        workspace.progress(f"gradient flow, {kind} attention", done, len(ATTENTION_KINDS))
        distances[kind] = _distance(kind, seeds)
    workspace.progress("gradient flow", len(ATTENTION_KINDS), len(ATTENTION_KINDS))
    exact = torch.maximum(distances["linear"], distances["exp"]).amax(0)
    largest = {kind: Estimate.of(values.amax(0), "", "lognormal") for kind, values in distances.items()}
    return Agreement(
        criterion=CRITERION,
        measured=Estimate.of(exact, "", "lognormal"),
        controls=(Control("softmax attention, b̄ held at its start", largest["softmax"]),),
        conclusion="With linear and exponential attention, training the logits and computing them from the weights "
        f"give weights that differ by at most {exact.max():.0e} of their motion. With softmax attention, for which the "
        f"formula is an approximation, they differ by {float(distances['softmax'].amax(0).mean()):.1%}.",
        findings=tuple(Finding(f"{kind} attention", value, "distance / motion") for kind, value in largest.items()),
        charts=(
            Chart(
                "distance",
                "Reduced against full dynamics",
                "The two flows coincide for linear and exp attention, and differ for softmax.",
                "time",
                "largest distance / largest motion of a weight",
                tuple(
                    Curve(
                        f"{kind} attention",
                        TIMES[1:].tolist(),
                        on_log_axis(values),
                        role="control" if kind == "softmax" else "measured",
                        group=kind,
                    )
                    for kind, values in distances.items()
                ),
                x_scale="log",
                y_scale="log",
            ),
        ),
        notes=(f"{N_CONTEXT} tokens, {N_HIDDEN} hidden units; logits start at 1.5, so that z² > Σ v² (linear).",),
    )


def _distance(kind: AttentionKind, seeds: list[int]) -> torch.Tensor:
    """The largest distance between the weights of both flows, relative to their largest motion, (T, P)."""
    model = model_of(kind, "tanh", seeds)
    start = random_parameters(model, N_HIDDEN, seeds, scale=0.2, logit=1.5)
    full, reduced = (
        flow(model, start, TIMES, reduced=is_reduced, solver=SOLVER).complete() for is_reduced in (False, True)
    )
    motion = (full.weights - full.weights[:1]).abs().amax((0, -2, -1))
    return (full.weights - reduced.weights).abs().amax((-2, -1)) / motion
