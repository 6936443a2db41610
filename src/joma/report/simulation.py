"""A simulated training as people and machines read it: what became of Theorem 1's invariant, and of the loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from rich.table import Table

from joma.charts import Chart, Curve, Role
from joma.problem.one_layer import OneLayer, activity
from joma.report.drawing.words import format_extended
from joma.report.solution import finite_or_none
from joma.simulate.trajectory import Trajectory
from joma.theory.embeddings import coherence

_ROWS = 12
_LOWEST = 1e-17
"""Where a logarithmic axis of relative drifts ends: below rounding."""

_INVARIANTS = {"linear": "z² − Σv²", "exp": "z − Σv²/2T", "softmax": "z − Σ(v² − ‖v‖²b̄)/2T"}
_CLOSED = "z − Σv²/2T + recoil/T"


@dataclass(frozen=True, eq=False)
class Course:
    """What happened along a trajectory of P problems, at each time and in each of them.

    Args:
        clock: ``t`` along a flow, ``step`` along a descent.
        times: of the snapshots.
        loss: the mean loss over the samples.
        law: what should stay constant: Theorem 1's invariant, or with softmax attention over several queries, of which
            Theorem 1 says nothing, the exact identity.
        motion: how far the attention's side of the law has moved, per token.
        residual: how far the law has drifted, per token.
        closed: how far the exact identity of softmax attention has drifted, largest over tokens; where there is one.
    """

    clock: str
    times: Float[torch.Tensor, " T"]
    loss: Float[torch.Tensor, "T P"]
    law: str
    motion: Float[torch.Tensor, "T P M"]
    residual: Float[torch.Tensor, "T P M"]
    closed: Float[torch.Tensor, "T P"] | None

    def relative(self, drift: Float[torch.Tensor, "T P"]) -> Float[torch.Tensor, "T P"]:
        """A drift relative to the largest motion of the whole run: 0 where nothing moved, NaN where that overflowed."""
        moved = self.motion.abs().amax((0, -1)).clamp_min(torch.finfo(drift.dtype).tiny)
        return torch.where(moved.isfinite(), drift / moved, torch.nan)

    @property
    def drift(self) -> Float[torch.Tensor, "T P"]:
        """The largest drift of the law over tokens."""
        return self.residual.abs().amax(-1)


def course_of(model: OneLayer, trajectory: Trajectory, clock: str) -> Course:
    """What happened along a trajectory of one leading axis of problems.

    Raises:
        InvalidArgument: softmax attention over several queries where the recoil was not integrated (descents other
            than plain ones): there is no law to hold it against.
    """
    several = trajectory.attention == "softmax" and model.context.shape[-3] > 1
    closed = trajectory.identities.closed if several or trajectory.recoil_integral is not None else None
    loss = [activity(model, trajectory.parameters(index)).loss for index in range(len(trajectory.times))]
    return Course(
        clock=clock,
        times=trajectory.times,
        loss=torch.stack(loss),
        law=_CLOSED if several else _INVARIANTS[trajectory.attention],
        motion=trajectory.motion,
        residual=closed if several and closed is not None else trajectory.residual,
        closed=None if several or closed is None else closed.abs().amax(-1),
    )


def simulation_record(
    model: OneLayer, trajectory: Trajectory, course: Course, settings: dict[str, Any]
) -> dict[str, Any]:
    """Plain data that survives strict JSON; lists over time of lists over seeds."""
    closed = None if course.closed is None else finite_or_none(course.relative(course.closed).tolist())
    return {
        "settings": settings,
        "coherence": torch.as_tensor(coherence(model.context_embedding)).reshape(-1).tolist(),
        "law": course.law,
        course.clock: course.times.tolist(),
        "loss": finite_or_none(course.loss.tolist()),
        "motion": finite_or_none(course.motion.abs().amax(-1).tolist()),
        "drift": finite_or_none(course.drift.tolist()),
        "relative_drift": finite_or_none(course.relative(course.drift).tolist()),
        "relative_drift_of_the_exact_identity": closed,
        "status": asdict(trajectory.status),
    }


def simulation_table(course: Course) -> Table:
    """Some of the snapshots, first and last included; the worst token and seed of each."""
    seeds = course.loss.shape[-1]
    over = "over tokens" if seeds == 1 else f"over tokens and {seeds} seeds; the loss is their mean"
    table = Table(title_justify="left", caption_justify="left", caption=f"law: {course.law} = const; largest {over}")
    moved = "z² moved" if course.law == _INVARIANTS["linear"] else "z moved"
    for name in (course.clock, "loss", f"{moved}\nby", "law drifted\nby", "relative to\nall motion"):
        table.add_column(name, justify="right", no_wrap=True)
    columns = [course.loss.mean(-1), *(part.amax(-1) for part in _drifts(course))]
    if course.closed is not None:
        table.add_column("the exact\nidentity", justify="right", no_wrap=True)
        columns.append(course.relative(course.closed).amax(-1))
    for index in torch.linspace(0, len(course.times) - 1, min(_ROWS, len(course.times))).round().int().tolist():
        cells = [format_extended(float(column[index])) for column in columns]
        table.add_row(f"{float(course.times[index]):.6g}", *cells)
    return table


def simulation_charts(course: Course) -> tuple[Chart, Chart]:
    """The logits as simulated and as the law expects them of the weights, and the drift of the law."""
    return _logits_chart(course), _drift_chart(course)


def _drifts(course: Course) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return course.motion.abs().amax(-1), course.drift, course.relative(course.drift)


def _logits_chart(course: Course) -> Chart:
    """Tokens of the first seed: the one that moved most upwards, the middle one, the one that moved most downwards."""
    seen, expected = course.motion[:, 0], (course.motion - course.residual)[:, 0]
    order = seen[-1].argsort(descending=True).tolist()
    tokens = list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))
    side = "z²" if course.law == _INVARIANTS["linear"] else "z"
    curves = []
    for token in tokens:
        name = f"token {token}"
        curves.append(_line(f"{name}, simulated", course.times, seen[:, token], "measured", name))
        curves.append(_line(f"{name}, from its weights", course.times, expected[:, token], "predicted", name))
    return Chart(
        "logits",
        "Attention logits, simulated and expected from the weights",
        f"Three tokens of the first seed. Where {course.law} is constant the lines of a token coincide.",
        course.clock,
        f"change of {side} since the start, summed over queries",
        tuple(curves),
    )


def _drift_chart(course: Course) -> Chart:
    lines: list[tuple[str, torch.Tensor, Role]] = [(course.law, course.drift, "measured")]
    if course.closed is not None:
        lines.append((_CLOSED, course.closed, "control"))
    return Chart(
        "drift",
        "Drift of what should stay constant",
        "Largest over tokens, relative to the largest motion of the whole run; mean over seeds, with the range.",
        course.clock,
        "largest drift / largest motion",
        tuple(_band(name, course.times, course.relative(drift), role) for name, drift, role in lines),
        y_scale="log",
    )


def _band(name: str, times: torch.Tensor, values: torch.Tensor, role: Role) -> Curve:
    there = values.isfinite().all(-1) & (times > times[0])
    shown = values[there].clamp_min(_LOWEST)
    edges = [part.tolist() for part in (shown.mean(-1), shown.amin(-1), shown.amax(-1))] if len(shown) else [[], [], []]
    return Curve(name, times[there].tolist(), *edges, role=role)


def _line(label: str, times: torch.Tensor, values: torch.Tensor, role: Role, group: str) -> Curve:
    there = values.isfinite()
    return Curve(label, times[there].tolist(), values[there].tolist(), role=role, group=group)
