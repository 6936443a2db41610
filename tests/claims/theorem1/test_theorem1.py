"""The claims of Theorem 1 on two seeds: they are decided by a margin, and their agreements survive JSON."""

import json
from pathlib import Path

import pytest

from conclusions import faults
from joma.claims.registry import select
from joma.claims.workspace import Workspace
from joma.records import Verdict, agreement_from_json


@pytest.fixture(scope="module")
def agreements(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("work")
    return {claim.id: claim.load()(Workspace(folder, num_seeds=2)) for claim in select(["theorem1"])}


@pytest.mark.parametrize("kind", ["linear", "exp"])
def test_invariants_hold_and_the_controls_violate_them(agreements, kind, tolerance):
    agreement = agreements[f"theorem1.{kind}"]
    assert max(agreement.measured.values) < tolerance("simulation.solver")
    assert all(min(control.estimate.values) > tolerance("simulation.moved") for control in agreement.controls)
    kinks = [min(f.estimate.values) for f in agreement.findings if "relu" in f.name]
    assert kinks[0] > 2 * kinks[1] > 0  # four times smaller steps


def test_softmax_correlates_better_than_either_term(agreements):
    agreement = agreements["theorem1.softmax"]
    for control in agreement.controls:
        for whole, part in zip(agreement.measured.values, control.estimate.values, strict=True):
            assert whole > agreement.criterion.threshold > part


def test_softmax_reports_an_error_as_large_as_the_motion(agreements, tolerance):
    found = {finding.name: finding.estimate.mean for finding in agreements["theorem1.softmax"].findings}
    assert found["residual / motion at the end of learning"] > 1
    assert found["drift of Σ z, gradient flow"] < tolerance("simulation.sums")
    assert found["integral identity, gradient flow, drift / motion"] < tolerance("simulation.solver")
    size = f"{found['residual / motion at the end of learning']:.2f} times as large"
    assert size in agreements["theorem1.softmax"].conclusion


def test_agreements_survive_json(agreements):
    for agreement in agreements.values():
        text = json.dumps(agreement.to_json(), allow_nan=False)
        assert json.dumps(agreement_from_json(json.loads(text)).to_json()) == text
        assert agreement.charts
        assert agreement.verdict is not Verdict.FAILS


def test_conclusions_are_plain(agreements):
    assert not [fault for agreement in agreements.values() for fault in faults(agreement.conclusion)]
