"""hierarchy.expressible: constructed weights are exact, trained ones are compared with them."""

from dataclasses import replace

import pytest

from conclusions import faults
from joma.claims.hierarchy import expressible as hierarchy_expressible
from joma.claims.hierarchy import table1 as hierarchy_table1
from joma.claims.hierarchy.table1 import SIZES
from joma.claims.workspace import Profile, Workspace
from joma.records import Verdict


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    small = replace(SIZES[Profile.QUICK], width=16, hidden=64, num_steps=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hierarchy_table1.SIZES, Profile.QUICK, small)
        return hierarchy_expressible.evaluate(Workspace(tmp_path_factory.mktemp("claims"), num_seeds=3))


def test_constructed_weights_are_exact_and_the_controls_are_not(agreement, tolerance):
    found = {finding.name: finding.estimate for finding in agreement.findings}
    assert agreement.verdict is Verdict.HOLDS
    assert found["accuracy"].values == (1.0, 1.0, 1.0)
    assert max(found["worst error of a unit"].values) < tolerance("expressive.units")
    for control in agreement.controls:
        assert agreement.criterion.met_by(control.estimate) is False


def test_gap_and_trained_score_add_up_to_the_constructed_score(agreement):
    found = {finding.name: finding.estimate.mean for finding in agreement.findings}
    gap = found["gap: score of the constructed weights minus score of the trained network"]
    assert gap + found["trained on the same hierarchy: score"] == pytest.approx(agreement.measured.mean)
    assert 0 < gap < 1


def test_exhaustive_search_counts_hierarchies_that_need_another_layer(agreement):
    finding = next(finding for finding in agreement.findings if "one layer is too few" in finding.name)
    assert "844 unambiguous" in finding.name  # 1512 less 668, docs/expressiveness
    assert finding.estimate.values == (22 / 844,)


def test_the_conclusion_is_plain(agreement):
    assert not faults(agreement.conclusion)
