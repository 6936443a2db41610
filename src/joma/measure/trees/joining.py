"""Trees whose leaves are what was measured: neighbour joining, and the Robinson–Foulds distance of two such trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from joma.errors import InvalidArgument
from joma.extras import extra

FEWEST_LEAVES = 3
"""Fewer leaves have only one tree."""


@dataclass(frozen=True)
class LeafTree:
    """An unrooted tree; its leaves are what was measured, its inner nodes are not.

    Args:
        num_leaves: nodes 0, 1, …, num_leaves − 1 are the leaves.
        edges: (E, 2) pairs of nodes.
        lengths: (E,) of the edges, at least 0.
    """

    num_leaves: int
    edges: Int[np.ndarray, "E 2"]
    lengths: Float[np.ndarray, " E"]

    @cached_property
    def splits(self) -> tuple[int, ...]:
        """For each edge the leaves on the side without leaf 0, as an integer whose bit l stands for leaf l."""
        neighbours: dict[int, list[tuple[int, int]]] = {}
        for edge, (one, other) in enumerate(self.edges.tolist()):
            neighbours.setdefault(one, []).append((other, edge))
            neighbours.setdefault(other, []).append((one, edge))
        below = [1 << node if node < self.num_leaves else 0 for node in range(len(self.edges) + 1)]
        found: dict[int, int] = {}
        order = [(0, -1, -1)]
        for node, parent, _ in order:  # grows while it is read: from leaf 0 outwards
            order += [(child, node, edge) for child, edge in neighbours[node] if child != parent]
        for node, parent, edge in reversed(order[1:]):
            found[edge] = below[node]
            below[parent] |= below[node]
        return tuple(found[edge] for edge in range(len(self.edges)))

    @property
    def is_inner(self) -> list[bool]:
        """For each edge whether it has at least two leaves on both sides, so that not every tree has it."""
        return [1 < split.bit_count() < self.num_leaves - 1 for split in self.splits]

    @property
    def inner_splits(self) -> frozenset[int]:
        """The splits with at least two leaves on both sides, in which trees can differ."""
        return frozenset(split for split, inner in zip(self.splits, self.is_inner, strict=True) if inner)


def permuted_leaves(tree: LeafTree, chance: np.random.Generator) -> LeafTree:
    """Return the same tree with its leaves in a random order."""
    order = np.arange(int(tree.edges.max()) + 1)
    order[: tree.num_leaves] = chance.permutation(tree.num_leaves)
    return LeafTree(tree.num_leaves, order[tree.edges], tree.lengths)


def tree_of_parents(parents: Sequence[int]) -> LeafTree:
    """Return the unrooted tree of a rooted one, all edges of length 1; nodes without children become the leaves.

    Args:
        parents: of each node, −1 for the root; leaves keep their order.

    Raises:
        InvalidArgument: no tree, or fewer than three leaves.
    """
    num, given = len(parents), np.asarray(parents, dtype=int)
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(given.tolist()):
        children.setdefault(parent, []).append(node)
    inner = sorted(set(children) - {-1})
    leaves = [node for node in range(num) if node not in children]
    reached = list(children.get(-1, ()))
    for node in reached:  # grows while it is read: from the root down
        reached += children.get(node, ())
    if len(children.get(-1, ())) != 1 or len(reached) != num or len(leaves) < FEWEST_LEAVES:
        raise InvalidArgument(
            "tree_of_parents",
            "parents",
            required=f"one root (−1), every node below it, and at least {FEWEST_LEAVES} leaves",
            received=f"{parents!r:.80}",
            remedy="give the parent of each node",
        )
    new = {node: place for place, node in enumerate([*leaves, *inner])}
    edges = [(new[node], new[parent]) for node, parent in enumerate(given.tolist()) if parent != -1]
    return LeafTree(len(leaves), np.array(edges), np.ones(len(edges)))


def neighbour_joining(distances: Float[np.ndarray, "n n"]) -> LeafTree:
    """Return the tree that neighbour joining (Saitou and Nei 1987) finds.

    It is the true tree where distances are sums of lengths along a tree, and where each is wrong by less than half of
    the shortest edge. All its inner nodes have three neighbours; a true node with more is resolved by chance.

    Args:
        distances: symmetric, at least 0, with zeros on the diagonal; three or more things.

    Raises:
        InvalidArgument: other distances.
        NotInstalled: scikit-bio is missing (the extra ``trees``).
    """
    distances = np.asarray(distances, dtype=float)
    square = distances.ndim == 2 and distances.shape[0] == distances.shape[1] >= FEWEST_LEAVES
    # NaN and infinity fail the comparison too
    if not square or not (
        np.allclose(distances, distances.T) and (distances >= 0).all() and not np.diagonal(distances).any()
    ):
        received = (
            f"of shape {distances.shape}" if not square else "asymmetric, negative, NaN, or not 0 on its diagonal"
        )
        raise InvalidArgument(
            "neighbour_joining",
            "distances",
            required=f"a symmetric table of numbers of at least 0 for {FEWEST_LEAVES} or more things",
            received=received,
            remedy="check for NaN, and for things that were compared with themselves",
        )
    skbio = extra("skbio", "neighbour joining comes from scikit-bio", name="trees")
    num = len(distances)
    root = skbio.tree.nj(skbio.DistanceMatrix((distances + distances.T) / 2, [str(leaf) for leaf in range(num)]))
    nodes = list(root.preorder())
    names = iter(range(num, len(nodes) + num))
    index = {id(node): int(node.name) if node.is_tip() else next(names) for node in nodes}
    joined = [node for node in nodes if node.parent is not None]
    edges = np.array([(index[id(node)], index[id(node.parent)]) for node in joined])
    return LeafTree(num, edges, np.array([max(0.0, node.length or 0.0) for node in joined]))


def robinson_foulds(one: LeafTree, other: LeafTree) -> float:
    """Return the normalised Robinson–Foulds distance of two trees with the same leaves.

    It is the share of splits of leaves into two groups of two or more, of both trees together, that only one of them
    has: 0 for equal trees, 1 for trees without a common split, and above 0 for a tree and a refinement of it.

    Args:
        one, other: trees; leaf l of one is leaf l of the other.

    Returns:
        0 to 1; 0 if neither has such a split.

    Raises:
        InvalidArgument: different numbers of leaves.
    """
    if one.num_leaves != other.num_leaves:
        raise InvalidArgument(
            "robinson_foulds",
            "other",
            required=f"a tree of {one.num_leaves} leaves",
            received=f"a tree of {other.num_leaves}",
            remedy="compare trees of the same leaves",
        )
    total = len(one.inner_splits) + len(other.inner_splits)
    return len(one.inner_splits ^ other.inner_splits) / total if total else 0.0
