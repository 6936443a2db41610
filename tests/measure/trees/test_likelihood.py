import itertools

import numpy as np
import pytest

from joma.measure.trees.information import PairCounts
from joma.measure.trees.likelihood import TreeModel, tree_model

SIZES = np.array([3, 4, 3, 2, 3])
EDGES = np.array([[1, 0], [1, 2], [3, 2]])  # and column 4 alone


def model(missing: float = 0.0, edges: np.ndarray = EDGES) -> TreeModel:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size - 1, 60) for size in SIZES], axis=1)  # the last code counts no row
    codes[:, 0] = np.minimum(codes[:, 1], 1)
    codes[rng.random(codes.shape) < missing] = -1
    return tree_model(PairCounts(codes, SIZES).counts(), SIZES, edges)


ALL = np.array(list(itertools.product(*map(range, SIZES))))


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("edges", [EDGES, EDGES[:0]])
def test_probabilities_of_all_rows_sum_to_one(missing, edges):
    assert np.exp(-model(missing, edges).surprise(ALL)).sum() == pytest.approx(1, abs=1e-12)


def test_missing_values_are_summed_over_exactly():
    found, probabilities = model(), np.exp(-model().surprise(ALL))
    for row in ([-1, 1, -1, 0, 1], [0, -1, 1, -1, -1], [-1] * 5, [-1, -1, 2, -1, 0]):
        fits = np.all((row == ALL) | (np.array(row) < 0), axis=1)
        assert found.surprise(np.array([row]))[0] == pytest.approx(-np.log(probabilities[fits].sum()), abs=1e-12)


def test_parts_of_a_complete_row_sum_to_its_surprise():
    found = model()
    own, relations = found.parts(ALL)
    assert relations.shape[1] == len(EDGES)
    np.testing.assert_allclose(own.sum(1) + relations.sum(1), found.surprise(ALL), atol=1e-12)


def test_one_relation_adds_at_most_the_logarithm_of_the_rows_of_the_neighbours_value():
    """Which is what docs/anomalies.md says: a pair that never occurred is no more surprising than that."""
    codes = np.repeat(np.arange(4), [180, 50, 30, 20])[:, None] * [1, 1]
    sizes = np.array([5, 5])
    found = tree_model(PairCounts(codes, sizes).counts(), sizes, np.array([[0, 1]]))
    never = np.array([[parent, other] for parent in range(4) for other in range(4) if parent != other])
    limit = np.log1p(np.array([180, 50, 30, 20])[never[:, 0]])
    assert found.parts(never)[1][:, 0] == pytest.approx(limit, abs=0.005)


def test_surprise_given_others_is_the_conditional_probability_by_enumeration():
    found, row = model(), np.array([[0, 2, -1, 1, 0]])
    surprise, expected = found.surprise_given_others(row)
    for column in (0, 1, 3, 4):
        options = np.repeat(row, SIZES[column], axis=0)
        options[:, column] = np.arange(SIZES[column])
        joint = np.exp(-found.surprise(options))
        assert surprise[0, column] == pytest.approx(-np.log(joint[row[0, column]] / joint.sum()), abs=1e-12)
        assert expected[0, column] == joint.argmax()
    assert (surprise[0, 2], expected[0, 2]) == (0, -1)


def test_a_broken_relation_surprises_the_tree_and_not_the_model_without_edges():
    usual, broken = np.array([[1, 1, 0, 0, 0]]), np.array([[0, 1, 0, 0, 0]])  # column 0 follows column 1
    assert model().surprise(broken)[0] > model().surprise(usual)[0] + 2
    alone = model(edges=EDGES[:0])
    assert abs(alone.surprise(broken)[0] - alone.surprise(usual)[0]) < 1


def test_values_that_were_not_there_are_independent_of_the_others():
    found = model()
    new, old = np.array([[2, 0, 0, 0, 0], [2, 2, 0, 0, 0]]), np.array([[0, 0, 0, 0, 0], [0, 2, 0, 0, 0]])
    own, relations = found.parts(new)
    assert own[0, 0] > found.parts(old)[0][0, 0] + 2
    edge = found.edges.index((1, 0)) if (1, 0) in found.edges else found.edges.index((0, 1))
    np.testing.assert_allclose(relations[:, edge], 0, atol=0.05)
