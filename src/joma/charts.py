"""Pictures as data: a claim says what is to be seen, ``joma.report`` draws it (paper figure and page alike).

A chart knows no library, no colour and no size. It survives a trip through JSON, so that a page can be drawn
again without running anything again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["measured", "predicted", "control", "context"]
"""What a line stands for; the renderers give each role one look, the same in every picture."""

Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Curve:
    """One line, with an optional band (the spread over seeds).

    >>> import joma
    >>> joma.Curve("measured", (0.0, 1.0, 2.0), (1.0, 0.5, 0.8)).role
    'measured'

    Args:
        label: what the legend says.
        x, y: the points, equally long, finite.
        low, high: the band's edges, each as long as ``x``; both or neither.
        role: what the line stands for.
        group: lines of one group share a colour (a variant of a network in several panels).
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    role: Role = "measured"
    group: str = ""

    def __post_init__(self) -> None:
        lengths = {len(self.x), len(self.y)} | {len(edge) for edge in (self.low, self.high) if edge is not None}
        if len(lengths) != 1 or (self.low is None) != (self.high is None):
            raise ValueError(f"curve {self.label!r}: x, y and both band edges must be equally long, got {lengths}")
        for name in ("x", "y", "low", "high"):
            if not all(map(math.isfinite, () if getattr(self, name) is None else getattr(self, name))):
                raise ValueError(f"curve {self.label!r}: {name} must be finite throughout, leave out what is not")


@dataclass(frozen=True)
class Mark:
    """A place worth seeing: a vertical (``axis='x'``) or horizontal (``axis='y'``) line with a short text.

    >>> import joma
    >>> joma.Mark("x", 1.0, "lowest").axis
    'x'
    """

    axis: Literal["x", "y"]
    at: float
    text: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.at):
            raise ValueError(f"mark {self.text!r}: must stand at a finite place, got {self.at}")


@dataclass(frozen=True)
class Chart:
    """One pair of axes with its lines.

    >>> import joma
    >>> curve = joma.Curve("measured", (0.0, 1.0, 2.0), (1.0, 0.5, 0.8))
    >>> joma.Chart("dip", "A dip", "It falls and comes back.", "step", "nats", (curve,)).id
    'dip'

    Args:
        id: unique within its claim, letters, digits and underscores: it names the files.
        title: one line.
        caption: what a reader should see here, in a sentence or two.
        x_label, y_label: with units.
        curves: the lines, in legend order.
        marks: places worth seeing.
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


@dataclass(frozen=True)
class Heatmap:
    """Numbers over two axes of named places, such as steps by layers.

    Args:
        id: unique among the pictures that stand together, letters, digits and underscores: it names the files.
        title: one line.
        caption: what a reader should see here, in a sentence or two.
        x_label, y_label: what the places are.
        x, y: names of the places, y from the bottom up.
        values: one row for each y, one number for each x; ``None`` where there is none.
        value_label: what the numbers are, with their unit.
        struck: columns, from 0, whose numbers are not to be trusted.
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
            raise ValueError(f"heatmap {self.title!r}: values must be finite, or None where there is none")


def chart_from_json(data: Mapping[str, Any]) -> Chart:
    """Build the chart that ``dataclasses.asdict`` took apart."""
    parts = _with_tuples(data)
    parts["curves"] = tuple(Curve(**_with_tuples(curve)) for curve in data["curves"])
    parts["marks"] = tuple(Mark(**mark) for mark in data["marks"])
    return Chart(**parts)


def _with_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(part) if isinstance(part, list) else part for name, part in data.items()}
