"""Pictures of trees learned from a table: an outline of columns, or leaves joined by lengths."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from joma.report.drawing.figures import write_pictures
from joma.report.drawing.hierarchies import text_at
from joma.report.drawing.looks import LIGHT, shortened

WIDTH, MARGIN = 6.4, 0.16
"""Inches."""

ROW = 0.21
"""Inches from one name to the next."""

MOST_NAMED = 250
"""Rows up to which every column is named; more share the height of so many."""

FIRM = 0.95
"""Support from which an edge is drawn as a full line."""

_NAME, _BAR, _INDENT = 1.9, 1.0, 0.24  # inches of a name at most, of the longest bar, of one level at most
_CHARACTERS = 30


@dataclass(frozen=True)
class Branch:
    """An edge to a node that hangs from another.

    Args:
        node: below.
        strength: length, or information.
        support: share of bootstrap samples; ``None`` if unknown.
    """

    node: int
    strength: float
    support: float | None


@dataclass(frozen=True)
class TreePicture:
    """A tree with a root.

    Args:
        names: of nodes; others are inner nodes without a name.
        root: a node.
        children: of every node that has some, in the order in which they are drawn.
        by_length: whether strengths are lengths to draw: leaves are named, inner nodes are not; otherwise every node
            is named, and strengths are drawn as bars.
        strength: what a strength is, with its unit.
        title, subtitle: above the picture.
    """

    names: Mapping[int, str]
    root: int
    children: Mapping[int, Sequence[Branch]]
    by_length: bool
    strength: str
    title: str
    subtitle: str

    @property
    def id(self) -> str:
        """The name of the picture among those of a result."""
        return "tree"

    @property
    def caption(self) -> str:
        """How the tree was learned."""
        return self.subtitle


def write_tree(picture: TreePicture, stem: Path) -> tuple[Path, Path]:
    """Draw a tree; see ``write_pictures`` for ``stem`` and the result."""
    return write_pictures(lambda: tree_figure(picture), stem, picture.title, picture.subtitle)


def tree_figure(picture: TreePicture, new_figure: Callable[..., Figure] | None = None) -> Figure:
    """Return the figure of a tree, on its own canvas or made by ``new_figure``, such as pyplot's."""
    figure = (new_figure or Figure)(facecolor=LIGHT["paper"])
    if new_figure is None:
        FigureCanvasAgg(figure)
    figure.set_size_inches(WIDTH, draw_tree(figure.add_axes((0.0, 0.0, 1.0, 1.0)), picture))
    return figure


def draw_tree(axes: Axes, picture: TreePicture) -> float:
    """Draw a tree on axes, and return the height in inches at which its rows have room in a width of ``WIDTH``."""
    order, depth = walk(picture)
    rows = [node for node in order if node in picture.names]
    subtitle = textwrap.wrap(picture.subtitle, 92)
    head, step = 0.66 + 0.16 * len(subtitle), min(ROW, ROW * MOST_NAMED / len(rows))
    height = head + step * len(rows) + 0.3
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.set_axis_off()
    text_at(axes, MARGIN, height - 0.22, picture.title, size=11.5, weight="bold")
    for line, text in enumerate(subtitle):
        text_at(axes, MARGIN, height - 0.45 - 0.16 * line, text, size=8.5, colour=LIGHT["quiet"])
    y = {node: height - head - step * (place + 0.5) for place, node in enumerate(rows)}
    is_named = len(rows) <= MOST_NAMED
    (_draw_lengths if picture.by_length else _draw_outline)(axes, picture, order, depth, y, is_named)
    return height


def walk(picture: TreePicture) -> tuple[list[int], dict[int, int]]:
    """Return the nodes in depth-first order, and how far below the root each is."""
    depth, order, stack = {picture.root: 0}, [], [picture.root]
    while stack:
        node = stack.pop()
        order.append(node)
        below = picture.children.get(node, ())
        depth |= {branch.node: depth[node] + 1 for branch in below}
        stack += [branch.node for branch in reversed(below)]
    return order, depth


def _draw_outline(
    axes: Axes, picture: TreePicture, order: Sequence[int], depth: dict[int, int], y: dict[int, float], is_named: bool
) -> None:
    """Every node in a row of its own, below the one that it hangs from; information and support at the right."""
    bars = WIDTH - MARGIN - _BAR - 0.95
    indent = min(_INDENT, (bars - MARGIN - _NAME) / max(1, *depth.values()))
    x = {node: MARGIN + 0.06 + indent * depth[node] for node in order}
    largest = max((branch.strength for below in picture.children.values() for branch in below), default=1.0) or 1.0
    top = max(y.values()) + 0.2
    text_at(axes, bars, top, picture.strength, size=8.0, colour=LIGHT["quiet"])
    text_at(axes, WIDTH - MARGIN, top, "support", size=8.0, colour=LIGHT["quiet"], ha="right")
    for node in order:
        if is_named:
            name = shortened(picture.names[node], max(6, int((bars - x[node] - 0.2) / 0.075)))
            text_at(axes, x[node] + 0.09, y[node], name, size=9.0)
        axes.plot([x[node]], [y[node]], "o", markersize=3.4, color=LIGHT["ink"], zorder=3)
        for branch in picture.children.get(node, ()):
            axes.plot([x[node], x[node]], [y[node], y[branch.node]], color=LIGHT["context"], linewidth=1.0, zorder=1)
            axes.plot([x[node], x[branch.node]], [y[branch.node]] * 2, **_line(branch.support), zorder=2)
            wide = _BAR * max(0.0, branch.strength) / largest
            box = Rectangle((bars, y[branch.node] - 0.055), wide, 0.11, color=LIGHT["series-1"], linewidth=0)
            axes.add_patch(box)
            if is_named:
                text_at(axes, bars + wide + 0.05, y[branch.node], f"{branch.strength:.2f}", size=8.0)
                text_at(axes, WIDTH - MARGIN, y[branch.node], _share(branch.support), size=8.0, ha="right")


def _draw_lengths(
    axes: Axes, picture: TreePicture, order: Sequence[int], depth: dict[int, int], y: dict[int, float], is_named: bool
) -> None:
    """Leaves in rows of their own, inner nodes between theirs, as far to the right as the lengths say."""
    far = {picture.root: 0.0}
    for node in order:
        far |= {branch.node: far[node] + branch.strength for branch in picture.children.get(node, ())}
    left = MARGIN + 0.3  # for the support of the first edges
    scale = (WIDTH - left - MARGIN - _NAME) / (max(far.values()) or 1.0)
    x = {node: left + scale * far[node] for node in order}
    for node in reversed(order):
        below = [y[branch.node] for branch in picture.children.get(node, ())]
        if below and node not in picture.names:
            y[node] = sum(below) / len(below)
    for node in order:
        branches = picture.children.get(node, ())
        if branches:
            ends = [y[branch.node] for branch in branches]
            axes.plot([x[node]] * 2, [min(ends), max(ends)], color=LIGHT["context"], linewidth=1.0, zorder=1)
        for branch in branches:
            axes.plot([x[node], x[branch.node]], [y[branch.node]] * 2, **_line(branch.support), zorder=2)
            if branch.support is not None and is_named:
                _label(axes, x[branch.node] - 0.03, y[branch.node] + 0.065, _share(branch.support))
        if node in picture.names and is_named:
            text_at(axes, x[node] + 0.06, y[node], shortened(picture.names[node], _CHARACTERS), size=9.0)
    _draw_ruler(axes, scale)


def _draw_ruler(axes: Axes, scale: float) -> None:
    """A line of a round length, with that length."""
    wanted = 1.0 / scale
    size = next(unit for unit in (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0) if unit <= wanted)
    if size:
        axes.plot([MARGIN, MARGIN + scale * size], [0.14] * 2, color=LIGHT["quiet"], linewidth=1.4)
        text_at(axes, MARGIN + scale * size + 0.07, 0.14, f"length {size:g} nats", size=8.0, colour=LIGHT["quiet"])


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    """A small text over the lines that it covers."""
    box = {"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.85, "pad": 0.3}
    axes.annotate(text, (x, y), fontsize=6.5, color=LIGHT["quiet"], ha="right", va="center", bbox=box, zorder=4)


def _line(support: float | None) -> dict[str, Any]:
    """A full line for a firm edge, a dashed one for another; without samples all are full."""
    is_firm = support is None or support >= FIRM
    dashes: Any = "solid" if is_firm else (0, (2.2, 1.6))
    return {"color": LIGHT["ink" if is_firm else "quiet"], "linewidth": 1.1, "linestyle": dashes}


def _share(support: float | None) -> str:
    return "" if support is None else f"{support:.0%}"
