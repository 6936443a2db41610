"""Pictures of a hierarchy: latents coloured by alignment score, or by presence in a sample."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from joma.report.drawing.figures import SCALE, write_pictures
from joma.report.drawing.looks import LIGHT, shortened
from joma.report.drawing.rows import Rows
from joma.terminal import printable

WIDTH, MARGIN, NAMES = 7.4, 0.16, 1.5
"""Widths in inches: of the picture, of its border, and of the column of row names."""

ROW, SMALL_ROW = 0.82, 0.5
"""Distances of two rows in inches."""

_LARGEST_POINTS = {"latent": 25.0, "token": 9.0, "label": 21.0}
_COLUMNS, _LINE = 100, 0.17  # characters per line of small text, line height in inches
_DASHED: Any = (0, (2, 1.5))
_LEAST_SPACING = 14.0
"""The least distance of nodes, in points, at which tokens and labels are numbered."""

_READABLE_POINTS = 16.0
"""The least width of a node, in points, at which its value is written in it."""

_SHORT_POINTS = 8.0
"""The same for a symbol, of one digit or two."""

Values = Sequence[float | None]
"""For each node a score from 0 to 1, or ``None``."""


@dataclass(frozen=True)
class Level:
    """One row of latents.

    Args:
        name: text next to the row.
        detail: a second line below the name.
        values: alignment score of each latent: 0 is chance, 1 perfect.
    """

    name: str
    detail: str
    values: Values


@dataclass(frozen=True)
class Found:
    """The alignment of a network's hidden units with the latents of a hierarchy.

    Args:
        rows: the layout of the nodes.
        labels: text next to the top row.
        levels: the rows of latents, the lowest level first.
        before: the scores of the same latents before training.
        grids: by title, a row of values by level for each layer.
        title, subtitle: above the picture.
        missing: the reason why latents have no score; empty if all have one.
    """

    rows: Rows
    labels: str
    levels: Sequence[Level]
    before: Sequence[Values]
    grids: Mapping[str, Sequence[Values]]
    title: str
    subtitle: str
    missing: str = ""


def write_found(found: Found, stem: Path) -> tuple[Path, Path]:
    """Draw a hierarchy with its latents coloured by alignment score, after and before training.

    See ``write_pictures`` for ``stem`` and the result.
    """
    return write_pictures(lambda: _found_figure(found), stem, found.title, found.subtitle)


def write_present(rows: Rows, present: Sequence[Sequence[bool]], names: Sequence[str], stem: Path) -> tuple[Path, Path]:
    """Draw a hierarchy with the nodes that are present in one sample dark, the others hollow.

    Args:
        rows: the layout of the nodes.
        present: for every row, tokens first, which nodes are present.
        names: text next to each row.
        stem: path of the files without suffix (see ``write_pictures``).
    """
    title = "One sample: present nodes are dark"

    def draw() -> Figure:
        figure, panel = _sample_panel(rows, title)
        panel.lines([np.asarray(row, dtype=bool) for row in present])
        for row, (name, nodes) in enumerate(zip(names, present, strict=True)):
            panel.nodes(row, [float(node) for node in nodes])
            panel.name(row, name, f"{sum(nodes)} of {len(nodes)}" if len(nodes) > 1 else "")
        return figure

    return write_pictures(draw, stem, title, "Hollow nodes are absent; dark lines connect two present nodes.")


def write_symbols(
    rows: Rows, symbols: Sequence[Sequence[int]], alphabets: Sequence[int], names: Sequence[str], stem: Path
) -> tuple[Path, Path]:
    """Draw a hierarchy of places with the symbol of each place in one sample, as a number and a shade.

    Args:
        rows: the layout of the places.
        symbols: for every row, tokens first, the symbol of each place.
        alphabets: the number of symbols of each row.
        names: text next to each row.
        stem: path of the files without suffix (see ``write_pictures``).
    """
    title = "One sample: the symbol of every place"

    def draw() -> Figure:
        figure, panel = _sample_panel(rows, title)
        panel.lines()
        for row, (name, nodes, num) in enumerate(zip(names, symbols, alphabets, strict=True)):
            panel.nodes(row, [node / max(1, num - 1) for node in nodes], list(map(str, nodes)))
            panel.name(row, name, f"{num} symbols" if len(nodes) > 1 else f"{num} classes")
        return figure

    return write_pictures(draw, stem, title, "Each level has an alphabet of its own; shades only distinguish symbols.")


def _sample_panel(rows: Rows, title: str) -> tuple[Figure, _Panel]:
    figure, axes = _page(ROW * (len(rows.places) - 1) + 1.1)
    height = figure.get_figheight()
    _headline(axes, height, title, "")
    return figure, _Panel(axes, rows, (NAMES, WIDTH - MARGIN), (0.4, height - 0.75), numbers=False)


def _found_figure(found: Found) -> Figure:
    num_gaps = len(found.rows.places) - 1
    small = max(SMALL_ROW * num_gaps, 0.3 * max(map(len, found.grids.values()))) + 0.42
    head = 0.74 + _LINE * len(_lines(found.subtitle))
    figure, axes = _page(head + ROW * num_gaps + small + 1.15 + 0.24 * bool(found.missing))
    top = figure.get_figheight()
    _headline(axes, top, found.title, found.subtitle)
    bottom = top - head - ROW * num_gaps
    main = _Panel(axes, found.rows, (NAMES, WIDTH - MARGIN), (bottom, top - head), numbers=True)
    main.lines()
    main.ends(found.labels)
    for row, level in enumerate(found.levels, start=1):
        main.nodes(row, level.values)
        main.name(row, level.name, level.detail)
    under = bottom - 0.62
    text_at(axes, MARGIN, under, "The same network before training", size=9.5, weight="bold")
    middle = 0.5 * WIDTH
    low = under - 0.32 - SMALL_ROW * num_gaps
    before = _Panel(axes, found.rows, (MARGIN, middle - 0.1), (low, under - 0.32), numbers=False)
    before.lines()
    for row, values in enumerate(found.before, start=1):
        before.nodes(row, values)
    before.ends("")
    left = middle + 0.7
    num_columns = sum(len(rows[0]) for rows in found.grids.values())
    side = min(0.46, (WIDTH - MARGIN - left - 0.22 * (len(found.grids) - 1)) / num_columns)
    for place, (title, values) in enumerate(found.grids.items()):
        _draw_grid(axes, title, values, (left, under), side, is_first=place == 0)
        left += max(side * len(values[0]) + 0.22, 1.15)
    _draw_scale(axes, found.missing)
    return figure


class _Panel:
    """A hierarchy drawn into a box of the page.

    Args:
        axes: in inches.
        rows: the layout of the nodes, as shares of the box.
        x, y: the edges of the box; the lowest and the highest row are at those of ``y``.
        numbers: whether values are written into nodes that are large enough.
    """

    def __init__(
        self, axes: Axes, rows: Rows, x: tuple[float, float], y: tuple[float, float], *, numbers: bool
    ) -> None:
        self._axes, self._rows, self._numbers = axes, rows, numbers
        self._x = [x[0] + places * (x[1] - x[0]) for places in rows.places]
        self._y = np.linspace(*y, len(rows.places))
        self._width = x[1] - x[0]
        self._left = MARGIN

    def lines(self, present: Sequence[np.ndarray] | None = None) -> None:
        """Draw all lines, dark if both ends are present."""
        crowd = sum(map(len, self._rows.edges))
        for row, pairs in enumerate(self._rows.edges):
            ends = [
                [(self._x[row][low], self._y[row]), (self._x[row + 1][high], self._y[row + 1])] for low, high in pairs
            ]
            lit = np.zeros(len(pairs), dtype=bool)
            if present is not None:
                lit = present[row][pairs[:, 0]] & present[row + 1][pairs[:, 1]]
            for chosen, colour, alpha, width in (
                (~lit, LIGHT["context"], 0.75 if crowd < 60 else 0.4, 0.9 if crowd < 60 else 0.6),
                (lit, LIGHT["series-1"], 0.9, 1.3),
            ):
                kept = [line for line, one in zip(ends, chosen, strict=True) if one]
                self._axes.add_collection(LineCollection(kept, colors=colour, alpha=alpha, linewidths=width, zorder=1))

    def nodes(self, row: int, values: Values, texts: Sequence[str] | None = None) -> None:
        """Draw a row's nodes, coloured by their values; dashed and grey without a value. ``texts``: instead of them."""
        size = self._size(row, "token" if row == 0 else "latent")
        there = ~np.isnan(self._x[row])
        without = np.array([value is None for value in values])
        for chosen, dashes in ((there & ~without, "solid"), (there & without, _DASHED)):
            nodes = np.flatnonzero(chosen).tolist()
            self._axes.scatter(
                self._x[row][nodes],
                np.full(len(nodes), self._y[row]),
                s=size**2,
                c=[_colour(values[node]) for node in nodes],
                edgecolors=LIGHT["quiet"],
                linewidths=0.7 if size > 6 else 0.45,
                linestyles=dashes,
                zorder=3,
            )
        if self._numbers and size >= _READABLE_POINTS:
            texts = [_short(value) for value in values]
        if texts and size >= _SHORT_POINTS:
            for node in np.flatnonzero(there).tolist():
                value, place = values[node], self._x[row][node]
                text_at(
                    self._axes,
                    place,
                    self._y[row],
                    texts[node],
                    size=min(8.0, (0.36 if self._numbers else 0.6) * size),
                    colour=_ink(value),
                    ha="center",
                )

    def ends(self, labels: str) -> None:
        """Draw labels on top and tokens at the bottom without scores, because they are given."""
        top = len(self._y) - 1
        for row, kind, marker in ((0, "token", "o"), (top, "label", "s")):
            size, places = self._size(row, kind), self._x[row]
            there = ~np.isnan(places)
            fill = LIGHT["quiet"] if row == 0 else LIGHT["paper"]
            self._axes.scatter(
                places[there],
                np.full(int(there.sum()), self._y[row]),
                s=size**2 * (0.35 if row == 0 else 0.8),
                c=fill,
                marker=marker,
                edgecolors=LIGHT["ink"] if row else "none",
                linewidths=0.9,
                zorder=3,
            )
            spacing = 72 * self._width / max(1, int(there.sum()))
            if labels and spacing >= _LEAST_SPACING:
                drop = 0.16 if row == 0 else 0.0
                for node in np.flatnonzero(there):
                    text = "y" if len(places) == 1 else str(node)
                    colour = LIGHT["ink"] if row else LIGHT["quiet"]
                    text_at(self._axes, places[node], self._y[row] - drop, text, size=7.0, colour=colour, ha="center")
        if labels:
            num, hidden = len(self._x[0]), self._rows.num_hidden
            self.name(top, labels, "")
            self.name(0, f"{num} tokens", f"{hidden} unused, not drawn" if hidden else "")

    def name(self, row: int, name: str, detail: str) -> None:
        """Write the name of a row at its left."""
        lift = 0.075 if detail else 0.0
        text_at(self._axes, self._left, self._y[row] + lift, name, size=8.5, weight="bold")
        if detail:
            text_at(self._axes, self._left, self._y[row] - 0.09, detail, size=8.0, colour=LIGHT["quiet"])

    def _size(self, row: int, kind: str) -> float:
        num = int((~np.isnan(self._x[row])).sum())
        spacing = 72 * self._width / num
        return min(_LARGEST_POINTS[kind], 0.84 * spacing, 72 * 0.5 * (self._y[1] - self._y[0]))


def _page(height: float) -> tuple[Figure, Axes]:
    """A figure with axes that fill it and have inches as units."""
    figure = Figure(figsize=(WIDTH, height), facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    return figure, axes


def _headline(axes: Axes, top: float, title: str, subtitle: str) -> None:
    text_at(axes, MARGIN, top - 0.24, title, size=11.5, weight="bold")
    for line, text in enumerate(_lines(subtitle)):
        text_at(axes, MARGIN, top - 0.47 - _LINE * line, text, size=8.5, colour=LIGHT["quiet"])


def _lines(text: str) -> list[str]:
    return [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, _COLUMNS)]


def _draw_grid(
    axes: Axes, title: str, values: Sequence[Values], corner: tuple[float, float], side: float, *, is_first: bool
) -> None:
    """Layers from bottom to top, levels from left to right; the layer that corresponds to each level is framed."""
    num_levels, tall = len(values[0]), min(side, 0.36)
    left, bottom = corner[0], corner[1] - 0.2 - tall * len(values)
    text_at(axes, left, corner[1], title, size=9.5, weight="bold")
    for layer, row in enumerate(values):
        y = bottom + layer * tall
        if is_first:
            text_at(axes, left - 0.06, y + tall / 2, f"layer {layer}", size=8.0, colour=LIGHT["quiet"], ha="right")
        for level, value in enumerate(row):
            x = left + level * side
            box = Rectangle((x, y), side, tall, facecolor=_colour(value), edgecolor=LIGHT["paper"], zorder=2)
            axes.add_patch(box)
            if layer == level:
                box.set(edgecolor=LIGHT["ink"], linewidth=1.2, zorder=4)
            text_at(axes, x + side / 2, y + tall / 2, _short(value), size=8.0, colour=_ink(value), ha="center")
    for level in range(num_levels):
        text_at(
            axes, left + (level + 0.5) * side, bottom - 0.1, f"{level}", size=8.0, colour=LIGHT["quiet"], ha="center"
        )
    text_at(axes, left, bottom - 0.26, "level", size=8.0, colour=LIGHT["quiet"])


def _draw_scale(axes: Axes, missing: str) -> None:
    """The colour scale from chance to 1.00, and the reason for nodes without a score."""
    left, height, width, num = MARGIN + 0.52, 0.13, 1.9, 64
    bottom = 0.2 + 0.24 * bool(missing)
    for step in range(num):
        colour = _colour(step / (num - 1))
        wide = width / num * (1.05 if step < num - 1 else 1.0)  # slightly wider, to avoid visible seams
        axes.add_patch(Rectangle((left + step * width / num, bottom), wide, height, color=colour, linewidth=0))
    text_at(axes, left - 0.07, bottom + height / 2, "chance", size=8.5, ha="right")
    text_at(axes, left + width + 0.09, bottom + height / 2, "1.00: a hidden unit is the latent", size=8.5)
    if missing:
        y = 0.2 + height / 2
        axes.scatter([left + 0.06], [y], s=81, c=LIGHT["grid"], edgecolors=LIGHT["quiet"], linestyles=_DASHED)
        text_at(axes, left + 0.2, y, shortened(f"no score: {missing}", _COLUMNS - 8), size=8.0, colour=LIGHT["quiet"])


def _colour(value: float | None) -> str:
    return LIGHT["grid"] if value is None else to_hex(SCALE(min(1.0, max(0.0, value))))


def _ink(value: float | None) -> str:
    return LIGHT["paper"] if value is not None and value > 0.5 else LIGHT["ink"]


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    rounded = f"{max(0.0, value):.2f}"
    if value < 0 and f"{value:.2f}" != "-0.00":
        return "<0"  # below chance
    return "1.0" if rounded == "1.00" else rounded.removeprefix("0")


def text_at(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    colour: str = LIGHT["ink"],
    weight: str = "normal",
    ha: Any = "left",
) -> None:
    """Write a line of text, centred vertically; ``size`` in points."""
    look: dict[str, Any] = {"fontsize": size, "color": colour, "fontweight": weight, "ha": ha, "va": "center"}
    axes.text(x, y, printable(text), **look, parse_math=False, zorder=5)
