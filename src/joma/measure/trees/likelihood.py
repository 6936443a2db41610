"""The distribution of rows that a tree of columns has, and how unlikely a row is under it, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from joma.measure.trees.coding import Codes, starts_of
from joma.measure.trees.information import Pairs

PRIOR = 1.0
"""Rows that each value, and each value of a neighbour, counts in addition: spread evenly, and as the column is."""


@dataclass(frozen=True)
class TreeModel:
    """A distribution over rows: each column depends on its parent in a tree, or on nothing.

    Args:
        sizes: the number of codes of each column.
        order: the columns, parents before children.
        parents: of each column, −1 for none.
        log_own: for each column the log probabilities of its codes, whatever the others are.
        log_given: for each column with a parent (codes of the parent, codes) log conditional probabilities.
    """

    sizes: Int[np.ndarray, " n"]
    order: Sequence[int]
    parents: Int[np.ndarray, " n"]
    log_own: Sequence[np.ndarray]
    log_given: Sequence[np.ndarray | None]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(column, parent) of each edge, in the order of ``relations``."""
        return [(column, int(self.parents[column])) for column in self.order if self.parents[column] >= 0]

    def surprise(self, codes: Codes) -> Float[np.ndarray, " rows"]:
        """Return −ln of the probability of each row, in nats; missing values are summed over, exactly."""
        missing = (codes < 0).any(1)
        found = np.zeros(len(codes))
        for column, (own, given) in enumerate(zip(self.log_own, self.log_given, strict=True)):
            if given is None:
                found -= own.take(codes[:, column], mode="wrap")  # a missing value, −1, is counted below
            else:
                found -= given.take(codes[:, self.parents[column]] * self.sizes[column] + codes[:, column], mode="wrap")
        if missing.any():
            found[missing] = self._summed_over_missing(codes[missing])
        return found

    def parts(self, codes: Codes) -> tuple[Float[np.ndarray, "rows n"], Float[np.ndarray, "rows E"]]:
        """Return how much each column alone, and each edge, adds to the surprise of complete rows.

        A column adds −ln p(x); an edge adds −ln p(x | parent) / p(x), which is below 0 where the two fit together. A
        missing value, and an edge to one, adds 0 here; ``surprise`` then is not the sum.
        """
        own, relations = np.zeros(codes.shape), np.zeros((len(codes), len(self.edges)))
        for column, log_own in enumerate(self.log_own):
            own[:, column] = np.where(codes[:, column] >= 0, -log_own[codes[:, column]], 0)
        for edge, (column, parent) in enumerate(self.edges):
            given = self.log_given[column]
            assert given is not None
            ratio = (self.log_own[column] - given).ravel()
            both = (codes[:, column] >= 0) & (codes[:, parent] >= 0)
            relations[:, edge] = np.where(both, ratio[codes[:, parent] * self.sizes[column] + codes[:, column]], 0)
        return own, relations

    def surprise_given_others(self, codes: Codes) -> tuple[Float[np.ndarray, "rows n"], Codes]:
        """Return −ln p(value | all other columns of the row) for each value, and the code that is most likely there.

        Missing values have 0, and the code −1.
        """
        shape = codes.shape
        found, expected = np.zeros(shape), np.full(shape, -1)
        for column in range(shape[1]):
            there = np.flatnonzero(codes[:, column] >= 0)
            options = np.repeat(codes[there][None], self.sizes[column], axis=0)
            options[:, :, column] = np.arange(self.sizes[column])[:, None]
            surprise = self.surprise(options.reshape(-1, shape[1])).reshape(len(options), -1)
            log_total = np.logaddexp.reduce(-surprise, axis=0)
            found[there, column] = surprise[codes[there, column], np.arange(len(there))] + log_total
            expected[there, column] = surprise.argmin(0)
        return found, expected

    def _summed_over_missing(self, codes: Codes) -> np.ndarray:
        """Messages from the leaves to the roots, scaled so that none becomes too small."""
        num = len(codes)
        messages = [np.ones((num, size)) for size in self.sizes]
        log_scale = np.zeros(num)
        for column in reversed(self.order):
            known = codes[:, column] >= 0
            evidence = np.ones((num, self.sizes[column]))
            evidence[known] = np.arange(self.sizes[column]) == codes[known, column, None]
            here, given = messages[column] * evidence, self.log_given[column]
            if given is None:
                log_scale += np.log(here @ np.exp(self.log_own[column]))
                continue
            upwards = here @ np.exp(given).T
            scale = upwards.max(1, keepdims=True)
            messages[self.parents[column]] *= upwards / scale
            log_scale += np.log(scale[:, 0])
        return -log_scale


def tree_model(counts: Pairs, sizes: np.ndarray, edges: np.ndarray) -> TreeModel:
    """Fit the distribution of a tree, or of a forest, to counts.

    p(x) is smoothed by ``PRIOR`` rows in all for each column, spread evenly; p(x | parent) by as many for each value of
    the parent, spread as p(x). The last code of a column, for values that were not there, is independent of all
    others. Without missing values and smoothing the distribution does not depend on which column is the root.

    Args:
        counts: of pairs of codes; the diagonal blocks hold those of single codes.
        sizes: the number of codes of each column, the last of which counts no row.
        edges: (E, 2) pairs of columns without a cycle; none for independent columns.
    """
    num = len(sizes)
    spans = [slice(int(start), int(start + size)) for start, size in zip(starts_of(sizes), sizes, strict=True)]
    order, parents = _rooted(num, edges)
    own, given = [], []
    for column in range(num):
        of_code = counts[spans[column], spans[column]].diagonal()
        smoothed = of_code + PRIOR / sizes[column]
        own.append(np.log(smoothed / smoothed.sum()))
    for column in range(num):
        if parents[column] < 0:
            given.append(None)
            continue
        rest, new = np.exp(own[column][:-1]), np.exp(own[column][-1])
        joint = counts[spans[parents[column]], spans[column]][:, :-1] + PRIOR * rest
        shares = (1 - new) * joint / joint.sum(1, keepdims=True)
        given.append(np.log(np.concatenate([shares, np.full((len(shares), 1), new)], axis=1)))
    return TreeModel(np.asarray(sizes), order, parents, own, given)


def _rooted(num: int, edges: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The columns with parents before children, and the parents; every tree hangs from its first column."""
    neighbours: list[list[int]] = [[] for _ in range(num)]
    for one, other in np.asarray(edges, dtype=int).reshape(-1, 2).tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    parents, order, seen = np.full(num, -1), [], [False] * num
    for root in range(num):
        if seen[root]:
            continue
        seen[root], reached = True, [root]
        for column in reached:  # grows while it is read
            for other in neighbours[column]:
                if not seen[other]:
                    seen[other], parents[other] = True, column
                    reached.append(other)
        order += reached
    return order, parents
