"""Claim theorem1.several_queries: queries that share the MLP have one common invariant."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from joma.charts import Chart, Curve
from joma.claims.theorem1 import N_QUERIES
from joma.claims.theorem1.flow import (
    N_CONTEXT,
    N_HIDDEN,
    N_SAMPLES,
    SOLVER,
    TIMES,
    kept,
    model_of,
    on_log_axis,
    relative_drift,
    run,
)
from joma.claims.workspace import Workspace
from joma.problem.attention import AttentionKind
from joma.problem.one_layer import OneLayer, Parameters
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.flow import flow
from joma.simulate.trajectory import Trajectory
from joma.theory.invariants import invariant_residual

KINDS: tuple[AttentionKind, ...] = ("linear", "exp")
CRITERION = Criterion(
    "largest drift of the invariant, relative to the motion of the logits",
    "<=",
    1e-7,
    "the solver's tolerance is 1e-10 a step and some hundred steps are taken; an approximate invariant exceeds this",
)


def several_queries(workspace: Workspace) -> Agreement:
    """Measure the drift of Σₘ z⁽ᵐ⁾ − Σ v²/2 (exp) and of Σₘ (z⁽ᵐ⁾)² − Σ v² (linear)."""
    seeds = list(workspace.seeds(3))
    summed: dict[str, torch.Tensor] = {}
    alone: dict[str, torch.Tensor] = {}
    own: dict[str, torch.Tensor] = {}
    for done, kind in enumerate(KINDS):
        workspace.progress(f"gradient flow, {kind} attention", done, len(KINDS))
        shared = run(model_of(kind, "tanh", seeds, N_QUERIES), seeds)
        summed[kind] = relative_drift(shared)
        alone[kind] = _query_drift(shared, shared.token_weights, 0)
        divided = _flow_of_divided_units(kind, seeds)
        drifts = [
            _query_drift(divided, divided.token_weights[..., query::N_QUERIES], query) for query in range(N_QUERIES)
        ]
        own[kind] = torch.stack(drifts).amax(0)
    workspace.progress("gradient flow", len(KINDS), len(KINDS))
    measured, separate = _worst(summed), _worst(own)
    alone_by_kind = tuple(
        Control(f"one query of {N_QUERIES} by itself, {kind}", Estimate.of(alone[kind].amax(0), "", "lognormal"))
        for kind in KINDS
    )
    return Agreement(
        criterion=CRITERION,
        measured=measured,
        controls=alone_by_kind,
        conclusion=_conclusion(measured, separate, [control.estimate for control in alone_by_kind]),
        findings=(
            Finding(
                "drift query by query, each hidden unit trained by one query",
                separate,
                "with the units of that query only",
            ),
        ),
        charts=(
            Chart(
                "drift",
                f"Drift of the invariant with {N_QUERIES} queries",
                "Summed over queries the drift is the solver's tolerance; that of a single query is much larger.",
                "time",
                "largest drift / largest motion",
                tuple(
                    Curve(f"{kind}, {label}", TIMES[1:].tolist(), on_log_axis(drift[kind]), role=role, group=kind)
                    for drift, label, role in (
                        (summed, "summed over queries", "measured"),
                        (alone, "one query by itself", "control"),
                    )
                    for kind in KINDS
                ),
                x_scale="log",
                y_scale="log",
            ),
        ),
        notes=(f"{N_CONTEXT} tokens, {N_HIDDEN} hidden units, {N_SAMPLES} samples per query and seed.",),
    )


def _flow_of_divided_units(kind: AttentionKind, seeds: list[int]) -> Trajectory:
    """A flow in which hidden unit k has a constant random gradient in samples of query k mod Q and none elsewhere."""
    shape = (N_QUERIES, N_SAMPLES, N_HIDDEN)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double() for seed in seeds]
    owner = torch.arange(N_HIDDEN) % N_QUERIES
    mine = (owner == torch.arange(N_QUERIES).unsqueeze(-1)).unsqueeze(-2)  # (Q, 1, K)
    base = model_of(kind, "tanh", seeds, N_QUERIES)
    model = OneLayer(
        base.context,
        torch.stack(drawn) * mine,
        base.context_embedding,
        base.query_embedding,
        attention=kind,
        activation="tanh",
        loss="constant_gradient",
    )
    width = base.context_embedding.shape[-2]
    weights = [0.3 * torch.randn(width, N_HIDDEN, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    logits = torch.ones(len(seeds), N_QUERIES, N_CONTEXT).double()
    return flow(model, Parameters(torch.stack(weights).double(), logits), TIMES / 10, solver=SOLVER).complete()


def _conclusion(measured: Estimate, separate: Estimate, alone: Sequence[Estimate]) -> str:
    return (
        f"Summed over the queries that share the MLP, the invariant {kept(measured)} of the logits' motion; that of a "
        f"single query changes by {min(min(drift.values) for drift in alone):.0%} or more. If every hidden unit is "
        f"trained by one query only, the invariant of each query with its own units {kept(separate)}."
    )


def _query_drift(trajectory: Trajectory, token_weights: torch.Tensor, query: int) -> torch.Tensor:
    """The drift of one query's invariant relative to the motion of its own logits, (T, P)."""
    logits = trajectory.attention_logits[..., query, :]
    residual = invariant_residual(token_weights, logits, trajectory.attention)
    motion = invariant_residual(torch.zeros_like(token_weights), logits, trajectory.attention)
    return residual.abs().amax(-1) / motion.abs().amax((0, -1))


def _worst(drifts: dict[str, torch.Tensor]) -> Estimate:
    return Estimate.of(torch.stack([drift.amax(0) for drift in drifts.values()]).amax(0), "", "lognormal")
