"""Learn a tree from a table, with the support that bootstrap samples give to each edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from joma.domains import check_seed, check_whole, choose
from joma.errors import BadInput
from joma.measure.trees.coding import coding_of
from joma.measure.trees.distances import correlation_distances, maximal_correlation_distances, normal_scores
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.measure.trees.joining import FEWEST_LEAVES, LeafTree, neighbour_joining
from joma.progress import Progress, silent
from joma.tables.columns import Table

Method = Literal["chow-liu", "neighbour-joining"]

METHODS: dict[Method, str] = {
    "chow-liu": "mutual information (nats)",
    "neighbour-joining": "length (nats)",
}
"""The methods with the meaning of an edge's strength."""

FEWEST_ROWS = 10

BY_SCORES = "correlation of normal scores"
"""The distances of columns that are not put into bins."""

Weights = np.ndarray | None


@dataclass(frozen=True)
class Edge:
    """An edge of a learned tree.

    Args:
        one, other: its nodes; columns are 0 to n − 1, later numbers are inner nodes, which no column stands for.
        strength: mutual information of a Chow–Liu tree, length of a neighbour-joining tree.
        support: share of bootstrap samples whose tree has the same edge (the same split of columns); ``None`` without
            samples, and for edges to a single column of a neighbour-joining tree, which every tree has.
    """

    one: int
    other: int
    strength: float
    support: float | None


@dataclass(frozen=True)
class Tree:
    """A tree learned from a table.

    Args:
        method: of ``METHODS``.
        names: of the columns.
        edges: the most informative first for Chow–Liu.
        num_rows: of the table.
        num_bootstraps: behind each support.
        distances: what neighbour joining was applied to, in words; empty for Chow–Liu.
        num_bins: the most bins of a column of numbers; 0 if none was put into bins.
        seed: of the bootstrap samples.
        left_out: name and reason of every column that could not be used.
    """

    method: Method
    names: Sequence[str]
    edges: Sequence[Edge]
    num_rows: int
    num_bootstraps: int
    distances: str = ""
    num_bins: int = 0
    seed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


def learn(
    table: Table,
    method: Method,
    *,
    num_bootstraps: int,
    seed: int,
    num_bins: int | None = None,
    progress: Progress = silent,
) -> Tree:
    """Learn a tree of columns; ``joma.learn_tree`` explains the arguments.

    Raises:
        BadInput: fewer than ``FEWEST_ROWS`` rows, or too few columns for the method.
        NotInstalled: neighbour joining without scikit-bio.
    """
    choose(method, dict.fromkeys(METHODS), "learn_tree", "method")
    check_whole(num_bootstraps, "learn_tree", "num_bootstraps", low=0, remedy="pass 100, or 0 for no support")
    check_seed(seed, "learn_tree")
    if num_bins is not None:
        check_whole(num_bins, "learn_tree", "num_bins", low=2, high=100, remedy="leave it out")
    least = 2 if method == "chow-liu" else FEWEST_LEAVES
    if table.num_rows < FEWEST_ROWS or len(table.columns) < least:
        raise BadInput(
            f"the table has {table.num_rows} rows and {len(table.columns)} columns that can be used",
            expected=f"at least {FEWEST_ROWS} rows and {least} columns for {method}",
            remedy="give more rows or columns",
        )
    coding = coding_of(table, num_bins)
    learner = _chow_liu if method == "chow-liu" else _neighbour_joining
    keyed, words = learner(table, PairCounts(coding.codes(table), coding.sizes))
    rng = np.random.default_rng(seed)
    found, counts = keyed(None), {}
    for done in range(num_bootstraps):
        progress("bootstrap samples", done, num_bootstraps)
        weights = rng.multinomial(table.num_rows, np.full(table.num_rows, 1 / table.num_rows))
        for key, _ in keyed(weights):
            counts[key] = counts.get(key, 0) + 1
    edges = [
        Edge(*edge[:2], edge[2], counts.get(key, 0) / num_bootstraps if num_bootstraps and key is not None else None)
        for key, edge in found
    ]
    bins = max((len(column.cuts) + 1 for column in coding.columns if not column.categories), default=0)
    return Tree(
        method=method,
        names=table.names,
        edges=edges,
        num_rows=table.num_rows,
        num_bootstraps=num_bootstraps,
        distances=words,
        num_bins=0 if words == BY_SCORES else bins,
        seed=seed,
        left_out=table.left_out,
    )


Keyed = list[tuple[object, tuple[int, int, float]]]
"""Edges (one, other, strength), each with what it is recognised by in the tree of another sample."""


def _chow_liu(table: Table, pairs: PairCounts) -> tuple[Callable[[Weights], Keyed], str]:
    def tree(weights: Weights) -> Keyed:
        information = mutual_information(pairs.counts(weights), pairs.sizes)
        edges = chow_liu(information).tolist()
        return [(frozenset(edge), (*edge, max(0.0, float(information[tuple(edge)])))) for edge in edges]

    return tree, ""


def _neighbour_joining(table: Table, pairs: PairCounts) -> tuple[Callable[[Weights], Keyed], str]:
    by_correlation = all(column.is_number or len(column.categories) == 2 for column in table.columns)
    scores = normal_scores_of(table) if by_correlation else None

    def tree(weights: Weights) -> Keyed:
        if scores is not None:
            joined = neighbour_joining(correlation_distances(scores, weights))
        else:
            joined = neighbour_joining(maximal_correlation_distances(pairs.counts(weights), pairs.sizes))
        return _keyed(joined)

    return tree, BY_SCORES if by_correlation else "maximal correlation"


def normal_scores_of(table: Table) -> np.ndarray:
    """Return the normal scores of the columns of a table, (N, n)."""
    return np.stack([normal_scores(column.values) for column in table.columns], axis=1)


def _keyed(tree: LeafTree) -> Keyed:
    rows = zip(tree.edges.tolist(), tree.splits, tree.is_inner, tree.lengths.tolist(), strict=True)
    return [(split if inner else None, (one, other, length)) for (one, other), split, inner, length in rows]
