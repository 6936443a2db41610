"""Mutual information of all pairs of columns at once, and the tree with the most of it (Chow and Liu 1968)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import xlogy

from joma.errors import BadInput
from joma.measure.trees.coding import Codes, starts_of

MOST_CODES = 12_000
"""Codes of all columns together: their pairs take 1.2 GB."""

_MOST_HOT = 100_000_000
"""One-hot codes in memory at once: 400 MB, of fewer than 2²⁴ rows."""

Pairs = Float[np.ndarray, "codes codes"]
"""How many rows have both of two codes; codes of all columns follow one another."""


class PairCounts:
    """Counts of every pair of codes of every pair of columns, each as one product of one-hot codes.

    Args:
        codes: −1 counts nowhere.
        sizes: the number of codes of each column.

    Raises:
        BadInput: more than ``MOST_CODES`` codes.
    """

    def __init__(self, codes: Codes, sizes: np.ndarray) -> None:
        self.sizes, self._codes, self._starts, self._total = sizes, codes, starts_of(sizes), int(sizes.sum())
        if self._total > MOST_CODES:
            raise BadInput(
                f"the columns have {self._total:,} different values or bins",
                expected=f"at most {MOST_CODES:,} in all",
                remedy=f"take fewer columns (about {MOST_CODES * len(sizes) // self._total:,} of these), fewer bins or "
                "coarser categories",
            )
        num_rows = max(1, _MOST_HOT // self._total)
        self._spans = [slice(first, first + num_rows) for first in range(0, len(codes), num_rows)]
        self._kept = self._one_hot(self._spans[0]) if len(self._spans) == 1 else None

    def counts(self, weights: np.ndarray | None = None) -> Pairs:
        """Return the counts in float64; the block of two columns holds their joint counts.

        Args:
            weights: how often each row counts, whole numbers whose sum over rows is below 2²⁴, up to which float32
                counts exactly; ``None`` for once.
        """
        found = np.zeros((self._total, self._total))
        for span in self._spans:
            hot = self._one_hot(span) if self._kept is None else self._kept
            found += hot.T @ (hot if weights is None else hot * weights[span, None].astype(np.float32))
        return found

    def _one_hot(self, span: slice) -> Float[np.ndarray, "rows codes"]:
        part = self._codes[span]
        hot = np.zeros((len(part), self._total), dtype=np.float32)
        rows, columns = np.nonzero(part >= 0)
        hot[rows, part[rows, columns] + self._starts[columns]] = 1
        return hot


def mutual_information(counts: Pairs, sizes: np.ndarray) -> Float[np.ndarray, "n n"]:
    """Return the mutual information of all pairs of columns in nats, less its bias for independent columns.

    The plain estimate is too large by about (k − 1)(l − 1) / 2N for columns of k and l values that occur (Miller 1955),
    which would favour columns of many values. Each pair is estimated from the rows in which both are present.

    Returns:
        0 on the diagonal and where no row has both; may be slightly below 0.
    """
    starts = starts_of(sizes)

    def summed(values: np.ndarray, axis: int) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=axis)

    rows, columns = summed(counts, 1), summed(counts, 0)  # marginal counts within each block
    num = summed(rows, 0)
    whole = summed(summed(xlogy(counts, counts), 1), 0)
    parts = summed(xlogy(rows, rows), 0) + summed(xlogy(columns, columns), 1)
    occur = np.maximum(summed((rows > 0).astype(float), 0) - 1, 0) * np.maximum(
        summed((columns > 0).astype(float), 1) - 1, 0
    )
    at_least_one = np.maximum(num, 1)
    found = (whole - parts + xlogy(num, num) - occur / 2) / at_least_one
    np.fill_diagonal(found, 0)
    return found


def chow_liu(information: Float[np.ndarray, "n n"]) -> Int[np.ndarray, "E 2"]:
    """Return the tree whose edges have the largest total information; its edges, the most informative first."""
    distances = information.max() - information + 1.0  # above 0, because 0 means no edge to SciPy
    tree = minimum_spanning_tree(np.triu(distances, 1)).tocoo()
    edges = np.stack([tree.row, tree.col], axis=1).astype(int)
    return edges[np.argsort(-information[edges[:, 0], edges[:, 1]], kind="stable")]
