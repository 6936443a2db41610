"""The claims that are simulated, beside Theorem 1's own: each holds, its controls fail, its figures are in order."""

from pathlib import Path

import pytest

from conclusions import faults
from joma.claims.registry import select
from joma.claims.workspace import Workspace
from joma.records import Verdict, agreement_from_json

IDS = [
    "theorem1.several_queries",
    "reduced_equals_full",
    "discretisation.sgd",
    "discretisation.adam",
    "embeddings.almost_orthogonal",
]


@pytest.fixture(scope="module")
def agreements(tmp_path_factory):
    told = []
    folder: Path = tmp_path_factory.mktemp("work")
    workspace = Workspace(folder, num_seeds=3, progress=lambda what, done, total: told.append(done / total))
    found = {claim.id: claim.load()(workspace) for claim in select(IDS)}
    assert told.count(1.0) == len(IDS)
    return found


@pytest.mark.parametrize("id", IDS)
def test_it_holds_and_every_control_fails_in_every_seed(agreements, id):
    agreement = agreements[id]
    criterion, sign = agreement.criterion, 1 if agreement.criterion.relation == "<=" else -1
    assert agreement.verdict is Verdict.HOLDS
    assert all(sign * value <= sign * criterion.threshold for value in agreement.measured.values)
    for control in agreement.controls:
        assert all(sign * value > sign * criterion.threshold for value in control.estimate.values)


@pytest.mark.parametrize("id", IDS)
def test_what_is_found_can_be_drawn_and_kept(agreements, id):
    agreement = agreements[id]
    assert agreement_from_json(agreement.to_json()).verdict is agreement.verdict
    assert agreement.charts
    for chart in agreement.charts:
        for curve in chart.curves:
            assert chart.x_scale == "linear" or min(curve.x) > 0
            assert chart.y_scale == "linear" or min(curve.y) > 0


def findings(agreement):
    return {finding.name: finding.estimate for finding in agreement.findings}


def test_query_by_query_it_holds_where_hidden_units_are_divided(agreements, tolerance):
    found = findings(agreements["theorem1.several_queries"])
    assert max(found["drift query by query, each hidden unit trained by one query"].values) < tolerance(
        "simulation.solver"
    )


def test_drift_of_descent_is_of_first_order_and_adds_up_from_its_steps(agreements, tolerance):
    found = findings(agreements["discretisation.sgd"])
    assert all(abs(slope - 1) < tolerance("simulation.slope") for slope in found["slope, SGD"].values)
    (ratio,) = (estimate for name, estimate in found.items() if "Σ_steps" in name)
    assert all(abs(value - 1) < tolerance("simulation.accumulated") for value in ratio.values)


def test_adam_does_not_mend_with_smaller_steps(agreements):
    shares = [e.mean for name, e in findings(agreements["discretisation.adam"]).items() if name.startswith("drift")]
    assert shares[-1] > shares[0] / 2  # at a tenth of the learning rate


def test_error_without_correction_is_of_first_order_and_within_its_bound(agreements, tolerance):
    found = findings(agreements["embeddings.almost_orthogonal"])
    slope = found["slope of ln(error without correction) over ln(coherence)"]
    assert abs(slope.mean - 1) < tolerance("simulation.order")
    assert min(found["bound / error without correction, smallest over the sizes"].values) >= 1


@pytest.mark.parametrize("id", IDS)
def test_conclusions_are_plain(agreements, id):
    assert not faults(agreements[id].conclusion)
