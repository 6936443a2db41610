"""A picture of anomalous rows: which columns do not fit the others, and what would have fitted."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from joma.report.drawing.figures import write_pictures
from joma.report.drawing.hierarchies import text_at
from joma.report.drawing.looks import LIGHT, shortened

WIDTH, MARGIN, LINE = 6.4, 0.16, 0.2
"""Inches: of the picture, of its border, and from one line to the next."""

_NAME, _BAR, _GAP = 1.75, 1.3, 0.1  # inches of a name, of the longest bar, between rows


@dataclass(frozen=True)
class Part:
    """A column of an anomalous row.

    Args:
        name: of the column.
        value: in the row, as text.
        surprise: of the value given all others in the row, in nats.
        expected: what was most likely there, as text.
    """

    name: str
    value: str
    surprise: float
    expected: str


@dataclass(frozen=True)
class OddRow:
    """An anomalous row with the columns that fit least.

    Args:
        title: the row and its surprise.
        parts: the least fitting first.
        relations: pairs of columns, and what they add to the surprise, in nats; for pages, not drawn here.
    """

    title: str
    parts: Sequence[Part]
    relations: Sequence[tuple[str, str, float]] = ()


def write_rows(rows: Sequence[OddRow], title: str, subtitle: str, stem: Path) -> tuple[Path, Path]:
    """Draw anomalous rows below one another; see ``write_pictures`` for ``stem`` and the result."""
    return write_pictures(lambda: rows_figure(rows, title, subtitle), stem, title, subtitle)


def rows_figure(rows: Sequence[OddRow], title: str, subtitle: str) -> Figure:
    """Return the figure of anomalous rows."""
    head = textwrap.wrap(subtitle, 92)
    body = sum((LINE * (1 + len(row.parts)) + _GAP for row in rows), 0.0)
    height = 0.55 + 0.16 * len(head) + body + 0.1
    figure = Figure(figsize=(WIDTH, height), facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.set_axis_off()
    text_at(axes, MARGIN, height - 0.22, title, size=11.5, weight="bold")
    for line, text in enumerate(head):
        text_at(axes, MARGIN, height - 0.45 - 0.16 * line, text, size=8.5, colour=LIGHT["quiet"])
    largest = max((part.surprise for row in rows for part in row.parts), default=1.0) or 1.0
    y = height - 0.55 - 0.16 * len(head)
    for row in rows:
        text_at(axes, MARGIN, y, row.title, size=9.0, weight="bold")
        for part in row.parts:
            y -= LINE
            bar, wide = MARGIN + _NAME, _BAR * max(0.0, part.surprise) / largest
            text_at(axes, bar - 0.08, y, shortened(part.name, 22), size=8.5, ha="right")
            axes.add_patch(Rectangle((bar, y - 0.055), wide, 0.11, color=LIGHT["series-2"], linewidth=0))
            text_at(axes, bar + wide + 0.05, y, f"{part.surprise:.1f}", size=8.0, colour=LIGHT["quiet"])
            fits = f"{shortened(part.value, 16)}, likely: {shortened(part.expected, 22)}"
            text_at(axes, bar + _BAR + 0.45, y, fits, size=8.5)
        y -= LINE + _GAP
    return figure
