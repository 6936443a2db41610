"""Heatmaps, as figures for a paper and as interactive plots.

Cells without a value are blank, and unreliable columns are struck out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from joma.charts import SHADES, Heatmap
from joma.report.drawing.figures import SCALE, WIDTH_INCHES, new_canvas, write_pictures
from joma.report.drawing.looks import LIGHT, spread
from joma.report.drawing.plots import BARE

_LINES = (("paper", 3.6), ("series-2", 1.4))  # a stroke and its edge, visible on light and on dark cells
_MOST_TICKS, _CHARACTERS = 9, 54  # largest number of tick labels, and of characters in all of them
_ROW_INCHES, _LEAST_INCHES, _MOST_INCHES = 0.24, 1.3, 4.2


def write_heatmap(heatmap: Heatmap, folder: Path) -> tuple[Path, Path]:
    """Draw ``heatmap`` and write ``<id>.svg`` and ``<id>.png`` (see ``write_pictures``)."""
    return write_pictures(lambda: heatmap_figure(heatmap), folder / heatmap.id, heatmap.title, heatmap.caption)


def heatmap_plot(heatmap: Heatmap) -> dict[str, Any]:
    """Return the plotly specification, ``data`` and ``layout``, as plain data."""
    trace = {
        "type": "heatmap",
        "x": list(range(len(heatmap.x))),
        "y": list(range(len(heatmap.y))),
        "z": [list(row) for row in heatmap.values],
        "colorscale": [[place / (len(SHADES) - 1), stop] for place, stop in enumerate(SHADES)],
        "colorbar": {"thickness": 12, "outlinewidth": 0, "ticklen": 0, "x": 1.01},
        "hoverinfo": "none",  # the script writes the value under the pointer below the plot
        "xgap": 1 if len(heatmap.x) <= 60 else 0,
        "ygap": 1 if len(heatmap.y) <= 60 else 0,
    }
    layout = {
        **BARE,
        "margin": {"l": 36, "r": 8, "t": 10, "b": 32},
        "hovermode": "closest",
        "xaxis": _axis(heatmap.x),
        "yaxis": _axis(heatmap.y) | {"automargin": True},
        "shapes": [
            {
                "type": "line",
                **dict(zip(("x0", "x1", "y0", "y1"), (*x, *y), strict=True)),
                "line": {"color": colour, "width": width},
            }
            for colour, width in _LINES
            for x, y in _strokes(heatmap)
        ],
    }
    return {"data": [trace], "layout": layout}


def _strokes(heatmap: Heatmap) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The two diagonals of every struck column, as their ends along x and along y."""
    bottom, top = -0.5, len(heatmap.y) - 0.5
    return [((place - 0.5, place + 0.5), ends) for place in heatmap.struck for ends in ((bottom, top), (top, bottom))]


def _axis(names: Sequence[str]) -> dict[str, Any]:
    ticks = _ticks(names)
    return {
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [names[at] for at in ticks],
        "tickangle": 0,
        "showgrid": False,
        "zeroline": False,
        "ticklen": 3,
        "tickcolor": "edge",
        "range": [-0.5, len(names) - 0.5],
    }


def _ticks(names: Sequence[str]) -> list[int]:
    """Indices of as many labels as fit, evenly spaced, the first and the last included."""
    fitting = max(2, _CHARACTERS // (max(map(len, names)) + 2))
    return spread(len(names), min(_MOST_TICKS, fitting))


def heatmap_figure(heatmap: Heatmap, new_figure: Callable[..., Figure] | None = None) -> Figure:
    """Draw a heatmap with its title and colour scale (see ``new_canvas``)."""
    height = min(_MOST_INCHES, max(_LEAST_INCHES, _ROW_INCHES * len(heatmap.y)))
    title = textwrap.wrap(heatmap.title, 52)
    figure = new_canvas((WIDTH_INCHES, height + 1.05 + 0.22 * len(title)), new_figure)
    axes = figure.add_subplot()
    image = draw_image(axes, heatmap)
    axes.set_title("\n".join(title), x=0.0, loc="left", fontsize=11.5, fontweight="bold", pad=22, parse_math=False)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=max(8, 7 * height))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.ax.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    bar.set_label(textwrap.fill(heatmap.value_label, max(18, round(11 * height))), parse_math=False)
    return figure


def draw_image(axes: Axes, heatmap: Heatmap) -> AxesImage:
    """Draw the cells of a heatmap with axis labels, without title and colour scale."""
    values = np.array([[np.nan if value is None else value for value in row] for row in heatmap.values])
    image = axes.imshow(values, cmap=SCALE, aspect="auto", origin="lower", interpolation="nearest")
    for colour, width in _LINES:
        for x, y in _strokes(heatmap):
            axes.plot(x, y, color=LIGHT[colour], linewidth=0.75 * width, scalex=False, scaley=False)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(heatmap.y_label, (0, 1), (0, 6), **place, color=LIGHT["quiet"], parse_math=False)
    axes.set_xlabel(heatmap.x_label, parse_math=False)
    for axis, names in ((axes.xaxis, heatmap.x), (axes.yaxis, heatmap.y)):
        ticks = _ticks(names)
        axis.set_ticks(ticks, [names[at] for at in ticks])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2)
    return image
