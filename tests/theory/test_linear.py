"""The linear dynamics v̇ = Δ exp(αv²): against an integrator, at the corners, up to and past the blow-up."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument
from joma.theory.linear import blow_up_time, linear_solution, linear_status, winner


def test_agrees_with_an_integrator_close_to_the_blow_up(tolerance):
    delta, v0 = np.array([1.0, -0.3, 2.0, 0.0]), np.array([0.5, 0.2, -1.0, 3.0])
    end = 0.999 * blow_up_time(delta, v0).min()
    with_integrator = solve_ivp(
        lambda _, v: delta * np.exp(v**2 / 2), (0, end), v0, method="LSODA", rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(
        linear_solution(delta, end, v0), with_integrator.y[:, -1], rtol=tolerance("closed_form.integrator")
    )


def test_results_agree_with_fifty_digit_arithmetic(tolerance):
    rng = np.random.default_rng(0)
    delta, v0 = rng.uniform(-3, 3, 200), rng.uniform(-8, 8, 200)
    t = blow_up_time(delta, v0) * np.where(rng.random(200) < 0.5, rng.random(200), 1 - 10 ** rng.uniform(-12, 0, 200))
    v = linear_solution(delta, t, v0)
    with mp.workdps(50):
        for d, start, s, place in zip(delta, v0, t, v, strict=True):
            # The closed form as theory.md has it, inverted by Newton's method from the value under test.
            goal = mp.sqrt(2 / mp.pi) * mp.mpf(d) * mp.mpf(s) + mp.erf(mp.mpf(start) / mp.sqrt(2))
            exact = mp.mpf(place)
            for _ in range(4):
                slope = mp.sqrt(2 / mp.pi) * mp.e ** (-(exact**2) / 2)
                exact -= (mp.erf(exact / mp.sqrt(2)) - goal) / slope
            # The effect on v of rounding t and v0 once, in any implementation.
            rounding = mp.e ** (exact**2 / 2) * (abs(d) * s + abs(start) * mp.e ** (-(mp.mpf(start) ** 2) / 2))
            allowed = (
                tolerance("closed_form.relative") * abs(exact)
                + tolerance("closed_form.roundings") * rounding * np.finfo(float).eps
            )
            assert abs(exact - mp.mpf(place)) <= allowed, (d, start, s)


def test_a_start_far_on_the_opposite_side_keeps_its_digits(tolerance):
    v0, t = -13.0, 1e-40
    with mp.workdps(50):
        goal = mp.ncdf(v0) + mp.mpf(t) / mp.sqrt(2 * mp.pi)
        exact = mp.findroot(lambda v: mp.ncdf(v) / goal - 1, v0)
    assert float(linear_solution(1.0, t, v0)) == pytest.approx(float(exact), rel=tolerance("closed_form.relative"))


def test_v_is_infinite_after_the_blow_up_and_the_status_reports_it():
    delta, v0 = torch.tensor([1.0, -2.0, 0.0]).double(), torch.tensor([0.0, 0.5, 1.0]).double()
    times = blow_up_time(delta, v0)
    assert torch.isinf(times[2])
    for late in (1.0, 1 + 1e-12, 2.0, math.inf):
        v = linear_solution(delta, late * times[:2].max(), v0)
        assert v.tolist() == [math.inf, -math.inf, 1.0]
    before = linear_solution(delta[:2], (1 - 1e-9) * times[:2], v0[:2])
    assert torch.isfinite(before).all()
    status = linear_status(delta, 2.0, v0)
    assert status.name == "blown_up"
    assert f"{float(times.min()):.10g}" in status.cause
    assert linear_status(delta, 0.5 * float(times.min()), v0).ok


def test_status_names_the_component_for_all_shapes():
    status = linear_status(torch.tensor([1.0, 2.0, -3.0]), torch.linspace(0, 1, 5)[:, None])
    assert "component 2" in status.cause
    assert linear_status([], 1.0).ok


def test_winner_is_the_first_to_blow_up():
    delta, v0 = torch.tensor([[1.0, 2.0, -3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]), torch.tensor([0.0, 0.0, 0.0])
    assert winner(delta, v0).tolist() == [2, -1, 1]
    assert winner([1.0, 2.0], [1.5, 0.0]).tolist() == 0  # a head start beats the larger gradient
    with pytest.raises(InvalidArgument, match="at least one component"):
        winner(1.0)


def test_relation_between_two_components_never_changes(tolerance):
    delta, v0, t = torch.tensor([1.0, 0.4]).double(), torch.tensor([0.3, -0.5]).double(), torch.linspace(0, 0.8, 9)
    v = linear_solution(delta, t[:, None].double(), v0)
    relation = (torch.erf(v / math.sqrt(2)) / delta).diff(dim=-1)
    torch.testing.assert_close(
        relation, relation[:1].expand_as(relation), rtol=0, atol=tolerance("closed_form.relative")
    )


def test_gradients_agree_with_finite_differences():
    delta = torch.tensor([1.0, -2.0, 0.5, 0.0]).double().requires_grad_()
    v0 = torch.tensor([0.1, 0.4, -1.0, 0.7]).double().requires_grad_()
    t, gain = torch.tensor([[0.1], [0.3]]).double().requires_grad_(), torch.tensor(0.4).double().requires_grad_()
    assert torch.autograd.gradcheck(linear_solution, (delta, t, v0, gain))
    assert torch.autograd.gradcheck(blow_up_time, (delta[:3].detach().requires_grad_(), v0[:3], gain))


@pytest.mark.parametrize(
    ("name", "domain"), [("delta", FINITE), ("t", NON_NEGATIVE), ("v0", FINITE), ("gain", POSITIVE)], ids=str
)
def test_values_outside_the_domain_are_refused(name, domain):
    given = {"delta": 1.0, "t": 0.1, "v0": 0.0, "gain": 0.5}
    for bad in domain.bad_values:
        with pytest.raises(InvalidArgument, match=rf"linear_solution: `{name}`"):
            linear_solution(**given | {name: bad})
