import numpy as np
import pytest

from joma.errors import BadInput
from joma.measure.trees.information import MOST_CODES, PairCounts, chow_liu, mutual_information


def chain(num_rows: int, seed: int = 0) -> np.ndarray:
    """Six columns of three values; each copies its parent with probability 0.7. The tree is 0–1, 0–2, 1–3, 1–4, 2–5."""
    rng, parents = np.random.default_rng(seed), [-1, 0, 0, 1, 1, 2]
    codes = rng.integers(0, 3, (num_rows, 6))
    for column, parent in enumerate(parents):
        if parent >= 0:
            codes[:, column] = np.where(rng.random(num_rows) < 0.7, codes[:, parent], codes[:, column])
    return codes


EDGES = {(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)}


def by_loops(codes: np.ndarray) -> np.ndarray:
    """Mutual information of each pair by its definition, less the bias, from rows in which both are present."""
    num = codes.shape[1]
    found = np.zeros((num, num))
    for one in range(num):
        for other in range(num):
            rows = codes[(codes[:, one] >= 0) & (codes[:, other] >= 0)]
            if one == other:
                continue
            values, others = np.unique(rows[:, one]), np.unique(rows[:, other])
            for value in values:
                for second in others:
                    joint = ((rows[:, one] == value) & (rows[:, other] == second)).mean()
                    product = (rows[:, one] == value).mean() * (rows[:, other] == second).mean()
                    found[one, other] += joint * np.log(joint / product) if joint else 0
            found[one, other] -= (len(values) - 1) * (len(others) - 1) / (2 * len(rows))
    return found


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_one_product_gives_the_information_of_every_pair(missing):
    codes = chain(300)
    codes[np.random.default_rng(1).random(codes.shape) < missing] = -1
    sizes = np.full(6, 4)
    np.testing.assert_allclose(
        mutual_information(PairCounts(codes, sizes).counts(), sizes), by_loops(codes), atol=1e-12
    )


def test_weights_count_as_repeated_rows():
    codes, sizes = chain(200), np.full(6, 3)
    weights = np.random.default_rng(0).multinomial(200, np.full(200, 1 / 200))
    repeated = PairCounts(np.repeat(codes, weights, axis=0), sizes).counts()
    np.testing.assert_array_equal(PairCounts(codes, sizes).counts(weights), repeated)


def test_counts_in_parts_are_those_at_once(monkeypatch):
    codes, sizes = chain(200), np.full(6, 3)
    whole = PairCounts(codes, sizes).counts()
    monkeypatch.setattr("joma.measure.trees.information._MOST_HOT", 18 * 7)
    np.testing.assert_array_equal(PairCounts(codes, sizes).counts(), whole)


def test_chow_liu_finds_the_tree_that_drew_the_rows_and_not_from_exchanged_columns():
    codes, sizes = chain(2000), np.full(6, 3)

    def edges(of: np.ndarray) -> set[tuple[int, ...]]:
        information = mutual_information(PairCounts(of, sizes).counts(), sizes)
        return {tuple(sorted(edge)) for edge in chow_liu(information).tolist()}

    assert edges(codes) == EDGES
    mixed = np.stack([np.random.default_rng(column).permutation(codes[:, column]) for column in range(6)], axis=1)
    assert edges(mixed) != EDGES


def test_independent_columns_of_many_values_have_no_information_on_average():
    rng, sizes = np.random.default_rng(0), np.array([8, 8])
    found = [
        mutual_information(PairCounts(rng.integers(0, 8, (400, 2)), sizes).counts(), sizes)[0, 1] for _ in range(40)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40) < 0.06  # the plain estimate is 0.061 too large


def test_too_many_codes_are_refused():
    with pytest.raises(BadInput, match="fewer columns"):
        PairCounts(np.zeros((2, 1), dtype=int), np.array([MOST_CODES + 1]))
