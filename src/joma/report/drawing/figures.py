"""Charts as figures for a paper: SVG and PNG, the same bytes every time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, Formatter, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from joma.charts import SHADES, Chart, Curve
from joma.files import replacing
from joma.report.drawing.looks import (
    BAND_OPACITY,
    LIGHT,
    STROKES,
    Drawing,
    curve_colours,
    drawing,
    flags,
    group_colours,
    levels,
    log_ticks,
    num_rows,
    shortened,
)
from joma.report.drawing.words import format_number, log_label

WIDTH_INCHES = 5.6
"""Narrow, so that on a phone of 390 pixels the smallest text is about 9 pixels high."""

SCALE = LinearSegmentedColormap.from_list("light to dark", list(SHADES))
"""``SHADES`` for matplotlib."""

PLOT_INCHES = 3.1
ROW_POINTS = 12.0
DPI = 200

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "joma",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["edge"],
    "axes.labelcolor": LIGHT["quiet"],
    "xtick.color": LIGHT["edge"],
    "ytick.color": LIGHT["edge"],
    "xtick.labelcolor": LIGHT["quiet"],
    "ytick.labelcolor": LIGHT["quiet"],
    "path.simplify": True,
}


_TITLE: dict[str, Any] = {"x": 0.0, "fontsize": 11.5, "fontweight": "bold"}


def write_figures(charts: Sequence[Chart], folder: Path) -> list[tuple[Path, Path]]:
    """Write charts of one page as ``<id>.svg`` and ``<id>.png``; a group has the same colour in all of them.

    Returns:
        The paths of the SVG and of the PNG of each chart (see ``write_pictures``).
    """
    groups = group_colours(charts)
    return [
        write_pictures(partial(chart_figure, [chart], groups), folder / chart.id, chart.title, chart.caption)
        for chart in charts
    ]


def write_pictures(draw: Callable[[], Figure], stem: Path, title: str, caption: str) -> tuple[Path, Path]:
    """Write a figure as ``<stem>.svg`` and ``<stem>.png``, with the common settings of all pictures.

    Args:
        draw: returns the figure, on its own canvas.
        stem: path of the files without suffix; the folder is created if needed.
        title, caption: stored in the metadata of the files, for accessibility.

    Returns:
        The paths of the SVG and of the PNG.

    Raises:
        OSError: a file cannot be written; an existing file is unchanged.
    """
    paths = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    with matplotlib.rc_context(SETTINGS):
        figure = draw()
        for path in paths:
            _save(figure, path, title, caption)
    return paths


def write_stack(charts: Sequence[Chart], path: Path) -> Path:
    """Draw at least one chart, one below the other, into one file with the suffix ``.svg`` or ``.png``.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = chart_figure(charts, group_colours(charts))
        _save(figure, path, charts[0].title, " ".join(chart.caption for chart in charts))
    return path


def _save(figure: Figure, path: Path, title: str, caption: str) -> None:
    kind = path.suffix.lower().removeprefix(".")
    about: dict[str, Any] = {"Title": title, "Description": caption}
    about |= {"Date": None, "Creator": "joma"} if kind == "svg" else {"Software": "joma"}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=DPI if kind == "png" else "figure", metadata=about)


def new_canvas(size: tuple[float, float], new_figure: Callable[..., Figure] | None) -> Figure:
    """Return an empty figure with the common style, on its own canvas or made by ``new_figure``, such as pyplot's."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = (new_figure or Figure)(figsize=size, layout=layout, facecolor=LIGHT["paper"])
    if new_figure is None:
        FigureCanvasAgg(figure)
    return figure


def chart_figure(
    charts: Sequence[Chart], groups: Mapping[str, str], new_figure: Callable[..., Figure] | None = None
) -> Figure:
    """Draw charts below one another, each with its title and legend (see ``new_canvas``)."""
    drawings = [drawing(chart) for chart in charts]
    heights = [_inches(drawn) for drawn in drawings]
    figure = new_canvas((WIDTH_INCHES, sum(heights)), new_figure)
    parts = (
        figure.subfigures(len(drawings), 1, squeeze=False, height_ratios=heights)[:, 0] if drawings[1:] else [figure]
    )
    for part, drawn in zip(parts, drawings, strict=True):
        _draw_chart(part, drawn, curve_colours(drawn.chart, groups))
    return figure


def _inches(drawn: Drawing) -> float:
    """The height of a chart with its title, flags and legend."""
    labels = _legend_labels(drawn.chart)
    legend_rows = -(-sum(1 + label.count("\n") for label in labels) // _num_legend_columns(labels))
    title_rows = len(textwrap.wrap(drawn.chart.title, 48))
    return PLOT_INCHES + (title_rows * 17 + ROW_POINTS * num_rows(drawn) + legend_rows * 15 + 58) / 72


def _legend_labels(chart: Chart) -> list[str]:
    return [textwrap.fill(curve.label, 66) for curve in chart.curves]


def _draw_chart(figure: FigureBase, drawn: Drawing, colours: Sequence[str]) -> None:
    chart = drawn.chart
    title = textwrap.wrap(chart.title, 48)
    labels = _legend_labels(chart)
    head = ROW_POINTS * num_rows(drawn)
    axes = figure.add_subplot()
    axes.set_title("\n".join(title), pad=head + 24, loc="left", linespacing=1.25, parse_math=False, **_TITLE)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    label = shortened(chart.y_label, 60)
    axes.annotate(label, (0, 1), (0, head + 8), **place, color=LIGHT["quiet"], parse_math=False)
    draw_curves(axes, drawn, colours)
    _draw_legend(figure, axes, labels)


def draw_curves(axes: Axes, drawn: Drawing, colours: Sequence[str]) -> None:
    """Draw the curves and marks of a chart, without title and legend."""
    axes.set_xlabel(textwrap.fill(drawn.chart.x_label, 60), parse_math=False)
    _draw_axes(axes, drawn)
    for curve, colour in zip(drawn.chart.curves, colours, strict=True):
        _draw_curve(axes, curve, LIGHT[colour])
    _draw_flags(axes, drawn)
    _draw_levels(axes, drawn)


def _num_legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels), default=0)
    if longest > 26:
        return 1
    return 2 if longest > 14 or len(labels) in (2, 4) else 3


def _draw_legend(figure: FigureBase, axes: Axes, labels: Sequence[str]) -> None:
    handles = [line for line in axes.get_lines() if line.get_gid() == "curve"]
    if not handles:
        return
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=_num_legend_columns(labels),
        frameon=False,
        fontsize=9.5,
        handlelength=2.6,
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_axes(axes: Axes, drawn: Drawing) -> None:
    axes.set_xscale(drawn.chart.x_scale)
    axes.set_yscale(drawn.chart.y_scale)
    axes.set_xlim(*drawn.x_range)
    axes.set_ylim(*drawn.y_range)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(visible=True, color=LIGHT["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for axis, scale, span in (
        (axes.xaxis, drawn.chart.x_scale, drawn.x_range),
        (axes.yaxis, drawn.chart.y_scale, drawn.y_range),
    ):
        if scale == "log":
            axis.set_major_locator(FixedLocator(log_ticks(span)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: log_label(value)))
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_major_locator(MaxNLocator(6, integer=axis is axes.xaxis and drawn.has_whole_x))
            axis.set_major_formatter(_EvenDecimals())


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    stroke = STROKES[curve.role]
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=BAND_OPACITY, linewidth=0)
    dashes = (0, stroke.dashes) if stroke.dashes else "solid"
    is_single = len(curve.x) == 1
    (line,) = axes.plot(
        curve.x,
        curve.y,
        color=colour,
        linewidth=stroke.width * 0.8,
        linestyle=dashes if curve.joined else "none",
        solid_capstyle="round",
        marker="o" if is_single or not curve.joined else None,
        markersize=6 if is_single else 2,
        zorder=2 if curve.role == "context" else 3,
    )
    line.set_gid("curve")


def _draw_flags(axes: Axes, drawn: Drawing) -> None:
    for flag in flags(drawn):
        axes.axvline(flag.mark.at, color=LIGHT["quiet"], linewidth=0.7, zorder=1)
        side = -3 if flag.leans_left else 3
        axes.annotate(
            "",
            (flag.mark.at, 1),
            (0, flag.row * ROW_POINTS + 11),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": LIGHT["quiet"], "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )
        axes.annotate(
            flag.text,
            (flag.mark.at, 1),
            (side, flag.row * ROW_POINTS + 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if flag.leans_left else "left",
            fontsize=8.5,
            color=LIGHT["quiet"],
            parse_math=False,
        )


def _draw_levels(axes: Axes, drawn: Drawing) -> None:
    for mark, at_right, is_below in levels(drawn):
        axes.axhline(mark.at, color=LIGHT["quiet"], linewidth=0.7, zorder=1)
        axes.annotate(
            shortened(mark.text, 48),
            (at_right, mark.at),
            (0, -3 if is_below else 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right" if at_right else "left",
            va="top" if is_below else "bottom",
            fontsize=8.5,
            color=LIGHT["quiet"],
            parse_math=False,
            zorder=4,
            bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )


class _EvenDecimals(Formatter):
    """Tick labels with equally many decimals, as few as distinguish the ticks."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        largest = max((abs(value) for value in values), default=0.0)
        if largest and not 1e-3 <= largest < 1e6:
            return [format_number(value, 3) for value in values]
        decimals = next((d for d in range(6) if all(abs(v - round(v, d)) < 1e-6 * largest for v in values)), 6)
        return [f"{value:.{decimals}f}".replace("-", "−") for value in values]
