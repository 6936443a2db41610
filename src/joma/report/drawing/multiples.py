"""Many small curves on one scale, as a figure for a paper: one cell for each layer and head."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from joma.report.drawing.figures import WIDTH_INCHES, new_canvas, write_pictures
from joma.report.drawing.looks import LIGHT

Cells = Mapping[tuple[int, int], Sequence[tuple[float, float]]]
"""The points of each curve, from 0 to 1 on both axes, by row and column."""

_ROW_INCHES, _MOST_INCHES, _SHARE = 0.42, 11.0, 0.88


def write_multiples(cells: Cells, stem: Path, title: str, caption: str, names: tuple[str, str]) -> tuple[Path, Path]:
    """Draw small curves and write ``<stem>.svg`` and ``<stem>.png`` (see ``write_pictures``).

    Args:
        cells: the curves.
        stem: path of the files without suffix.
        title, caption: of the figure.
        names: of columns and rows, such as head and layer.
    """
    return write_pictures(lambda: multiples_figure(cells, title, caption, names), stem, title, caption)


def multiples_figure(cells: Cells, title: str, caption: str, names: tuple[str, str]) -> Figure:
    """Draw small curves in a grid, the first row on top; all in one axes, so that thousands take a second."""
    rows, columns = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    at = {name: number for number, name in enumerate(rows)}
    along = {name: number for number, name in enumerate(columns)}
    figure = new_canvas((WIDTH_INCHES, min(_MOST_INCHES, 1.3 + _ROW_INCHES * len(rows))), None)
    axes = figure.add_subplot()
    corners = [np.array([along[column], -at[row] - 1.0]) for row, column in cells]
    lines = [corner + _SHARE * np.asarray(points) for corner, points in zip(corners, cells.values(), strict=True)]
    floors = [corner + np.array([[0, 0], [_SHARE, 0]]) for corner in corners]
    axes.add_collection(LineCollection(floors, colors=LIGHT["grid"], linewidths=0.6))
    axes.add_collection(LineCollection(lines, colors=LIGHT["series-1"], linewidths=0.9))
    axes.set(xlim=(0, len(columns)), ylim=(-len(rows) - 0.05, 0))
    for axis, found, sign in ((axes.xaxis, columns, 1), (axes.yaxis, rows, -1)):
        places = [int(tick) for tick in MaxNLocator(12, integer=True).tick_values(0, len(found) - 1)]
        shown = [place for place in places if 0 <= place < len(found)]
        axis.set_ticks([sign * (place + 0.5) for place in shown], [str(found[place]) for place in shown])
    axes.set_xlabel(names[0], parse_math=False)
    axes.set_ylabel(names[1], parse_math=False)
    lines_of_caption = textwrap.wrap(caption, 78)
    style: dict[str, Any] = {
        "fontsize": 11.5,
        "fontweight": "bold",
        "parse_math": False,
        "pad": 10 + 11 * len(lines_of_caption),
    }
    axes.set_title(textwrap.fill(title, 52), loc="left", **style)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "in_layout": False}
    axes.annotate(
        "\n".join(lines_of_caption), (0, 1), (0, 5), **place, fontsize=8, color=LIGHT["quiet"], parse_math=False
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return figure
