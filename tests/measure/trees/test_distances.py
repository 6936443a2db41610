import numpy as np
import pytest

from joma.measure.trees.distances import correlation_distances, maximal_correlation_distances, normal_scores
from joma.measure.trees.information import PairCounts
from joma.measure.trees.joining import neighbour_joining, robinson_foulds, tree_of_parents

PARENTS = [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def leaves(num_rows: int, num_values: int, seed: int = 0) -> np.ndarray:
    """Leaves of a tree of two-valued latents; a leaf of more values spreads each of the two over half of them."""
    rng = np.random.default_rng(seed)
    nodes = rng.integers(0, 2, (num_rows, len(PARENTS)))
    for node, parent in enumerate(PARENTS[1:], start=1):
        nodes[:, node] = np.where(rng.random(num_rows) < 0.85, nodes[:, parent], 1 - nodes[:, parent])
    found = nodes[:, 7:]
    half = num_values // 2
    return found if num_values == 2 else found * half + rng.integers(0, half, found.shape)


def test_correlations_are_numpys_where_nothing_is_missing():
    values = np.random.default_rng(0).normal(size=(200, 3)) @ np.random.default_rng(1).normal(size=(3, 5))
    weights = np.random.default_rng(2).integers(0, 3, 200)
    expected = np.minimum(-np.log(np.abs(np.corrcoef(values.T))), np.log(200) / 2)  # below 1/√N is chance
    np.testing.assert_allclose(correlation_distances(values), expected, atol=1e-12)
    repeated = np.repeat(values, weights, axis=0)
    np.testing.assert_allclose(correlation_distances(values, weights), correlation_distances(repeated), atol=1e-12)


def test_each_pair_is_correlated_over_the_rows_that_have_both():
    values = np.random.default_rng(0).normal(size=(100, 2)) @ np.array([[1, 1], [0, 1]])
    values[:30, 0] = values[80:, 1] = np.nan
    expected = -np.log(abs(np.corrcoef(values[30:80].T)[0, 1]))
    assert correlation_distances(values)[0, 1] == pytest.approx(expected, abs=1e-12)


def test_normal_scores_keep_only_the_order():
    values = np.array([3.0, np.nan, 1.0, 2.0, 2.0])
    np.testing.assert_array_equal(normal_scores(values), normal_scores(np.exp(values)))
    assert normal_scores(values)[3] == normal_scores(values)[4] == pytest.approx(0, abs=1e-12)


def test_of_two_values_maximal_correlation_is_correlation():
    codes, sizes = leaves(500, 2), np.full(8, 2)
    found = maximal_correlation_distances(PairCounts(codes, sizes).counts(), sizes)
    np.testing.assert_allclose(found, correlation_distances(codes.astype(float)), atol=1e-10)


@pytest.mark.parametrize("num_values", [2, 6])
def test_neighbour_joining_finds_the_latent_tree_and_not_from_exchanged_columns(num_values):
    pytest.importorskip("skbio", reason="the extra trees")
    codes, sizes, tree = leaves(4000, num_values), np.full(8, num_values), tree_of_parents(PARENTS)

    def distance(of: np.ndarray) -> float:
        found = neighbour_joining(maximal_correlation_distances(PairCounts(of, sizes).counts(), sizes))
        return robinson_foulds(found, tree)

    assert distance(codes) == 0
    mixed = np.stack([np.random.default_rng(column).permutation(codes[:, column]) for column in range(8)], axis=1)
    assert distance(mixed) > 0.5
