"""A simulated training as people and machines read it: what became of Theorem 1's invariant, and of the loss."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from joma.charts import Chart, Curve, Role
from joma.report.drawing.looks import spread
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_extended
from joma.report.solution import finite_curve, finite_or_none

if TYPE_CHECKING:
    from joma.records import Status
    from joma.simulate.conservation import Conservation

_ROWS = 12
_LOWEST = 1e-17
"""Where a logarithmic axis of relative drifts ends: below rounding."""


def simulation_record(found: Conservation, status: Status, settings: dict[str, Any]) -> dict[str, Any]:
    """Plain data that survives strict JSON; lists over time of lists over seeds."""
    closed = None if found.closed is None else finite_or_none(found.relative(found.closed).tolist())
    return {
        "settings": settings,
        "coherence": found.coherence.reshape(-1).tolist(),
        "law": found.law,
        found.clock: found.times.tolist(),
        "loss": finite_or_none(found.loss.tolist()),
        "motion": finite_or_none(found.moved.tolist()),
        "drift": finite_or_none(found.drift.tolist()),
        "relative_drift": finite_or_none(found.relative(found.drift).tolist()),
        "relative_drift_of_the_exact_identity": closed,
        "status": asdict(status),
    }


def simulation_table(found: Conservation) -> Table:
    """Some of the snapshots, first and last included; the worst token and seed of each."""
    seeds = found.loss.shape[-1]
    over = "over tokens" if seeds == 1 else f"over tokens and {seeds} seeds; the loss is their mean"
    names = [found.clock, "loss", f"{_side(found)} moved\nby", "law drifted\nby", "relative to\nall motion"]
    drifts = (found.moved, found.drift, found.relative(found.drift))
    columns = [found.loss.mean(-1), *(part.amax(-1) for part in drifts)]
    if found.closed is not None:
        names.append("the exact\nidentity")
        columns.append(found.relative(found.closed).amax(-1))
    table = table_of(names, caption=f"law: {found.law} = const; largest {over}")
    for index in spread(len(found.times), _ROWS):
        cells = [format_extended(float(column[index])) for column in columns]
        table.add_row(f"{float(found.times[index]):.6g}", *cells)
    return table


def simulation_summary(found: Conservation) -> str:
    """How far what should be constant drifted, in a sentence."""
    drift, moved = (float(part[-1].max()) for part in (found.relative(found.drift), found.moved))
    end = f"{found.clock} {float(found.times[-1]):g}"
    return (
        f"At {end}, {_side(found)} has moved by {format_extended(moved)} at most, and {found.law}, which should be "
        f"constant, has drifted by {format_extended(drift)} of the largest motion"
    )


def simulation_charts(found: Conservation) -> tuple[Chart, Chart]:
    """The logits as simulated and as the law expects them of the weights, and the drift of the law."""
    return _logits_chart(found), _drift_chart(found)


def _logits_chart(found: Conservation) -> Chart:
    """Tokens of the first seed: the one that moved most upwards, the middle one, the one that moved most downwards."""
    seen, expected = found.motion[:, 0], (found.motion - found.residual)[:, 0]
    order = seen[-1].argsort(descending=True).tolist()
    tokens = list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))
    curves = []
    for token in tokens:
        name = f"token {token}"
        curves.append(finite_curve(f"{name}, simulated", found.times, seen[:, token], "measured", name))
        curves.append(finite_curve(f"{name}, from its weights", found.times, expected[:, token], "predicted", name))
    return Chart(
        "logits",
        "Attention logits, simulated and expected from the weights",
        f"Three tokens of the first seed. Where {found.law} is constant the lines of a token coincide.",
        found.clock,
        f"change of {_side(found)} since the start, summed over queries",
        tuple(curves),
    )


def _drift_chart(found: Conservation) -> Chart:
    lines: list[tuple[str, torch.Tensor, Role]] = [(found.law, found.drift, "measured")]
    if found.closed is not None:
        lines.append((found.identity, found.closed, "control"))
    return Chart(
        "drift",
        "Drift of what should stay constant",
        "Largest over tokens, relative to the largest motion of the whole run; mean over seeds, with the range.",
        found.clock,
        "largest drift / largest motion",
        tuple(_band(name, found.times, found.relative(drift), role) for name, drift, role in lines),
        y_scale="log",
    )


def _side(found: Conservation) -> str:
    """The attention's side of the law."""
    return found.law.split(" ")[0]


def _band(name: str, times: torch.Tensor, values: torch.Tensor, role: Role) -> Curve:
    there = values.isfinite().all(-1) & (times > times[0])
    shown = values[there].clamp_min(_LOWEST)
    edges = [part.tolist() for part in (shown.mean(-1), shown.amin(-1), shown.amax(-1))] if len(shown) else [[], [], []]
    return Curve(name, times[there].tolist(), *edges, role=role)
