"""`Dynamics` equals the solutions of the separate modules; the time of the sparsest attention, with both kinds."""

import math

import pytest
import torch

from joma.arrays import REAL
from joma.theory.dynamics import Dynamics, paper_figure4, solve
from joma.theory.linear import linear_solution
from joma.theory.nonlinear import nonlinear_solution
from joma.theory.normalized import attention_entropy_over_time, normalized_solution, sparsest_time
from joma.theory.normalized_linear import linear_attention_entropy_over_time, normalized_linear_solution

RATES, V0, GAIN = torch.tensor([3.0, 2.0, 0.5], dtype=REAL), torch.full((3,), 0.1, dtype=REAL), 0.4
TIMES = torch.tensor([0.0, 0.1, 0.3], dtype=REAL)


@pytest.mark.parametrize(
    ("symbol", "attention", "expected"),
    [
        ("μ", "exp", nonlinear_solution(RATES, TIMES[:, None], V0, GAIN)),
        ("Δ", "exp", linear_solution(RATES, TIMES[:, None], V0, GAIN)),
        ("μ", "softmax", normalized_solution(RATES, TIMES, V0, GAIN)),
        ("Δ", "softmax", normalized_linear_solution(RATES, TIMES, V0, GAIN)),
    ],
)
def test_dynamics_equal_the_solution_of_the_matching_module(symbol, attention, expected):
    assert torch.equal(solve(Dynamics(symbol, RATES, V0, GAIN, attention), TIMES).v, expected)


def test_the_papers_figure_4_has_ten_components_that_start_at_a_twentieth():
    dynamics = paper_figure4()
    assert dynamics.rates.tolist() == torch.linspace(1, 4, 10, dtype=REAL).tolist()
    found = solve(dynamics, TIMES)
    assert torch.equal(found.entropy, attention_entropy_over_time(dynamics.rates, TIMES, 0.05, 1 / 3))
    linear = solve(paper_figure4("Δ"), TIMES)
    assert torch.equal(linear.entropy, linear_attention_entropy_over_time(dynamics.rates, TIMES, 0.05, 1 / 3))
    assert linear.sparsest is None


def test_the_sparsest_state_is_the_same_with_and_without_normalisation(tolerance):
    softmax, plain = (Dynamics("μ", RATES, V0, GAIN, kind).sparsest() for kind in ("softmax", "exp"))
    assert softmax.time == float(sparsest_time(RATES, V0, GAIN).time)
    assert plain.time < softmax.time
    assert softmax.is_inner
    assert plain.is_inner
    assert (softmax.v - plain.v).abs().max() < tolerance("closed_form.integrator")


def test_attention_that_only_gets_sparser_is_sparsest_at_infinity():
    found = solve(
        Dynamics("μ", torch.tensor([2.0, 0.0], dtype=REAL), torch.zeros(2, dtype=REAL), 0.5, "softmax"), [0.0]
    )
    assert found.sparsest.time == math.inf
    assert not found.sparsest.is_inner
    assert found.sparsest.v.tolist() == pytest.approx([2.0, 0.0])


def test_a_fine_solution_ends_just_before_the_first_blow_up():
    solution = solve(Dynamics("Δ", RATES, V0, GAIN, "exp"), [0.0, 10.0])
    fine = solution.fine()
    first = float(solution.dynamics.blow_ups.min())
    assert solution.status.name == "blown_up"
    assert float(fine.times[-1]) <= first
    assert first - float(fine.times[-2]) < 1e-9 * first
    assert (fine.times.diff() > 0).all()


def test_a_fine_solution_reaches_a_sparsest_time_that_is_not_far():
    dynamics = Dynamics("μ", RATES, V0, GAIN, "softmax")
    sparsest = dynamics.sparsest().time
    assert float(solve(dynamics, [0.0, sparsest / 2]).fine().times[-1]) == 2 * sparsest
    assert float(solve(dynamics, [0.0, sparsest / 20]).fine().times[-1]) == sparsest / 20
    assert set(TIMES.tolist()) <= set(solve(dynamics, TIMES).fine().times.tolist())
