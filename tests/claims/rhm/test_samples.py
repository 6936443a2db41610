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
from joma.train.tree_networks import Schedule, TreeNetworkConfig, TreeNetworks


def curves(power: float, learns_control: bool):
    """Replace training by curves that cross a half at (n_c m^L)^power, scaled to 100."""

    def learned(case, seeds, sizes, progress, **_):
        at = 100 * (case.scale / 100) ** power * (1 if learns_control or not case.uncorrelated else 1e6)
        numbers = tuple(round(multiple * case.scale) for multiple in sizes.multiples)
        shifts = [1 + 0.1 * seed * (case.depth - 3) for seed in seeds]
        errors = np.array([[1 / (1 + (number / at / shift) ** 3) for number in numbers] for shift in shifts])
        laws = tuple(case.law(seed) for seed in seeds)
        networks = TreeNetworks(TreeNetworkConfig(4, 2, 1, 2, 1), [0])
        return Learned(case, numbers, laws, networks, errors)

    return learned


@pytest.mark.parametrize(
    ("power", "learns_control", "verdict"),
    [(1.0, False, Verdict.HOLDS), (3.0, False, Verdict.FAILS), (1.0, True, Verdict.UNDECIDED)],
)
def test_verdict_follows_from_the_curves(tmp_path, monkeypatch, power, learns_control, verdict):
    monkeypatch.setattr(samples, "learned", curves(power, learns_control))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is verdict
    assert not faults(agreement.conclusion)
    found = {finding.name: finding.estimate.mean for finding in agreement.findings}
    if power == 1:
        assert found["slope of ln P* over ln n_c mᴸ"] == pytest.approx(1, abs=0.05)


def test_small_laws_give_a_complete_result(tmp_path, monkeypatch):
    plan = PLANS[Profile.QUICK]
    sizes = replace(plan.sizes, num_held_out=32, width=8, schedule=Schedule(10))
    small = replace(
        plan, cases=(Case(2, 2, 2), Case(2, 3, 4)), control=Case(2, 3, 2, True), sizes=sizes, control_sizes=sizes
    )
    sizes = replace(sizes, multiples=(0.25, 0.5), num_held_out=4)
    monkeypatch.setitem(samples.PLANS, Profile.QUICK, replace(small, sizes=sizes, control_sizes=sizes))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert {chart.id for chart in agreement.charts} == {"collapse", "samples", "scale"}
    assert len(agreement.controls) == 3
