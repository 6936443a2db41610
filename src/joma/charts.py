"""Pictures as data, which ``joma.report`` draws as figures for papers and in pages.

A chart depends on no plotting library, colour or size. It can be written as JSON, so that a page can be drawn again
without computing anything again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from joma.domains import choose

Role = Literal["measured", "predicted", "control", "context", "read"]
"""The role of a line; each role has the same style in every picture. ``read`` shows what is read from another line."""

Scale = Literal["linear", "log"]

SHADES = ("#f6f1de", "#c3dccb", "#5fb0bd", "#2469b0", "#14256b")
"""The colour scale of values, from the lowest to the highest. Each step is darker, so that it can be read in grey
prints and with colour-vision deficiencies."""


@dataclass(frozen=True)
class Curve:
    """One line, with an optional band (the spread over seeds).

    >>> import joma
    >>> joma.Curve("measured", (0.0, 1.0, 2.0), (1.0, 0.5, 0.8)).role
    'measured'

    Args:
        label: text in the legend.
        x, y: the points, of equal length, finite.
        low, high: the edges of the band, each as long as ``x``; both or neither.
        role: of the line, which determines its style.
        group: lines of one group have one colour (such as a variant of a network in several charts).
        joined: whether a line joins the points; otherwise each is a dot.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    role: Role = "measured"
    group: str = ""
    joined: bool = True

    def __post_init__(self) -> None:
        choose(self.role, dict.fromkeys(get_args(Role)), "Curve", "role")
        lengths = {len(self.x), len(self.y)} | {len(edge) for edge in (self.low, self.high) if edge is not None}
        if len(lengths) != 1 or (self.low is None) != (self.high is None):
            raise ValueError(f"curve {self.label!r}: x, y and both band edges must have equal lengths, got {lengths}")
        for name in ("x", "y", "low", "high"):
            if not all(map(math.isfinite, () if getattr(self, name) is None else getattr(self, name))):
                raise ValueError(f"curve {self.label!r}: {name} must be finite; leave out other points")


@dataclass(frozen=True)
class Mark:
    """A vertical (``axis='x'``) or horizontal (``axis='y'``) line with a short text.

    >>> import joma
    >>> joma.Mark("x", 1.0, "lowest").axis
    'x'
    """

    axis: Literal["x", "y"]
    at: float
    text: str

    def __post_init__(self) -> None:
        choose(self.axis, {"x": "x", "y": "y"}, "Mark", "axis")
        if not math.isfinite(self.at):
            raise ValueError(f"mark {self.text!r}: must be at a finite place, got {self.at}")


@dataclass(frozen=True)
class Chart:
    """A pair of axes with lines.

    >>> import joma
    >>> curve = joma.Curve("measured", (0.0, 1.0, 2.0), (1.0, 0.5, 0.8))
    >>> joma.Chart("dip", "A dip", "It falls and rises again.", "step", "nats", (curve,)).id
    'dip'

    Args:
        id: unique within its claim; letters, digits and underscores, because files are named after it.
        title: one line.
        caption: the content of the chart, in a sentence or two.
        x_label, y_label: with units.
        curves: the lines, in the order of the legend.
        marks: marked places.
        x_scale, y_scale: linear or log.
    """

    id: str
    title: str
    caption: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = field(default=())
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"

    def __post_init__(self) -> None:
        for name in ("x_scale", "y_scale"):
            choose(getattr(self, name), {"linear": "linear", "log": "log"}, "Chart", name)


@dataclass(frozen=True)
class Heatmap:
    """Numbers over two axes with named columns and rows, such as steps by layers.

    Args:
        id: unique within its page; letters, digits and underscores, because files are named after it.
        title: one line.
        caption: the content of the heatmap, in a sentence or two.
        x_label, y_label: of the axes.
        x, y: names of the columns, and of the rows from the bottom up.
        values: one row for each y, one number for each x; ``None`` for missing ones.
        value_label: of the numbers, with their unit.
        struck: indices of columns with unreliable numbers.
    """

    id: str
    title: str
    caption: str
    x_label: str
    y_label: str
    x: Sequence[str]
    y: Sequence[str]
    values: Sequence[Sequence[float | None]]
    value_label: str
    struck: Sequence[int] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.y) or any(len(row) != len(self.x) for row in self.values):
            raise ValueError(f"heatmap {self.title!r}: needs {len(self.y)} rows of {len(self.x)} values")
        if not all(value is None or math.isfinite(value) for row in self.values for value in row):
            raise ValueError(f"heatmap {self.title!r}: values must be finite, or None if missing")


def id_of(name: str) -> str:
    """Return a name with ``_`` for all but letters and digits, so that it can stand in the id of a chart."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
