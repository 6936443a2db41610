"""Identities that hold for all inputs: semigroup, monotonicity, symmetry, permutation, changes of time, limits."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given, settings

from joma.theory.linear import blow_up_time, linear_solution
from joma.theory.nonlinear import late_offset, log_convergence, nonlinear_solution
from joma.theory.normalized import attention_entropy_over_time, normalized_solution, sparsest_time
from joma.theory.normalized_linear import normalized_linear_solution
from tolerances import TOLERANCES

EPS = torch.finfo(torch.float64).eps
RELATIVE = TOLERANCES["closed_form.relative"].bound
SUMS = TOLERANCES["closed_form.sums"].bound
ROUNDINGS = TOLERANCES["closed_form.roundings"].bound * EPS

places = st.floats(-5, 5)
gains = st.floats(0.05, 1.0)
times = st.floats(-6, 3).map(lambda exponent: 10.0**exponent)
shared = settings(max_examples=60, deadline=None)


def vectors(size):
    return st.lists(st.floats(-3, 3), min_size=size, max_size=size).map(lambda v: torch.tensor(v, dtype=torch.float64))


def speed(v, gain):
    return math.exp(min(700.0, gain * v * v))


@shared
@given(places, places, times, times, gains)
def test_solving_in_two_steps_equals_one_step(mu, v0, first, second, gain):
    halfway = nonlinear_solution(mu, first, v0, gain)
    u = float(log_convergence(mu, first, v0, gain)) + float(log_convergence(mu, second, halfway, gain))
    at_once = nonlinear_solution(mu, first + second, v0, gain)
    on_the_way = nonlinear_solution(mu, second, halfway, gain)
    # Rounding the time, or the place halfway, moves the end by this much.
    slope = abs(mu - v0) * math.exp(-min(u, 700.0)) * speed(float(at_once), gain)
    lost = ROUNDINGS * ((first + second) * slope + 5 * max(1.0, speed(float(at_once), gain) / speed(v0, gain)))
    assume(lost < 1e-3)
    assert float(at_once) == pytest.approx(float(on_the_way), rel=RELATIVE, abs=lost + RELATIVE)


@shared
@given(places, places, times, st.floats(1.0, 10.0), gains)
def test_v_moves_towards_its_target_and_not_beyond(mu, v0, time, later, gain):
    early, late = (float(nonlinear_solution(mu, t, v0, gain)) for t in (time, later * time))
    low, high = min(mu, v0), max(mu, v0)
    assert low <= early <= high
    assert abs(mu - late) <= abs(mu - early)


@shared
@given(places, places, times, gains)
def test_symmetry_under_change_of_sign(mu, v0, time, gain):
    assert float(nonlinear_solution(mu, time, v0, gain)) == -float(nonlinear_solution(-mu, time, -v0, gain))
    assert float(linear_solution(mu, time, v0, gain)) == -float(linear_solution(-mu, time, -v0, gain))
    assert float(late_offset(mu, v0, gain)) == float(late_offset(-mu, -v0, gain))


@shared
@given(vectors(4), vectors(4), times, gains, st.permutations(range(4)))
def test_permuting_components_permutes_the_solution(mu, v0, time, gain, order):
    torch.testing.assert_close(
        normalized_solution(mu, time, v0, gain)[..., order],
        normalized_solution(mu[order], time, v0[order], gain),
        rtol=RELATIVE,
        atol=RELATIVE,
    )


@shared
@given(places, places, st.floats(-6, 1).map(lambda exponent: 10.0**exponent), gains, st.floats(0.2, 5.0))
def test_changing_the_gain_is_a_change_of_unit(mu, v0, time, gain, factor):
    unit = math.sqrt(factor)
    assert float(log_convergence(mu, time, v0, gain)) == pytest.approx(
        float(log_convergence(mu * unit, time, v0 * unit, gain / factor)), rel=ROUNDINGS * speed(5, gain)
    )


@shared
@given(st.floats(0.1, 3), st.floats(-2, 2), st.floats(0.01, 0.95), st.floats(0.1, 10))
def test_linear_times_scale_inversely_with_the_gradient(delta, v0, share, factor):
    time = share * float(blow_up_time(delta, v0))
    assert float(blow_up_time(factor * delta, v0)) == pytest.approx(float(blow_up_time(delta, v0)) / factor, rel=SUMS)
    assert float(linear_solution(factor * delta, time / factor, v0)) == pytest.approx(
        float(linear_solution(delta, time, v0)), rel=RELATIVE, abs=SUMS
    )


@shared
@given(places, places, times, gains)
def test_the_derivative_satisfies_the_differential_equation(mu, v0, time, gain):
    t = torch.tensor(time, dtype=torch.float64, requires_grad=True)
    v = nonlinear_solution(mu, t, v0, gain)
    (slope,) = torch.autograd.grad(v, t)
    distance = abs(mu - v0) * math.exp(-min(700.0, float(log_convergence(mu, time, v0, gain))))
    assert abs(float(slope)) == pytest.approx(distance * speed(float(v.detach()), gain), rel=RELATIVE)


@shared
@given(vectors(3), vectors(3), times, gains)
def test_shared_attention_is_a_change_of_time(mu, v0, time, gain):
    """Every component of the normalised solution equals the one without normalisation, at one common time."""
    v = normalized_solution(mu, time, v0, gain)
    assume(float((mu - v0).abs().min()) > 0.1)
    u = torch.log((mu - v0) / (mu - v))
    assume(float(u.max()) < 8)
    clock = torch.tensor([float(passing_time(*parts, gain)) for parts in zip(mu, v0, v, strict=True)])
    torch.testing.assert_close(
        clock, clock[:1].expand(3), rtol=TOLERANCES["closed_form.trapezoid"].bound, atol=RELATIVE
    )


def passing_time(mu, v0, v, gain):
    """∫ exp(−αw²)/(μ − w) dw by the trapezoidal rule in ln(μ − w)."""
    u = torch.linspace(0, 1, 20001, dtype=torch.float64) * torch.log((mu - v0) / (mu - v))
    return torch.trapezoid(torch.exp(-gain * (mu - (mu - v0) * torch.exp(-u)) ** 2), u)


@shared
@given(vectors(3), vectors(3), times, gains)
def test_progress_of_shared_linear_attention_sums_to_time(delta, v0, time, gain):
    assume(float(delta.abs().min()) > 0.05)
    v = normalized_linear_solution(delta, time, v0, gain)
    assert float(((v - v0) / delta).sum()) == pytest.approx(time, rel=RELATIVE, abs=SUMS)


@shared
@given(vectors(4), times, gains)
def test_entropy_is_between_zero_and_its_maximum(mu, time, gain):
    entropy = float(attention_entropy_over_time(mu, time, 0.05, gain))
    assert -SUMS <= entropy <= math.log(4) + SUMS


@settings(max_examples=8, deadline=None)
@given(vectors(4), gains)
def test_entropy_is_lowest_at_the_sparsest_time(mu, gain):
    lowest = float(sparsest_time(mu, 0.05, gain).entropy_nats)
    everywhere = attention_entropy_over_time(mu, torch.logspace(-3, 6, 60), 0.05, gain)
    assert lowest <= float(everywhere.min()) + SUMS


@shared
@given(places, places, gains)
@example(0.0, 5e-324, 1.0)
def test_limits_at_time_zero_and_infinity(mu, v0, gain):
    assert float(nonlinear_solution(mu, 0.0, v0, gain)) == v0
    assert float(nonlinear_solution(mu, math.inf, v0, gain)) == mu
    soon = 1e-9 / speed(v0, gain) / (1 + abs(v0 * (mu - v0)))
    assert float(log_convergence(mu, soon, v0, gain)) == pytest.approx(
        soon * speed(v0, gain), rel=TOLERANCES["closed_form.early"].bound
    )
