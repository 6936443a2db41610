"""Theorem 5 agrees with samples of trees; slightly different formulas do not."""

import numpy as np
import pytest
import torch

from conclusions import faults
from joma.claims.hierarchy.theorem5 import EXAMPLE, EXAMPLE_HEIGHT, SIGNS, Setting, evaluate, simulated, sum_product
from joma.claims.workspace import Workspace
from joma.records import Verdict


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    return evaluate(Workspace(tmp_path_factory.mktemp("claims"), num_seeds=3))


def test_claim_holds_and_its_controls_fail(agreement):
    assert agreement.verdict is Verdict.HOLDS
    assert agreement.measured.num == 3
    assert len(agreement.controls) == 2
    for control in agreement.controls:
        assert control.estimate.mean > 10 * agreement.measured.mean


def test_worked_example_is_reproduced(agreement, tolerance):
    simulated_share, formula = (
        next(f.estimate for f in agreement.findings if f.name.endswith(ending)) for ending in ("simulated", "formula")
    )
    assert formula.values == pytest.approx([0.5216], abs=tolerance("closed_form.four_decimals"))
    assert simulated_share.mean == pytest.approx(formula.mean, abs=tolerance("theorem5.share"))


def test_unequal_polarities_violate_the_formula_but_not_sum_product(agreement):
    found = {f.name: f.estimate.mean for f in agreement.findings}
    assert found["unequal polarities: largest error of the formula"] > 0.02
    assert found["unequal polarities: largest deviation from sum–product"] < agreement.criterion.threshold


@pytest.mark.parametrize("label_sign", SIGNS)
def test_shares_belong_to_their_heights(label_sign):
    certain = Setting(1.0, 0.5, 3)  # all leaves below one top latent are alike
    found = simulated(certain.tree(), label_sign, 2000, torch.Generator().manual_seed(0))
    assert found.share[:2].tolist() == [1.0, 1.0]
    assert 0 < found.share[2] < 1
    np.testing.assert_array_equal(sum_product(certain.tree(), label_sign)[:2], [1.0, 1.0])


def test_standard_errors_equal_the_spread_over_repetitions(tolerance):
    draws = [simulated(EXAMPLE.tree(), -1, 500, torch.Generator().manual_seed(seed)) for seed in range(200)]
    spread = np.std([draw.share[EXAMPLE_HEIGHT - 1] for draw in draws], ddof=1)
    claimed = np.mean([draw.standard_error[EXAMPLE_HEIGHT - 1] for draw in draws])
    assert spread == pytest.approx(claimed, rel=tolerance("theorem5.spread"))


def test_the_conclusion_is_plain(agreement):
    assert not faults(agreement.conclusion)
