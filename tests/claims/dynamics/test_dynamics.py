"""Theorems 2 to 4 agree with integration and samples, and their controls do not."""

import numpy as np
import pytest

from conclusions import faults
from joma.claims.dynamics import theorem2, theorem3, theorem4
from joma.claims.workspace import Workspace
from joma.records import Verdict


@pytest.mark.parametrize("module", [theorem2, theorem3, theorem4], ids=lambda module: module.__name__)
def test_claim_holds_and_its_controls_fail(module, tmp_path):
    agreement = module.evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is Verdict.HOLDS
    assert agreement.measured.num == 3
    for control in agreement.controls:
        assert control.estimate.mean > 10 * agreement.measured.mean
    assert not faults(agreement.conclusion)
    assert all(np.isfinite(curve.y).all() for chart in agreement.charts for curve in chart.curves)


def test_late_correction_agrees_with_integration(tmp_path, tolerance):
    found = {f.name: f.estimate.values for f in theorem4.evaluate(Workspace(tmp_path, num_seeds=2)).findings}
    integrated = found["correction Λ at the last time, integrated"]
    assert integrated == pytest.approx(
        found["correction Λ at the last time, formula for late times"], abs=tolerance("closed_form.integrator")
    )


def test_more_seeds_decide_theorem_4_once_and_for_all(tmp_path):
    found = [theorem4.evaluate(Workspace(tmp_path, num_seeds=num)) for num in range(1, 8)]
    assert [agreement.verdict for agreement in found] == [Verdict.UNDECIDED] * 2 + [Verdict.HOLDS] * 5
    assert "known for fewer than 3 seeds, which do not show their spread: it takes 3" in found[0].why_undecided
