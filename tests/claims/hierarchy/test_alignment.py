"""hierarchy.alignment: training increases the alignment with latents, and the controls do not."""

from dataclasses import replace

import numpy as np
import pytest

from conclusions import faults
from joma.claims.hierarchy import alignment as hierarchy_alignment
from joma.claims.hierarchy.alignment import RANDOM, SIZES, TREE, evaluate
from joma.claims.hierarchy.levels import curve_of, gain
from joma.claims.workspace import Profile, Workspace
from joma.records import Verdict


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    return evaluate(Workspace(tmp_path_factory.mktemp("claims")))


@pytest.mark.slow
def test_training_has_a_gain_and_the_controls_have_none(agreement, tolerance):
    assert agreement.verdict is Verdict.HOLDS
    for control in agreement.controls:
        assert abs(control.estimate.mean) < tolerance("hierarchy.no_gain")


@pytest.mark.slow
def test_labels_are_learned_and_accuracy_on_the_tree_stays_below_its_ceiling(agreement, tolerance):
    found = {finding.name: finding.estimate for finding in agreement.findings}
    assert found[f"{RANDOM}: accuracy"].mean > 0.5  # of twenty labels
    ceiling = found[f"{TREE}: highest possible accuracy"].mean
    assert 0.9 * ceiling < found[f"{TREE}: accuracy"].mean < ceiling + tolerance("learning.accuracy")


@pytest.mark.slow
def test_gain_is_zero_without_training(tmp_path, monkeypatch):
    sizes = SIZES[Profile.QUICK]
    subjects = tuple(replace(subject, num_steps=4, learning_rate=1e-12) for subject in sizes.subjects)
    still = replace(sizes, subjects=subjects, width=16, hidden=64, num_samples=200, num_permutations=5)
    monkeypatch.setitem(hierarchy_alignment.SIZES, Profile.QUICK, still)
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is Verdict.FAILS
    assert not faults(agreement.conclusion)
    found = {finding.name: finding.estimate for finding in agreement.findings}
    for name in (TREE, RANDOM):
        for level in (0, 1):
            scores = (found[f"{name}, level {level}: {what}"] for what in ("score", "score before training"))
            assert next(scores).values == pytest.approx(next(scores).values)
    assert {chart.id for chart in agreement.charts} == {
        f"{kind}_{name.replace(' ', '_')}" for kind in ("course", "layers") for name in (TREE, RANDOM)
    }


def test_gain_is_the_share_of_the_distance_to_a_perfect_score():
    np.testing.assert_allclose(gain(np.array([1.0, 0.5, 0.75]), np.array([0.2, 0.5, 0.5])), [1.0, 0.0, 0.5])


def test_curve_has_the_mean_and_a_band_from_lowest_to_highest_seed():
    curve = curve_of("score", (0, 10), np.array([[0.0, 1.0], [0.5, 2.0], [1.0, 6.0]]), "measured")
    assert (curve.low, curve.y, curve.high) == ([0.0, 1.0], [0.5, 3.0], [1.0, 6.0])
