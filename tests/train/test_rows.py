import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from joma.train.rows import RowDecoder, RowSettings, train_rows

SIZES = np.array([3, 2, 3, 2])
SMALL = RowSettings(60, batch_size=64, learning_rate=1e-2, width=16, num_heads=2, hidden=32)


def rows(num: int = 400) -> np.ndarray:
    """Column 2 copies column 0; column 3 copies column 1."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, num) for size in SIZES], axis=1)
    codes[:, 2], codes[:, 3] = codes[:, 0], codes[:, 1]
    return codes


def test_probabilities_of_all_rows_sum_to_one_with_missing_values_as_values():
    every = np.array(list(itertools.product(*(range(-1, size) for size in SIZES))))
    surprise = RowDecoder(SIZES, SMALL).surprise(every)
    assert np.exp(-surprise.sum(1)).sum() == pytest.approx(1, abs=1e-5)


def test_training_learns_the_relations_and_not_from_exchanged_columns():
    codes = rows()
    usual, broken = np.array([[0, 1, 0, 1]]), np.array([[0, 1, 2, 0]])
    mixed = np.stack([np.random.default_rng(at).permutation(codes[:, at]) for at in range(4)], axis=1)

    def gap(learned_from: np.ndarray) -> float:
        decoder = train_rows(learned_from, SIZES, SMALL)
        return float((decoder.surprise(broken) - decoder.surprise(usual)).sum())

    assert gap(codes) > 4
    assert abs(gap(mixed)) < 1


def test_attention_goes_to_earlier_columns_and_sums_to_at_most_one():
    found = RowDecoder(SIZES, SMALL).attention(rows(50))
    known = ~np.isnan(found)
    assert known.tolist() == np.tril(np.ones((4, 4), dtype=bool), -2).tolist()
    assert (np.nansum(found, axis=1) <= 1).all()
    assert found[2, 0] == pytest.approx(1 / 3, abs=0.1)  # nearly uniform before training: start, column 0, column 1


def test_training_is_the_same_each_time_and_leaves_the_random_state_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, other = (train_rows(rows(100), SIZES, SMALL).surprise(rows(20)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_other_columns_the_loss_of_a_value_is_that_of_its_frequency():
    codes = rows()
    codes[:, 0] = np.where(codes[:, 0] == 1, 0, codes[:, 0])  # 0 twice as often as 2
    decoder = train_rows(codes, SIZES, replace(SMALL, sees_columns=False, num_steps=200))
    shares = np.array([[np.mean(codes[:, at] == code) for code in (0, 1)] for at in range(4)])
    found = np.exp(-decoder.surprise(np.array([[0, 0, 0, 0], [2, 1, 1, 1], [0, 1, 2, 0]])))
    np.testing.assert_allclose(found[0], shares[:, 0], atol=0.06)
    np.testing.assert_array_equal(found[2, [0, 3]], found[0, [0, 3]])  # whatever the columns before them hold
