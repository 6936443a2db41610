"""What is shown of a tree learned from a table: a table for the terminal, a record, and the data of its picture."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from joma.report.drawing.tables import table_of
from joma.report.drawing.trees import FIRM, Branch, TreePicture
from joma.report.drawing.words import format_number

if TYPE_CHECKING:
    from rich.table import Table

    from joma.measure.trees.learning import Edge, Tree

MOST_ROWS = 40
"""Edges in a terminal's table."""

_TITLES = {"chow-liu": "Chow–Liu tree of {}", "neighbour-joining": "Neighbour-joining tree of {}"}


def name_of(tree: Tree, node: int) -> str:
    """Return the name of a column, or a number for an inner node."""
    return tree.names[node] if node < len(tree.names) else f"({node - len(tree.names) + 1})"


def tree_record(tree: Tree) -> dict[str, Any]:
    """Return the tree as plain data."""
    edges = [
        {"one": name_of(tree, edge.one), "other": name_of(tree, edge.other), "strength": edge.strength}
        | {"support": edge.support}
        for edge in tree.edges
    ]
    about = {"method": tree.method, "strength": strength_of(tree), "distances": tree.distances or None}
    counts = {"num_rows": tree.num_rows, "num_bins": tree.num_bins, "num_bootstraps": tree.num_bootstraps}
    used = {"seed": tree.seed, "left_out": dict(tree.left_out)}
    return about | counts | used | {"columns": list(tree.names), "edges": edges}


def tree_facts(tree: Tree) -> dict[str, str]:
    """Return how a tree was made, by name; what does not apply is empty."""
    means = {
        "chow-liu": "Chow–Liu: the edges with the most mutual information in total",
        "neighbour-joining": f"neighbour joining: lengths whose sums fit −ln of the {tree.distances}",
    }
    return {
        "Rows": f"{tree.num_rows:,}",
        "Columns": f"{len(tree.names):,}",
        "Left out": "; ".join(f"{name} {reason}" for name, reason in tree.left_out.items()),
        "Method": means[tree.method],
        "Numbers": f"in at most {tree.num_bins} bins of about equally many rows" if tree.num_bins else "",
        "Support": f"{tree.num_bootstraps} bootstrap samples, seed {tree.seed}"
        if tree.num_bootstraps
        else "not measured",
    }


def strength_of(tree: Tree) -> str:
    """Return what the strength of an edge is, with its unit."""
    return "mutual information (nats)" if tree.method == "chow-liu" else "length (nats)"


def tree_table(tree: Tree) -> Table:
    """Return the edges for a terminal: of a neighbour-joining tree those that not every tree has."""
    rows = edge_rows(tree)
    more = f"and {len(rows) - MOST_ROWS:,} more edges" if len(rows) > MOST_ROWS else ""
    table = table_of(("between", "and", strength_of(tree), "support"), left=("between", "and"), caption=more or None)
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    return table


def edge_rows(tree: Tree) -> list[tuple[str, str, str, str]]:
    """Return both sides, strength and support of each edge as texts: of a neighbour-joining tree of inner edges."""
    return [
        (
            _side(tree, edge.one, edge.other),
            _side(tree, edge.other, edge.one),
            format_number(edge.strength, 3),
            "–" if edge.support is None else f"{edge.support:.0%}",
        )
        for edge in tree.edges
        if not is_outer(tree, edge)
    ]


def is_outer(tree: Tree, edge: Edge) -> bool:
    """Return whether an edge leads to a single column of a neighbour-joining tree."""
    return tree.method == "neighbour-joining" and min(edge.one, edge.other) < len(tree.names)


def conclusion(tree: Tree) -> str:
    """Return the tree in a sentence."""
    size = f"{len(tree.names)} columns, {tree.num_rows:,} rows"
    inner = [edge for edge in tree.edges if not is_outer(tree, edge)]
    if not tree.num_bootstraps:
        return f"{size}; {len(inner)} edges, whose support was not measured"
    firm = sum(edge.support is not None and edge.support >= FIRM for edge in inner)
    text = f"{size}; {firm} of {len(inner)} edges are in at least {FIRM:.0%} of {tree.num_bootstraps} bootstrap samples"
    strongest = max(inner, key=lambda edge: edge.strength, default=None)
    if tree.method == "chow-liu" and strongest is not None:
        text += f"; the strongest joins {name_of(tree, strongest.one)} and {name_of(tree, strongest.other)}"
    return text


def tree_picture(tree: Tree) -> TreePicture:
    """Return the tree with its most central node as the root, for ``write_tree``."""
    neighbours = _neighbours(tree)
    root = _centre(neighbours)
    children: dict[int, list[Branch]] = {}
    order, seen = [root], {root}
    for node in order:  # grows while it is read
        for edge in neighbours.get(node, ()):
            other = edge.one + edge.other - node
            if other not in seen:
                seen.add(other)
                order.append(other)
                children.setdefault(node, []).append(Branch(other, edge.strength, edge.support))
    by_length = tree.method == "neighbour-joining"
    if not by_length:
        children = {node: sorted(below, key=lambda one: -one.strength) for node, below in children.items()}
    subtitle = f"{tree.num_rows:,} rows. "
    if by_length:
        subtitle += f"Lengths are −ln of the {tree.distances}, summed along the tree. "
    if tree.num_bootstraps:
        subtitle += f"Support: share of {tree.num_bootstraps} bootstrap samples; dashed below {FIRM:.0%}."
    num = f"{len(tree.names)} columns"
    names = dict(enumerate(tree.names))
    return TreePicture(
        names, root, children, by_length, strength_of(tree), _TITLES[tree.method].format(num), subtitle.strip()
    )


def _neighbours(tree: Tree) -> dict[int, list[Edge]]:
    found: dict[int, list[Edge]] = {}
    for edge in tree.edges:
        found.setdefault(edge.one, []).append(edge)
        found.setdefault(edge.other, []).append(edge)
    return found


def _centre(neighbours: dict[int, list[Edge]]) -> int:
    """The last node that is left when leaves are taken away again and again."""
    degree = {node: len(edges) for node, edges in neighbours.items()}
    leaves = deque(node for node, num in degree.items() if num <= 1)
    last = leaves[0]
    while leaves:
        last = leaves.popleft()
        for edge in neighbours[last]:
            other = edge.one + edge.other - last
            degree[other] -= 1
            if degree[other] == 1:
                leaves.append(other)
    return last


def _side(tree: Tree, node: int, other: int) -> str:
    """The name of a column; of an inner node the columns on its side of the edge to ``other``."""
    if node < len(tree.names):
        return tree.names[node]
    neighbours, found, stack = _neighbours(tree), [], [(node, other)]
    while stack:
        here, came_from = stack.pop()
        if here < len(tree.names):
            found.append(here)
        ends = [edge.one + edge.other - here for edge in neighbours[here]]
        stack += [(end, here) for end in ends if end != came_from]
    names = [tree.names[column] for column in sorted(found)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
