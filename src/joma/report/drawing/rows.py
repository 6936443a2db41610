"""The layout of a hierarchy in rows, tokens at the bottom, with few crossing lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import edges_of, hierarchy_of
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law

_NUM_SWEEPS = 30

Edges = Int[np.ndarray, "E 2"]
"""Lines from a row to the row above: (node below, node above)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The layout of a hierarchy.

    Args:
        places: for each row, tokens first, the horizontal positions of its nodes, between 0 and 1; NaN for tokens that
            are no member of a latent.
        edges: for each row except the top one, the lines to the row above.
    """

    places: tuple[Float[np.ndarray, " n"], ...]
    edges: tuple[Edges, ...]

    @property
    def num_hidden(self) -> int:
        """The number of tokens that are no member of a latent."""
        return int(np.isnan(self.places[0]).sum())


def rows_of(law: Law) -> Rows:
    """Return the layout of a law: labels on top (one node for a latent tree), then levels, tokens at the bottom."""
    hierarchy = hierarchy_of(law)
    if isinstance(hierarchy, RandomHierarchy):
        sizes = (hierarchy.length, *hierarchy.num_places, 1)
        return Rows(tuple(_middles(size) for size in sizes), tuple(pairs.numpy() for pairs in edges_of(hierarchy)))
    return _tree_rows(hierarchy) if isinstance(hierarchy, LatentTree) else _layered_rows(hierarchy)


def num_crossings(rows: Rows) -> int:
    """Return the number of crossings of two lines."""
    between = zip(rows.places[:-1], rows.places[1:], rows.edges, strict=True)
    return sum(_crossings(low[pairs[:, 0]], high[pairs[:, 1]]) for low, high, pairs in between)


def _tree_rows(tree: LatentTree) -> Rows:
    """Leaves evenly spaced in depth-first order, every parent above the middle of its children."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents[1:], start=1):
        children.setdefault(parent, []).append(node)
    place: dict[int, float] = {}
    met = 0
    stack = [(0, False)]
    while stack:
        node, is_done = stack.pop()
        below = children.get(node, [])
        if is_done:
            place[node] = (place[below[0]] + place[below[-1]]) / 2
        elif below:
            stack += [(node, True), *((child, False) for child in reversed(below))]
        else:
            place[node] = (met + 0.5) / tree.num_tokens
            met += 1
    places = tuple(np.array([place[node] for node in level]) for level in reversed(tree.levels))
    return Rows(places, tuple(pairs.numpy() for pairs in edges_of(tree)))


def _layered_rows(law: Combinatorial) -> Rows:
    """Every row evenly spaced, in the best order found by sweeps that sort nodes by the mean of their neighbours."""
    edges = [pairs.numpy() for pairs in edges_of(law)]
    shown = sorted(set(edges[0][:, 0].tolist()))
    orders = [shown, *(list(range(len(level))) for level in law.members)]
    sizes = (law.num_tokens, *map(len, law.members))
    best = _evenly_spaced(orders, sizes, edges)
    for sweep in range(_NUM_SWEEPS):
        upwards = sweep % 2 == 0
        for row in range(1, len(orders)) if upwards else range(len(orders) - 2, -1, -1):
            other = row - 1 if upwards else row + 1
            pairs = edges[min(row, other)][:, [1, 0] if upwards else [0, 1]]
            orders[row] = _by_mean(orders[row], orders[other], pairs)
        best = min(best, _evenly_spaced(orders, sizes, edges), key=num_crossings)
    return best


def _evenly_spaced(orders: Sequence[Sequence[int]], sizes: Sequence[int], edges: Sequence[Edges]) -> Rows:
    places = []
    for order, size in zip(orders, sizes, strict=True):
        at = np.full(size, np.nan)
        at[list(order)] = _middles(len(order))
        places.append(at)
    return Rows(tuple(places), tuple(edges))


def _middles(num: int) -> Float[np.ndarray, " n"]:
    """The middles of equal parts of the width."""
    return (np.arange(num) + 0.5) / num


def _by_mean(order: Sequence[int], neighbours: Sequence[int], pairs: Edges) -> list[int]:
    """A row sorted by the mean rank of each node's neighbours in another row; without neighbours, by its own rank."""
    rank = {node: idx / len(neighbours) for idx, node in enumerate(neighbours)}
    own = {node: idx / len(order) for idx, node in enumerate(order)}
    met: dict[int, list[float]] = {node: [] for node in order}
    for node, other in pairs.tolist():
        met[node].append(rank[other])
    return sorted(order, key=lambda node: sum(met[node]) / len(met[node]) if met[node] else own[node])


def _crossings(low: Float[np.ndarray, " E"], high: Float[np.ndarray, " E"]) -> int:
    return int(((low[:, None] < low) & (high[:, None] > high)).sum())
