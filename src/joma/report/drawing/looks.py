"""The common style of all pictures: colours, strokes, axis ranges and positions of texts, for both renderers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from joma.charts import Chart, Curve, Mark, Role, Scale

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "series-1": "#1247de",
        "series-2": "#af3601",
        "series-3": "#0d9eb1",
        "series-4": "#74417b",
        "series-5": "#e0710a",
        "series-6": "#342c2f",
        "predicted": "#15181d",
        "context": "#8a919c",
        "paper": "#ffffff",
        "ink": "#15181d",
        "quiet": "#565e6b",
        "grid": "#e6e8ec",
        "edge": "#c3c8d0",
    }
)
"""Colours by name on white. The series colours maximise the smallest difference under the three colour-vision
deficiencies (test_looks measures it), with a contrast of at least 3 to the paper."""

DARK: Mapping[str, str] = MappingProxyType(
    {
        "series-1": "#4e87ee",
        "series-2": "#fc610c",
        "series-3": "#47ebb8",
        "series-4": "#c5889a",
        "series-5": "#f1c313",
        "series-6": "#b2b0fd",
        "predicted": "#eceff4",
        "context": "#747d8a",
        "paper": "#14171c",
        "ink": "#eceff4",
        "quiet": "#a4adba",
        "grid": "#262b33",
        "edge": "#414955",
    }
)
"""The same names on a dark page."""

_FEWEST_TICKS = 3
"""Of a logarithmic axis: two do not show that it is one."""

NUM_SERIES = sum(name.startswith("series-") for name in LIGHT)


@dataclass(frozen=True)
class Stroke:
    """The line of a role: its width in CSS pixels, and lengths of dash and gap in widths (none: solid)."""

    width: float
    dashes: tuple[float, ...] = ()


STROKES: Mapping[Role, Stroke] = MappingProxyType(
    {
        "measured": Stroke(2.0),
        "predicted": Stroke(1.8, (4.5, 2.5)),
        "control": Stroke(1.8, (1.2, 1.8)),
        "context": Stroke(1.2),
        "read": Stroke(1.4, (5.0, 3.0)),
    }
)
BAND_OPACITY = 0.16

MARK_COLUMNS = 44
"""The number of characters of a mark's text that fit above a plot on a phone."""


def group_colours(charts: Iterable[Chart]) -> dict[str, str]:
    """Return colour names by group, for all charts of one page."""
    groups = dict.fromkeys(curve.group for chart in charts for curve in chart.curves if _is_grouped(curve))
    return {group: _series(index) for index, group in enumerate(groups)}


def curve_colours(chart: Chart, groups: Mapping[str, str]) -> tuple[str, ...]:
    """Return the colour names of a chart's curves, in their order.

    A curve has the colour of its group. A curve without group has the next colour that no group uses in this chart; a
    prediction is drawn in ink instead, and context in grey. ``groups`` is from ``group_colours``.
    """
    taken = {groups[curve.group] for curve in chart.curves if _is_grouped(curve)}
    free = [_series(index) for index in range(NUM_SERIES) if _series(index) not in taken] or [_series(0)]
    colours, num_single = [], 0
    for curve in chart.curves:
        if _is_grouped(curve):
            colours.append(groups[curve.group])
        elif curve.role in ("context", "predicted"):
            colours.append(curve.role)
        else:
            colours.append(free[num_single % len(free)])
            num_single += 1
    return tuple(colours)


def _is_grouped(curve: Curve) -> bool:
    return bool(curve.group) and curve.role != "context"


def _series(index: int) -> str:
    return f"series-{index % NUM_SERIES + 1}"


@dataclass(frozen=True)
class Drawing:
    """A chart without the points that its axes cannot show, with the ranges of the axes.

    Args:
        chart: without points and marks at or below zero on a logarithmic axis.
        num_omitted: number of points and marks left out, which the caption reports.
        x_range, y_range: of the axes, in the units of the data.
    """

    chart: Chart
    num_omitted: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def has_whole_x(self) -> bool:
        """Whether only whole numbers mean something along x: steps, layers, levels."""
        return all(float(x).is_integer() for curve in self.chart.curves for x in curve.x)

    @property
    def omission(self) -> str:
        """A sentence on what is left out; empty if everything is shown."""
        if not self.num_omitted:
            return ""
        what = "1 point or mark" if self.num_omitted == 1 else f"{self.num_omitted} points or marks"
        return f"Not shown: {what} at or below zero, which a logarithmic axis cannot show."


def drawing(chart: Chart) -> Drawing:
    """Return the part of ``chart`` that can be drawn, with the ranges of its axes."""
    logarithmic = {"x": chart.x_scale == "log", "y": chart.y_scale == "log"}
    marks = tuple(mark for mark in chart.marks if mark.at > 0 or not logarithmic[mark.axis])
    curves = tuple(_positive_part(curve, logarithmic["x"], logarithmic["y"]) for curve in chart.curves)
    kept = replace(chart, curves=curves, marks=marks)
    num_omitted = _num_items(chart) - _num_items(kept)
    heights = [value for curve in curves for edge in (curve.y, curve.low, curve.high) for value in edge or ()]
    return Drawing(
        kept,
        num_omitted,
        axis_range([x for curve in curves for x in curve.x] + _places(marks, "x"), chart.x_scale, 0.02),
        axis_range(heights + _places(marks, "y"), chart.y_scale, 0.06),
    )


def axis_range(values: Sequence[float], scale: Scale, margin: float) -> tuple[float, float]:
    """Return the ends of an axis for ``values``, with a margin on either side as a share of its length."""
    if not values:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    low, high = (math.log10(end) if scale == "log" else end for end in (min(values), max(values)))
    pad = margin * (high - low)
    if not high - low > 1e-12 * max(abs(low), abs(high)):  # a single value
        pad = 0.5 if scale == "log" else (0.1 * abs(high) or 1.0)
    low, high = low - pad, high + pad
    return (10.0**low, 10.0**high) if scale == "log" else (low, high)


def log_ticks(span: tuple[float, float]) -> list[float]:
    """Return the ticks of a logarithmic axis: some seven powers of ten; where they are few, ticks between them too."""
    first, last = math.floor(math.log10(span[0])), math.ceil(math.log10(span[1]))
    powers = range(first, last + 1, max(1, round((last - first) / 6)))
    found: list[float] = []
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = (float(f"{digit}e{power}") for power in powers for digit in digits)
        found = [tick for tick in ticks if span[0] <= tick <= span[1]]
        if len(found) >= _FEWEST_TICKS:
            return found
    width = span[1] - span[0]  # narrow, so that even ticks are almost even on the axis too
    power = math.floor(math.log10(width / _FEWEST_TICKS))
    step = max(step for digit in (1, 2, 5) if (step := float(f"{digit}e{power}")) <= width / _FEWEST_TICKS)
    numbers = range(math.ceil(span[0] / step), math.floor(span[1] / step) + 1)
    return [float(f"{number * step:.12g}") for number in numbers]


def fraction(at: float, span: tuple[float, float], scale: Scale) -> float:
    """Return the position of ``at`` between the ends of an axis, from 0 to 1."""
    low, high, place = (math.log10(value) if scale == "log" else value for value in (*span, at))
    return (place - low) / (high - low)


@dataclass(frozen=True)
class Flag:
    """The text of a vertical mark, its row above the plot, and whether it is to the left of its line."""

    mark: Mark
    text: str
    row: int
    leans_left: bool


def flags(drawn: Drawing) -> tuple[Flag, ...]:
    """Return rows for the texts of all vertical marks.

    Texts do not overlap. They do not cross the lines of other marks either, unless two texts both reach over the line
    of the other mark.
    """
    upright = [mark for mark in drawn.chart.marks if mark.axis == "x"]
    places = {mark: fraction(mark.at, drawn.x_range, drawn.chart.x_scale) for mark in upright}
    placed: list[_Place] = []
    for mark in sorted(places, key=lambda mark: abs(places[mark] - 0.5)):
        text = shortened(mark.text, MARK_COLUMNS - 4)
        stem, left = places[mark] * MARK_COLUMNS, places[mark] > 0.5
        start, end = (stem - len(text) - 1, stem) if left else (stem, stem + len(text) + 1)
        rows = [_Place(Flag(mark, text, row, left), stem, start, end) for row in range(len(placed) + 1)]
        free = [place for place in rows if not any(place.overlaps(other) for other in placed)]
        clear = [place for place in free if not any(place.crosses(other) for other in placed)]
        placed.append((clear or free)[0])
    return tuple(place.flag for place in placed)


@dataclass(frozen=True)
class _Place:
    """A flag with its line and the ends of its text, in characters."""

    flag: Flag
    stem: float
    start: float
    end: float

    def overlaps(self, other: _Place) -> bool:
        return self.flag.row == other.flag.row and self.start < other.end and other.start < self.end

    def crosses(self, other: _Place) -> bool:
        upper, lower = (self, other) if self.flag.row > other.flag.row else (other, self)
        return lower.flag.row < upper.flag.row and lower.start < upper.stem < lower.end


class Level(NamedTuple):
    """The text of a horizontal mark: whether it is at the right end of its line, and whether below it."""

    mark: Mark
    at_right: bool
    is_below: bool


def levels(drawn: Drawing) -> list[Level]:
    """Return the horizontal marks from the lowest to the highest, with texts alternately at the left and the right."""
    marks = sorted((mark for mark in drawn.chart.marks if mark.axis == "y"), key=lambda mark: mark.at)
    high = [fraction(mark.at, drawn.y_range, drawn.chart.y_scale) > 0.9 for mark in marks]
    return [Level(mark, place % 2 == 1, is_high) for place, (mark, is_high) in enumerate(zip(marks, high, strict=True))]


def num_rows(drawn: Drawing) -> int:
    """Return the number of rows of texts above the plot."""
    return 1 + max((flag.row for flag in flags(drawn)), default=-1)


def spread(num: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spaced indices from 0 to ``num`` − 1, the first and the last included."""
    return sorted({round(place * (num - 1) / max(1, min(num, most) - 1)) for place in range(min(num, most))})


def shortened(text: str, length: int) -> str:
    """Return ``text`` cut to ``length`` characters, with an ellipsis if it is cut."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _positive_part(curve: Curve, log_x: bool, log_y: bool) -> Curve:
    kept = [
        index
        for index, (x, y) in enumerate(zip(curve.x, curve.y, strict=True))
        if (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    x, y = [float(curve.x[index]) for index in kept], [float(curve.y[index]) for index in kept]
    if curve.low is None or curve.high is None:
        return replace(curve, x=x, y=y)
    low, high = [float(curve.low[index]) for index in kept], [float(curve.high[index]) for index in kept]
    if log_y:  # a band that extends below zero is cut at the lowest positive value
        least = min((value for value in [*low, *y] if value > 0), default=1.0)
        low, high = [max(value, least) for value in low], [max(value, least) for value in high]
    return replace(curve, x=x, y=y, low=low, high=high)


def _num_items(chart: Chart) -> int:
    return len(chart.marks) + sum(len(curve.x) for curve in chart.curves)


def _places(marks: Iterable[Mark], axis: str) -> list[float]:
    return [mark.at for mark in marks if mark.axis == axis]
