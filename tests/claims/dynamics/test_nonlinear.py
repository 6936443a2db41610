"""Figure 4 from the exact solution: three reference values, and a control that fails."""

import pytest

from conclusions import faults
from joma.claims.dynamics.nonlinear import evaluate, targets
from joma.claims.workspace import Workspace
from joma.records import Verdict


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    return evaluate(Workspace(tmp_path_factory.mktemp("claims"), num_seeds=3))


def first(agreement, name):
    return next(finding.estimate.values[0] for finding in agreement.findings if finding.name == name)


def test_figure_4_has_the_numbers_of_the_paper(agreement, tolerance):
    expected = {"entropy at the start": 2.3026, "lowest entropy": 0.9407, "last entropy": 1.5491}
    for name, value in expected.items():
        assert first(agreement, name) == pytest.approx(value, abs=tolerance("closed_form.four_decimals"))
    steps = first(agreement, "steps until attention is sparsest")
    assert steps == pytest.approx(669.8, abs=tolerance("closed_form.tenth_of_a_step"))


def test_targets_equal_the_draw_of_the_paper():
    assert targets(0).tolist() == sorted(targets(0).tolist())
    assert targets(0)[-1] == pytest.approx(3.6893, abs=5e-5)


def test_claim_holds_and_its_control_does_not(agreement):
    assert agreement.verdict is Verdict.HOLDS
    assert agreement.controls[0].estimate.mean == 0.0


def test_explicit_steps_approach_the_exact_solution(agreement, tolerance):
    assert first(agreement, "error of explicit steps, the paper's draw") < tolerance("closed_form.explicit_steps")


def test_the_conclusion_is_plain(agreement):
    assert not faults(agreement.conclusion)
