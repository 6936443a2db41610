"""Information distances of all pairs of columns: −ln of a correlation that multiplies along the paths of a tree."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import rankdata

from joma.measure.trees.coding import starts_of
from joma.measure.trees.information import Pairs

Distances = Float[np.ndarray, "n n"]


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return each number as the normal quantile of its rank, equal numbers equally; NaN stays NaN."""
    found = np.full(values.shape, np.nan)
    present = ~np.isnan(values)
    found[present] = ndtri(rankdata(values[present]) / (present.sum() + 1))
    return found


def correlation_distances(scores: np.ndarray, weights: np.ndarray | None = None) -> Distances:
    """Return −ln|corr| of all pairs of columns, each from the rows in which both are present.

    It is a sum of lengths along the tree if all variables of a latent tree are jointly normal, or if all of them have
    two values.

    Args:
        scores: (N, n), NaN where a value is missing; ``normal_scores``, so that only the order of numbers counts.
        weights: how often each row counts.
    """
    present = ~np.isnan(scores)
    values, there = np.nan_to_num(scores), present.astype(float)
    weight = np.ones((len(scores), 1)) if weights is None else weights[:, None].astype(float)
    num = (there * weight).T @ there
    at_least_one = np.maximum(num, 1)
    mean = (values * weight).T @ there / at_least_one  # of the row's column, where the column's is there
    square = (values**2 * weight).T @ there / at_least_one - mean**2
    joint = (values * weight).T @ values / at_least_one - mean * mean.T
    size = np.sqrt(np.maximum(square * square.T, 0))
    return _distances(np.divide(np.abs(joint), size, out=np.zeros_like(joint), where=size > 0), num)


def maximal_correlation_distances(counts: Pairs, sizes: np.ndarray) -> Distances:
    """Return −ln of the maximal correlation of all pairs of columns of codes.

    It is the second singular value of the joint table, each entry divided by the root of both marginals (Hirschfeld
    1935), and a sum of lengths along the tree if every latent has two values, however many the columns have.

    Args:
        counts: of pairs of values, as ``information`` counts them.
        sizes: the number of codes of each column.
    """
    num, widest = len(sizes), int(sizes.max())
    starts = starts_of(sizes)
    places = starts[:, None] + np.arange(widest)
    kept = np.arange(widest) < sizes[:, None]
    padded = np.where(kept, places, 0)
    found, total = np.zeros((num, num)), np.zeros((num, num))
    for one in range(num):
        of_one = counts[padded[one]][:, padded]  # (codes of one, columns, codes)
        table = np.where(kept[one][:, None, None] & kept, of_one, 0.0).transpose(1, 0, 2)
        rows, columns = table.sum(2, keepdims=True), table.sum(1, keepdims=True)
        roots = np.sqrt(rows * columns)
        scaled = np.divide(table, roots, out=np.zeros_like(table), where=roots > 0)
        found[one], total[one] = np.linalg.svd(scaled, compute_uv=False)[:, 1], table.sum((1, 2))
    return _distances(found, total)


def _distances(correlations: np.ndarray, num: np.ndarray) -> Distances:
    """Correlations below that of chance, 1/√N, count as that: nothing more is known of them."""
    least = 1 / np.sqrt(np.maximum(num, 2))
    found = -np.log(np.clip((correlations + correlations.T) / 2, least, 1.0))
    np.fill_diagonal(found, 0)
    return found
