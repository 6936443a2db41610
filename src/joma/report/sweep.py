"""Pictures and tables of a sweep: small curves by depth and learning rate, charts, and loss against movement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from joma.charts import Chart
from joma.measure.curves.points import BEYOND, FEWEST_PROBES, LOSS, RANK, Point
from joma.measure.curves.quantities import ENTROPY
from joma.metrics import METRICS
from joma.records import Estimate
from joma.report.drawing.looks import spread
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import capitalized, format_estimate, format_number
from joma.tidy import early_and_even

if TYPE_CHECKING:
    from joma.measure.curves.course import Course

_WORDS = {"learning_rate": "learning rate", "num_layers": "layers", "vocabulary_size": "words", "num_steps": "steps"}
_MOST_CURVES, _MOST_STEPS = 12, 48
_WIDTH, _HEIGHT = 100.0, 50.0

MOVEMENTS = {
    "entropy_fall": "fall of attention entropy",
    "entropy_rise": "rise of attention entropy after it",
    "rank_fall": "fall of stable rank",
    "rank_rise": "rise of stable rank after it",
}
"""Columns of the tables, in words; entropy in nats, rank as a share of its first value."""


@dataclass(frozen=True)
class Line:
    """A curve in a panel.

    Args:
        points: of an SVG polyline in a box of 100 by 50.
        band: of an SVG polygon, one standard deviation over seeds; empty for one seed.
        shade: from 0 for the first layer to 100 for the last.
        words: what it shows, with its first, lowest and last value.
    """

    points: str
    band: str
    shade: int
    words: str


@dataclass(frozen=True)
class Panel:
    """The curves of one point.

    Args:
        lines: one for each layer.
        words: of the point, and what failed there.
        is_failed: whether all its runs failed.
    """

    lines: tuple[Line, ...]
    words: str
    is_failed: bool


@dataclass(frozen=True)
class Panels:
    """Small curves of one metric on one scale: rows by depth and other settings, columns by learning rate.

    Args:
        title, caption: of the figure.
        columns: names of the columns.
        rows: panels by name of the row, ``None`` where the sweep has no point.
        has_layers: whether there is one line for each layer.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[Panel | None]]
    has_layers: bool


@dataclass(frozen=True)
class Dot:
    """A run in a scatter: its place from 0 to 100 on both axes (downwards), shade, and what it is."""

    x: float
    y: float
    shade: int
    words: str


@dataclass(frozen=True)
class Scatter:
    """Held-out loss of the runs against a movement.

    Args:
        title: of the movement.
        unit: of the movement.
        x_ends, y_ends: lowest and highest value of each axis, in words.
        dots: the runs.
        shades: from what to what the shades of the dots go; empty if all have one.
    """

    title: str
    unit: str
    x_ends: tuple[str, str]
    y_ends: tuple[str, str]
    dots: tuple[Dot, ...]
    shades: str


def point_words(settings: Mapping[str, Any]) -> str:
    """Return the settings of a point in words."""
    return ", ".join(f"{_WORDS.get(name, name.replace('_', ' '))} {_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _varied(points: Sequence[Point]) -> list[str]:
    """The settings that differ between points; the learning rate if none does."""
    names = list(points[0].settings) if points else []
    return [name for name in names if len({str(point.settings[name]) for point in points}) > 1] or names[:1]


def sweep_table(points: Sequence[Point]) -> Table:
    """Return a row for each point, with means over its finished runs, for a terminal."""
    heads, names = point_heads(points)
    table = table_of((*heads, "runs", "held-out loss", *MOVEMENTS.values()), fold=True)
    for cells in point_rows(points, names):
        table.add_row(*map(Text, cells))
    return table


def point_heads(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """Return the settings that differ between points, in words and by name."""
    names = _varied(points)
    return [_WORDS.get(name, name.replace("_", " ")) for name in names], names


def point_rows(points: Sequence[Point], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return settings, number of runs, loss and movements of each point, in words."""
    rows = []
    for point in points:
        moved = list(point.movements().values())
        num = f"{len(point.runs)}"
        if point.runs and not point.is_finished:
            num += " unfinished" if point.loss is None else f" until step {point.loss.steps[-1]:,}"
        num += f", {point.num_left_out} unfinished" if point.num_left_out else ""
        num += f", {len(point.failed)} failed" if point.failed else ""
        numbers = (_mean_and_spread([run[name] for run in moved if name in run]) for name in (LOSS, *MOVEMENTS))
        rows.append((*(_value(point.settings[name]) for name in names), num, *numbers))
    return rows


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return format_estimate(Estimate(tuple(values)))


def sweep_summary(points: Sequence[Point], record: Mapping[str, Any]) -> str:
    """Return how many runs ended how, and the point with the lowest loss, in a sentence."""
    statuses = [run["status"] for run in record["runs"]]
    said = [f"{statuses.count('finished')} of {len(statuses)} runs finished"]
    said += [f"{num} {name}" for name in ("failed", "unfinished") if (num := statuses.count(name))]
    ended = [(place, point.loss) for place, point in enumerate(points) if point.is_finished and point.loss is not None]
    losses = [(float(loss.mean[-1]), place) for place, loss in ended]
    if losses:
        loss, place = min(losses)
        best = point_words({name: points[place].settings[name] for name in _varied(points)})
        said.append(f"the lowest held-out loss, {format_number(loss)} nats, is at {best}")
    return f"{record['recipe']} ({record['profile']}): {'; '.join(said)}"


def sweep_charts(points: Sequence[Point], leading: str) -> list[Chart]:
    """Return the leading metric, the other one, and the loss over the steps, with one curve for each point."""
    metrics = [leading, *(metric for metric in (ENTROPY, RANK) if metric != leading), LOSS]
    return [chart for metric in metrics for chart in _chart(points, metric)]


def _chart(points: Sequence[Point], metric: str) -> list[Chart]:
    names = _varied(points)
    courses = {point_words({name: point.settings[name] for name in names}): _course(point, metric) for point in points}
    known = {name: course for name, course in courses.items() if course is not None and len(course.steps) > 1}
    shown = [list(known)[at] for at in spread(len(known), _MOST_CURVES)]
    if not shown:
        return []
    left_out = f" {len(shown)} of {len(known)} points are drawn." if len(shown) < len(known) else ""
    means = "" if metric == LOSS else "Means over layers and heads. "
    caption = f"{means}Bands: one standard deviation over seeds.{left_out}"
    title = f"{capitalized(METRICS[metric].axis)}, over the steps"
    curves = tuple(known[name].curve(name) for name in shown)
    return [Chart(metric, title, caption, "optimiser steps", METRICS[metric].axis, curves)]


def _course(point: Point, metric: str) -> Course | None:
    return point.loss if metric == LOSS else point.mean_over_layers(metric)


def panels(points: Sequence[Point], metric: str) -> Panels | None:
    """Return the small curves of a metric, with one line for each layer; ``None`` if nothing was measured."""
    courses = [_lines_of(point, metric) for point in points]
    ends = [end for of_point in courses for course in of_point.values() for end in _ends(course)]
    if not ends:
        return None
    low, high, over = (0.0 if metric == RANK else min(ends)), max(ends), ""
    if metric == LOSS and (first := max(float(of_point[None].mean[0]) for of_point in courses if of_point)) < high:
        high, over = first, " Losses above those at the start are drawn at the top."
    last = max(course.steps[-1] for of_point in courses for course in of_point.values())
    rates = sorted({point.settings["learning_rate"] for point in points})
    names = [name for name in _varied(points) if name != "learning_rate"] or ["num_layers"]
    rows: dict[str, list[Panel | None]] = {}
    for point, of_point in zip(points, courses, strict=True):
        row = rows.setdefault(point_words({name: point.settings[name] for name in names}), [None] * len(rates))
        row[rates.index(point.settings["learning_rate"])] = _panel(point, of_point, (low, high), last)
    axis = METRICS[metric].axis
    caption = (
        f"From {format_number(low)} at the bottom to {format_number(high)} at the top in every box; steps from 0 to "
        f"{last:,}, spread out at the start, from left to right. Means over seeds; bands: one standard deviation.{over}"
    )
    columns = tuple(f"learning rate {rate:g}" for rate in rates)
    return Panels(f"{capitalized(axis)}, over training", caption, columns, rows, metric != LOSS)


def _lines_of(point: Point, metric: str) -> Mapping[int | None, Course]:
    if metric == LOSS:
        return {} if point.loss is None else {None: point.loss}
    return dict(point.layers(metric))


def _ends(course: Course) -> tuple[float, float]:
    return float(course.mean.min()), float(course.mean.max())


def _panel(point: Point, courses: Mapping[int | None, Course], ends: tuple[float, float], last_step: int) -> Panel:
    low, high = ends

    def place(step: float, value: float) -> str:
        x = _WIDTH * math.log1p(step * 50 / last_step) / math.log1p(50) if last_step else 0.0
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{x:.1f},{(_HEIGHT - 1) * (1 - min(max(share, 0.0), 1.0)) + 0.5:.1f}"

    lines = []
    for number, (layer, course) in enumerate(courses.items()):
        curve = course.curve("")
        kept = [int(at) for at in early_and_even(len(curve.x), _MOST_STEPS)]
        band = ""
        if curve.low is not None and curve.high is not None:
            edges = [*((at, curve.low) for at in kept), *((at, curve.high) for at in reversed(kept))]
            band = " ".join(place(curve.x[at], edge[at]) for at, edge in edges)
        mean = course.mean
        what = "" if layer is None else f"layer {layer}: "
        values = f"first {mean[0]:.3g}, lowest {mean.min():.3g} at step {course.steps[int(mean.argmin())]:,}"
        shade = round(100 * number / max(1, len(courses) - 1))
        points = " ".join(place(curve.x[at], curve.y[at]) for at in kept)
        lines.append(Line(points, band, shade, f"{what}{values}, last {mean[-1]:.3g}"))
    failed = f"; {len(point.failed)} failed" if point.failed else ""
    return Panel(tuple(lines), f"{point_words(point.settings)}{failed}", not point.runs)


def scatters(points: Sequence[Point], leading: str) -> list[Scatter]:
    """Return the last held-out loss of each run against how far attention entropy fell, and rose again.

    If stable rank is the leading metric, the loss against its fall and rise comes first.
    """
    kinds = [("rank", "share")] * (leading == RANK) + [("entropy", "nats")]
    runs = [(point, run, found) for point in points for run, found in point.movements().items() if LOSS in found]
    return [
        scatter
        for kind, unit in kinds
        for name in (f"{kind}_fall", f"{kind}_rise")
        if (scatter := _scatter(name, unit, [entry for entry in runs if name in entry[2]])) is not None
    ]


def _scatter(name: str, unit: str, runs: Sequence[tuple[Point, str, dict[str, float]]]) -> Scatter | None:
    if len(runs) < 2:
        return None
    xs, ys = ([found[key] for _, _, found in runs] for key in (name, LOSS))
    shaded_by, shades = _shaded([point for point, _, _ in runs])
    dots = tuple(
        Dot(
            _percent(x, xs),
            100 - _percent(y, ys),
            shade,
            f"{run}: {format_number(x)} {unit}, held-out loss {format_number(y)} nats",
        )
        for (_, run, _), x, y, shade in zip(runs, xs, ys, shades, strict=True)
    )
    ends = [(format_number(min(values), 3), format_number(max(values), 3)) for values in (xs, ys)]
    return Scatter(MOVEMENTS[name], unit, ends[0], ends[1], dots, shaded_by)


def _shaded(points: Sequence[Point]) -> tuple[str, list[int]]:
    """Return which numbers the shades of some points show, in words, and the shades: of learning rates if these differ,
    otherwise of the first number that does; of nothing if none does."""
    for name in sorted(_varied(points), key=lambda name: name != "learning_rate"):
        of_points = [point.settings[name] for point in points]
        values = sorted({value for value in of_points if isinstance(value, int | float | np.number)})
        if len(values) > 1 and len({*of_points}) == len(values):
            shades = [round(100 * values.index(value) / (len(values) - 1)) for value in of_points]
            return f"{point_words({name: values[0]})} to {_value(values[-1])}", shades
    return "", [0] * len(points)


def _percent(value: float, among: Sequence[float]) -> float:
    low, high = min(among), max(among)
    return round(100 * (value - low) / (high - low), 1) if high > low else 50.0


def left_out_note(points: Sequence[Point]) -> str:
    """Return the points for which no fall and rise can be read, and those for some of whose runs; empty without any."""
    without = [point for point in points if point.runs and point.onset is None]
    some = [point for point in points if point.onset is not None and len(point.learned) < len(point.runs)]
    said = []
    if without:
        where = "anywhere" if len(without) == len(points) else f"at {_listed(without, points)}"
        said.append(
            f"No fall and rise can be read {where}: the network predicts better than word frequencies too late, if at "
            f"all, to leave {FEWEST_PROBES} probes, or does not end {BEYOND:g} nats below them."
        )
    if some:
        said.append(
            f"Runs that do not end {BEYOND:g} nats below word frequencies are left out at {_listed(some, points)}."
        )
    return " ".join(said)


def _listed(chosen: Sequence[Point], among: Sequence[Point]) -> str:
    names = _varied(among)
    said = "; ".join(point_words({name: point.settings[name] for name in names}) for point in chosen[:6])
    return said + (f"; and {len(chosen) - 6} more" if len(chosen) > 6 else "")
