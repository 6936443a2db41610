"""The area under the ROC curve, by counting pairs."""

import numpy as np
import pytest

from joma.roc import auc, of_one


def test_auc_is_the_share_of_pairs_in_the_right_order_and_ties_count_half():
    generator = np.random.default_rng(0)
    units, has_it = generator.integers(4, size=(50, 3)).astype(float), generator.random((50, 2)) < 0.3
    found = auc(units, has_it)
    for unit, attribute in np.ndindex(3, 2):
        with_it, without = units[has_it[:, attribute], unit], units[~has_it[:, attribute], unit]
        pairs = np.sign(with_it[:, None] - without)
        assert found[unit, attribute] == pytest.approx(((pairs + 1) / 2).mean())


def test_auc_of_an_attribute_that_all_entries_have_is_undefined():
    assert np.isnan(auc(np.zeros((4, 1)), np.ones((4, 1), bool))).all()


def test_auc_of_one_number_for_one_attribute_is_one_number():
    assert of_one(np.array([0.0, 1.0, 1.0, 2.0]), np.array([False, False, True, True])) == 7 / 8
