"""The picture of a tree of items: how clusters join, with the items and the genres of each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from joma.report.drawing.figures import write_pictures
from joma.report.drawing.hierarchies import text_at
from joma.report.drawing.looks import LIGHT, shortened

_WIDTH, _MARGIN, _ROW = 10.0, 0.16, 0.23  # inches
_TREE_ENDS, _GENRES_BEGIN = 2.3, 7.2  # inches from the left
_MOST_CHARACTERS, _MOST_GENRE_CHARACTERS = 72, 40


@dataclass(frozen=True)
class ItemRow:
    """A cluster: its most liked items, how many it has, and genres with their share."""

    items: str
    num_items: int
    genres: str


@dataclass(frozen=True)
class ItemPicture:
    """A tree of clusters.

    Args:
        rows: the clusters, from top to bottom.
        joins: of two nodes at a distance; nodes are the rows, then the joins before.
        title, subtitle: above the picture.
    """

    rows: Sequence[ItemRow]
    joins: Sequence[tuple[int, int, float]]
    title: str
    subtitle: str


def write_items(picture: ItemPicture, stem: Path) -> tuple[Path, Path]:
    """Draw a tree of items; see ``write_pictures`` for ``stem`` and the result."""
    return write_pictures(lambda: items_figure(picture), stem, picture.title, picture.subtitle)


def items_figure(picture: ItemPicture) -> Figure:
    """Return the figure of a tree of items."""
    subtitle = textwrap.wrap(picture.subtitle, 136)
    head = 0.62 + 0.16 * len(subtitle)
    height = head + _ROW * len(picture.rows) + 0.15
    figure = Figure(figsize=(_WIDTH, height), facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, _WIDTH), ylim=(0, height))
    axes.set_axis_off()
    text_at(axes, _MARGIN, height - 0.22, picture.title, size=11.5, weight="bold")
    for line, text in enumerate(subtitle):
        text_at(axes, _MARGIN, height - 0.45 - 0.16 * line, text, size=8.5, colour=LIGHT["quiet"])
    ys = [height - head - _ROW * (place + 0.5) for place in range(len(picture.rows))]
    for row, y in zip(picture.rows, ys, strict=True):
        text_at(axes, _TREE_ENDS + 0.38, y, f"{row.num_items}", size=8.5, colour=LIGHT["quiet"], ha="right")
        text_at(axes, _TREE_ENDS + 0.48, y, shortened(row.items, _MOST_CHARACTERS), size=8.5)
        text_at(axes, _GENRES_BEGIN, y, shortened(row.genres, _MOST_GENRE_CHARACTERS), size=8.5, colour=LIGHT["quiet"])
    xs = [_TREE_ENDS] * len(ys)
    scale = (_TREE_ENDS - _MARGIN) / (max(distance for *_, distance in picture.joins) or 1.0)
    for one, other, distance in picture.joins:
        x = _TREE_ENDS - scale * distance
        axes.plot([xs[one], x, x, xs[other]], [ys[one], ys[one], ys[other], ys[other]], color=LIGHT["ink"], lw=1.0)
        xs.append(x)
        ys.append((ys[one] + ys[other]) / 2)
    return figure
