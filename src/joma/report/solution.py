"""A solution of the dynamics as a terminal table, JSON and charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Curve, Mark, Role
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_extended, format_number

if TYPE_CHECKING:
    from joma.theory.dynamics import Dynamics, Solution

_OWN_COLOURS = 6


def solution_record(solution: Solution) -> dict[str, Any]:
    """Return a solution as plain data for strict JSON: infinite and undefined values are null, with a status."""
    dynamics = solution.dynamics
    record: dict[str, Any] = {
        "mu" if dynamics.symbol == "μ" else "delta": dynamics.rates.tolist(),
        "v0": dynamics.v0.tolist(),
        "gain": dynamics.gain,
        "attention": dynamics.attention,
        "t": solution.times.tolist(),
        "v": finite_or_none(solution.v.tolist()),
        "entropy_nats": finite_or_none(solution.entropy.tolist()),
        "verdict": dynamics.course,
        "status": asdict(solution.status),
    }
    if solution.sparsest is None:
        blow_ups = dynamics.blow_ups.tolist()
        return record | {
            "winners": dynamics.winners,
            "blow_up_times": finite_or_none(blow_ups) if dynamics.attention == "exp" else [None] * len(blow_ups),
        }
    found = solution.sparsest
    at_an_end = "at the start" if found.time == 0.0 else "only in the limit of late times"
    return record | {
        "sparsest": {
            "status": "reached" if found.is_inner else at_an_end,
            "t": None if math.isinf(found.time) else found.time,
            "entropy_nats": found.entropy,
            "v": found.v.tolist(),
        }
    }


def solution_table(solution: Solution, width: int) -> Table:
    """Return a table with one row per time, also the sparsest one, and as many components as fit into ``width``."""
    dynamics = solution.dynamics
    num = min(len(dynamics.rates), max(1, (width - 40) // 10))
    rest = len(dynamics.rates) - num
    more = f"and {rest} more component{'s' * (rest > 1)}: --json gives all"
    names = [Text(name.replace(", ", "\n")) for name in _names(dynamics)[:num]]
    table = table_of(("t", *names, "entropy\nin nats"), caption=more if rest else None)
    for time, v, entropy, is_sparsest in _rows(solution):
        cells = [f"{time:.6g}", *map(format_extended, (*v[:num], entropy))]
        table.add_row(*cells, *["sparsest"][:is_sparsest], style="bold" if is_sparsest else None)
    return table


def conclusion(solution: Solution) -> str:
    """Return the result in words: when attention is sparsest, or which component wins and when the dynamics end."""
    dynamics = solution.dynamics
    if solution.sparsest is not None:
        time, entropy, _ = solution.sparsest
        nats, course = f"{format_number(entropy)} nats", dynamics.course
        if course == "constant":
            return f"Attention entropy stays at {nats}."
        if course == "only gets sparser":
            return f"Attention gets sparser forever: its entropy tends to {nats}."
        late = "in the limit of late times" if math.isinf(time) else f"at t = {time:.6g}"
        sparsest = f"Attention is sparsest {late if time else 'at the start'}: {nats}"
        if course == "sparse, then dense":
            return f"{sparsest}; then it gets denser again."
        return f"{sparsest}; it {_in_words(course)}."
    if not dynamics.winners:
        return "Nothing moves: every Δ is 0."
    first = float(dynamics.blow_ups.min())
    names = " and ".join(f"v[{index}]" for index in dynamics.winners)
    take = "takes" if len(dynamics.winners) == 1 else "take"
    takes = f"Attention {_in_words(dynamics.course)}; {names} {take} all attention in the end"
    if dynamics.attention == "softmax":
        return f"{takes}, without becoming infinite; with exp attention it becomes infinite at t = {first:.6g}."
    ends = ", ".join(
        f"v[{index}] at t = {time:.6g}" for index, time in enumerate(dynamics.blow_ups.tolist()) if time < math.inf
    )
    past = "" if solution.status.ok else " After the first one these dynamics do not exist."
    return f"{takes}. Blow-ups: {ends}.{past}"


def _in_words(course: str) -> str:
    """A course of attention as what follows the word attention: ``gets sparser, then denser``."""
    if course == "constant":
        return "never changes"
    return course if course.startswith("only") else "gets " + course.replace("e,", "er,") + "r"


def solution_charts(solution: Solution) -> tuple[Chart, Chart]:
    """Return charts of v(t) and of the entropy, from the exact solution between the first and the last time."""
    dynamics = solution.dynamics
    fine = solution.fine()
    marks = _marks(solution, float(fine.times[-1]))
    kind = "softmax attention" if dynamics.attention == "softmax" else "attention exp(αv²)"
    title = f"{'Nonlinear' if dynamics.symbol == 'μ' else 'Linear'} MLP, {kind}, α = {dynamics.gain:.4g}"
    return (
        Chart("v", title, "Each component of v over time.", "t", "v(t)", _components(fine), marks),
        Chart(
            "entropy",
            "Attention entropy",
            conclusion(solution),
            "t",
            "entropy of softmax(αv²), nats",
            (finite_curve("entropy", fine.times, fine.entropy),),
            marks,
        ),
    )


def _rows(solution: Solution) -> list[tuple[float, list[float], float, bool]]:
    parts = (solution.times.tolist(), solution.v.tolist(), solution.entropy.tolist())
    rows = [(time, v, entropy, False) for time, v, entropy in zip(*parts, strict=True)]
    if solution.sparsest is not None and not math.isinf(solution.sparsest.time):
        time, entropy, v = solution.sparsest
        rows = [row for row in rows if row[0] != time] + [(time, v.tolist(), entropy, True)]
    return sorted(rows, key=lambda row: row[0])


def finite_curve(label: str, x: torch.Tensor, y: torch.Tensor, role: Role = "measured", group: str = "") -> Curve:
    """Return a curve without the points that are not finite."""
    finite = y.isfinite()
    return Curve(label, x[finite].tolist(), y[finite].tolist(), role=role, group=group)


def _components(solution: Solution) -> tuple[Curve, ...]:
    """One curve per component while colours suffice; components with smaller rates are drawn as one band."""
    dynamics, times, v = solution.dynamics, solution.times, solution.v
    order = dynamics.rates.abs().argsort(descending=True, stable=True).tolist()
    own = order if len(order) <= _OWN_COLOURS else order[: _OWN_COLOURS - 1]
    names = _names(dynamics)
    curves = [finite_curve(names[index], times, v[:, index]) for index in sorted(own)]
    rest = v[:, order[len(own) :]]
    if rest.shape[-1]:
        finite = rest.isfinite().all(-1)
        parts = (rest.median(-1).values, rest.amin(-1), rest.amax(-1))
        middle, low, high = (part[finite].tolist() for part in parts)
        name = f"{rest.shape[-1]} others: median, range"
        curves.append(Curve(name, times[finite].tolist(), middle, low, high, role="context"))
    return tuple(curves)


def _marks(solution: Solution, end: float) -> tuple[Mark, ...]:
    if solution.sparsest is not None:
        time = solution.sparsest.time
        is_seen = solution.sparsest.is_inner and time <= end
        return (Mark("x", time, f"sparsest, t = {time:.4g}"),) if is_seen else ()
    if solution.dynamics.attention == "softmax" or not solution.dynamics.winners:
        return ()
    first, winner = float(solution.dynamics.blow_ups.min()), solution.dynamics.winners[0]
    return (Mark("x", first, f"v[{winner}] infinite, t = {first:.4g}"),) if first <= end else ()


def _names(dynamics: Dynamics) -> list[str]:
    return [f"v[{index}], {dynamics.symbol} = {rate:.4g}" for index, rate in enumerate(dynamics.rates.tolist())]


def finite_or_none(values: Sequence[Any]) -> list[Any]:
    """Replace NaN and infinity in nested lists by ``None``, because JSON does not have them."""
    return [finite_or_none(v) if isinstance(v, list) else v if math.isfinite(v) else None for v in values]
