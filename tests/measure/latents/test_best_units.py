"""Units for attributes: the AUC by counting pairs, and what is chosen on one half and scored on the other."""

import numpy as np
import pytest

from joma.errors import InvalidArgument
from joma.measure.latents.detection import best_units

GENERATOR = np.random.default_rng(0)
ATTRIBUTES = GENERATOR.random((400, 6)) < 0.3


def test_planted_units_are_found_and_units_without_a_relation_are_at_chance():
    noise = GENERATOR.normal(size=(400, 50))
    planted = np.hstack([noise, ATTRIBUTES + 0.1 * GENERATOR.random((400, 6))])
    np.testing.assert_allclose(best_units(planted, ATTRIBUTES, seed=1), 1)
    assert abs(best_units(noise, ATTRIBUTES, seed=1).mean() - 0.5) < 0.05


def test_a_negative_unit_is_not_chosen():
    assert best_units(-ATTRIBUTES[:, :1].astype(float), ATTRIBUTES[:, :1], seed=0) == 0


def test_a_rare_attribute_and_bad_units_are_refused():
    rare = np.zeros((400, 1), bool)
    rare[3] = True
    with pytest.raises(InvalidArgument, match="rarer ones"):
        best_units(np.zeros((400, 2)), rare, seed=0)
    with pytest.raises(InvalidArgument, match="`units`"):
        best_units(np.full((400, 2), np.nan), ATTRIBUTES, seed=0)
