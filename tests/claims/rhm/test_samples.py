"""rhm.samples: the verdict follows from where learning curves cross a half."""

from dataclasses import replace

import numpy as np
import pytest

from conclusions import faults
from joma.claims.rhm import samples
from joma.claims.rhm.learning import Case, Learned
from joma.claims.rhm.samples import PLANS, evaluate
from joma.claims.workspace import Profile, Workspace
from joma.records import Verdict
from joma.theory.correlations import correlation_threshold
from joma.train.tree_networks import Schedule, TreeNetworkConfig, TreeNetworks


def curves(power: float, learns_control: bool, learns: str = ""):
    """Replace training by curves that cross a half at (n_c m^L)^power, scaled to 500; all laws or one are learned."""

    def learned(case, seeds, sizes, progress):
        learnable = learns_control if case.uncorrelated else learns in str(case)
        at = 500 * (case.scale / 500) ** power * (1 if learnable else 1e6)
        numbers = tuple(round(multiple * case.scale) for multiple in sizes.multiples)
        shifts = [1 + 0.1 * seed * (case.depth - 3) for seed in seeds]
        errors = np.array([[1 / (1 + (number / at / shift) ** 3) for number in numbers] for shift in shifts])
        laws = tuple(case.law(seed) for seed in seeds)
        networks = TreeNetworks(TreeNetworkConfig(4, 2, 1, 2, 1), [0])
        return Learned(case, numbers, laws, networks, errors)

    return learned


@pytest.mark.parametrize(
    ("power", "learns_control", "verdict"),
    [(1.0, False, Verdict.HOLDS), (2.0, False, Verdict.FAILS), (1.0, True, Verdict.UNDECIDED)],
)
def test_verdict_follows_from_the_curves(tmp_path, monkeypatch, power, learns_control, verdict):
    monkeypatch.setattr(samples, "learned", curves(power, learns_control))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is verdict
    assert not faults(agreement.conclusion)
    found = {finding.name: finding.estimate.mean for finding in agreement.findings}
    if power == 1:
        assert found["slope of ln P* over ln n_c mᴸ"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("learns", "power"), [("L = 4", 1.0), ("", 3.0), ("nothing", 1.0)])
def test_laws_never_or_at_once_half_learned_leave_the_claim_undecided(tmp_path, monkeypatch, learns, power):
    monkeypatch.setattr(samples, "learned", curves(power, False, learns))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is Verdict.UNDECIDED
    assert "halved with the" in agreement.why_undecided
    assert not faults(agreement.conclusion)


@pytest.mark.parametrize("profile", Profile)
def test_laws_are_those_for_which_the_formula_is_derived(profile):
    plan = PLANS[profile]
    for case in plan.cases:
        assert case.num_classes == case.num_symbols <= case.num_synonyms ** (case.depth - 1)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_the_laws_meet_the_criterion_themselves(seed):
    plan = PLANS[Profile.QUICK]
    octaves = np.log2([correlation_threshold(case.law(seed)) / case.scale for case in plan.cases])
    assert np.abs(octaves - octaves.mean()).max() < plan.criterion().threshold


def test_small_laws_give_a_complete_result(tmp_path, monkeypatch):
    plan = PLANS[Profile.QUICK]
    small = replace(
        plan,
        cases=(Case(2, 2, 2), Case(2, 3, 4)),
        control=Case(2, 3, 2, uncorrelated=True),
        sizes=replace(plan.sizes, multiples=(0.25, 0.5), num_held_out=4, width=8, schedule=Schedule(10)),
    )
    monkeypatch.setitem(samples.PLANS, Profile.QUICK, small)
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert {chart.id for chart in agreement.charts} == {"collapse", "samples", "scale"}
    assert len(agreement.controls) == 3
