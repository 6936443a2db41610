"""Softmax attention: against an integrator, the relation t = Σu, and the time of the sparsest attention."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from joma.errors import InvalidArgument
from joma.theory.normalized import attention_entropy_over_time, normalized_solution, sparsest_time
from joma.theory.normalized_linear import linear_attention_entropy_over_time, normalized_linear_solution


def attention(v, gain):
    weights = np.exp(gain * v**2 - (gain * v**2).max())
    return weights / weights.sum()


PROBLEMS = {
    "figure 4": (np.linspace(1, 4, 10), np.full(10, 0.05), 1 / 3, 20.0),
    "e³² apart": (np.array([8.0, 7.9, 3.0, 0.0, -2.0]), np.array([0.0, 0.0, 5.0, 1.0, 1.0]), 0.5, 20.0),
    "two equal winners": (np.array([8.0, 8.0, 3.0]), np.array([0.1, 0.1, 0.1]), 0.5, 3.0),
    "beyond and across": (np.array([1.0, -2.0, 0.5]), np.array([3.0, 2.0, 0.5]), 0.4, 2.0),
    "one": (np.array([2.0]), np.array([-1.0]), 0.5, 0.7),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_agrees_with_an_integrator(name, tolerance):
    mu, v0, gain, t = PROBLEMS[name]
    path = solve_ivp(lambda _, v: (mu - v) * attention(v, gain), (0, t), v0, method="DOP853", rtol=1e-12, atol=1e-13).y[
        :, -1
    ]
    np.testing.assert_allclose(
        normalized_solution(mu, t, v0, gain), path, rtol=0, atol=tolerance("closed_form.integrator")
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_linear_counterpart_agrees_with_an_integrator(name, tolerance):
    delta, v0, gain, t = PROBLEMS[name]
    path = solve_ivp(lambda _, v: delta * attention(v, gain), (0, t), v0, method="DOP853", rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        normalized_linear_solution(delta, t, v0, gain), path.y[:, -1], rtol=tolerance("closed_form.integrator")
    )


def test_time_is_the_sum_of_u_over_components(tolerance):
    mu, v0, t = torch.tensor([3.0, -1.0, 0.5]).double(), torch.tensor([0.1, 0.2, 2.0]).double(), torch.linspace(0, 9, 7)
    v = normalized_solution(mu, t.double(), v0, 0.4)
    total = torch.log((mu - v0) / (mu - v)).sum(-1)
    torch.testing.assert_close(total, t.double(), rtol=0, atol=tolerance("closed_form.sums"))


def test_axes_are_batch_time_component():
    mu = torch.rand(2, 3, 4)
    assert normalized_solution(mu, torch.rand(5)).shape == (2, 3, 5, 4)
    assert normalized_solution(mu, torch.rand(3, 5)).shape == (2, 3, 5, 4)
    assert normalized_solution(mu, 1.0).shape == (2, 3, 4)
    assert attention_entropy_over_time(mu, torch.rand(5)).shape == (2, 3, 5)
    assert normalized_solution(torch.zeros(0, 4), torch.rand(5)).shape == (0, 5, 4)
    assert sparsest_time(torch.zeros(0, 4)).time.shape == (0,)
    assert isinstance(attention_entropy_over_time(mu.numpy(), 1.0), np.ndarray)


def test_values_at_start_and_infinite_time_are_exact():
    mu, v0 = torch.tensor([8.0, 0.0, -3.0]).double(), torch.tensor([0.0, 1.0, 1.0]).double()
    v = normalized_solution(mu, [0.0, math.inf], v0)
    assert v[0].tolist() == v0.tolist()
    assert v[1].tolist() == mu.tolist()
    v = normalized_linear_solution([[1.0, 2.0, -2.0], [0.0, 0.0, 0.0]], [0.0, math.inf], 0.0)
    assert v[0, 1, 1:].tolist() == [math.inf, -math.inf]
    assert math.isfinite(v[0, 1, 0])
    assert v[1].tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("size", [1e-10, 1.0, 8.0, 30.0])
def test_v_is_finite_at_every_scale_and_time(size):
    rng = np.random.default_rng(5)
    mu, v0 = size * rng.uniform(-1, 1, (2, 4, 5))
    t = np.concatenate([[0.0], 10 ** rng.uniform(-30, 30, 8), [math.inf]])
    v = normalized_solution(mu, t, v0)
    assert ((np.minimum(mu, v0)[:, None] <= v) & (v <= np.maximum(mu, v0)[:, None])).all()
    assert not np.isnan(normalized_linear_solution(mu, t, v0)).any()


def test_gradients_agree_with_finite_differences():
    mu = torch.tensor([3.0, -2.0, 1.0]).double().requires_grad_()
    v0 = torch.tensor([0.1, 0.2, 0.15]).double().requires_grad_()
    t, gain = torch.tensor([0.3, 9.0]).double().requires_grad_(), torch.tensor(0.4).double().requires_grad_()
    assert torch.autograd.gradcheck(normalized_solution, (mu, t, v0, gain))


@pytest.mark.slow
def test_gradients_of_entropy_and_its_lowest_agree_with_finite_differences():
    mu = torch.tensor([3.0, 2.0, 1.0]).double().requires_grad_()
    t, gain = torch.tensor([0.3, 9.0]).double().requires_grad_(), torch.tensor(0.4).double().requires_grad_()
    assert torch.autograd.gradcheck(attention_entropy_over_time, (mu, t, torch.tensor(0.1).double(), gain))
    assert torch.autograd.gradcheck(lambda mu, gain: sparsest_time(mu, 0.1, gain), (mu, gain))


def test_linear_counterpart_refuses_arguments_that_require_gradients():
    with pytest.raises(InvalidArgument, match="detach"):
        normalized_linear_solution(torch.ones(2, requires_grad=True), 1.0)


def test_entropy_is_lowest_at_the_reported_time(tolerance):
    mu, v0, gain = torch.tensor([3.5, 2.5, 1.5, -1.0]).double(), 0.1, 0.4
    time, entropy = sparsest_time(mu, v0, gain)
    around = attention_entropy_over_time(mu, time * torch.tensor([0.99, 1.0, 1.01]).double(), v0, gain)
    assert around[1] < around[0]
    assert around[1] < around[2]
    assert float(entropy) == pytest.approx(float(around[1]), rel=tolerance("closed_form.relative"))


def test_a_minimum_at_start_or_end_is_reported_as_time_zero_or_infinity():
    assert sparsest_time([1.0, 1.0]).time == 0
    assert sparsest_time([2.0]).time == 0
    assert sparsest_time([4.0, 0.0], [0.1, 0.05]).time == math.inf
    assert sparsest_time([0.0, 0.0], [3.0, 1.0]).time == 0


def test_linear_attention_only_gets_sparser():
    entropy = linear_attention_entropy_over_time([4.0, 3.0, 2.9, 1.0], torch.linspace(0, 200, 500), 0.05, 1 / 3)
    assert (entropy.diff() <= 0).all()
    assert linear_attention_entropy_over_time([2.0, -2.0, 1.0], math.inf) == pytest.approx(math.log(2))


@pytest.mark.parametrize("function", [normalized_solution, normalized_linear_solution])
@pytest.mark.parametrize(
    ("given", "message"),
    [((2.0, 1.0), "at least one component"), (([1.0], -1.0), "`t`"), (([1.0], 1.0, 0.0, [0.5, 0.4]), "one number")],
)
def test_invalid_arguments_are_refused(function, given, message):
    with pytest.raises(InvalidArgument, match=message):
        function(*given)


def test_a_winner_beyond_double_precision_is_refused():
    with pytest.raises(InvalidArgument, match="`delta` is as large as 1e\\+200"):
        normalized_linear_solution([1e200, 1.0], [0.0, 1.0])
