"""The exact solution of v̇ = (μ − v) exp(αv²): 50 digits, legal corners, gradients, what it refuses."""

import math

import numpy as np
import pytest
import torch
from fifty_digits import Path, mp

from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument
from joma.theory.nonlinear import (
    late_offset,
    log_convergence,
    nonlinear_solution,
    speed_ratio,
    speed_ratio_correction,
    speed_ratio_limit,
)


def random_points(num, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-8, 8, num), rng.uniform(-8, 8, num), 10 ** rng.uniform(-6, 6, num)


def points_near_zero(num, seed=2):
    """Targets around 0, starts close to their targets, and both."""
    rng = np.random.default_rng(seed)
    mu = rng.choice([-1, 1], num) * 10 ** rng.uniform(-8, 0, num)
    v0 = np.where(rng.random(num) < 0.5, rng.uniform(-8, 8, num), mu + rng.normal(size=num) * 10 ** rng.uniform(-6, 0))
    return mu, v0, 10 ** rng.uniform(-3, 2, num)


def moving_points(num, seed=1):
    """Points between start and target, which random times rarely hit: t is the time of a random place."""
    rng = np.random.default_rng(seed)
    mu, v0 = rng.uniform(-8, 8, num), rng.uniform(-8, 8, num)
    share = np.where(rng.random(num) < 0.5, rng.random(num), 1 - 10 ** rng.uniform(-9, 0, num))
    t = [float(Path(m, v).time(-mp.log1p(-mp.mpf(s)))) for m, v, s in zip(mu, v0, share, strict=True)]
    return mu, v0, np.array(t)


@pytest.mark.parametrize("points", [random_points, points_near_zero, moving_points])
def test_results_agree_with_fifty_digit_arithmetic(points, tolerance):
    mu, v0, t = points(60)
    u, v = log_convergence(mu, t, v0), nonlinear_solution(mu, t, v0)
    for j in range(len(mu)):
        path = Path(mu[j], v0[j])
        exact = path.log_convergence(t[j], u[j])
        # The effect on u of rounding t once, in any implementation.
        rounding = float(path.speed(exact)) * t[j] * np.finfo(float).eps
        allowed = tolerance("closed_form.relative") + tolerance("closed_form.roundings") * rounding
        assert abs(float(mp.mpf(u[j]) - exact)) <= allowed * max(1, float(exact)), (mu[j], v0[j], t[j])
        allowed = tolerance("closed_form.relative") * abs(path.v(exact)) + tolerance(
            "closed_form.roundings"
        ) * rounding * abs(mu[j] - path.v(exact))
        assert abs(mp.mpf(v[j]) - path.v(exact)) <= allowed, (mu[j], v0[j], t[j])


@pytest.mark.parametrize(("mu", "expected"), [(3.0, 0.61656), (2.0, 0.85850), (1.0, 0.53425), (0.5, 0.17199)])
def test_late_offsets_equal_the_values_in_the_theory_docs(mu, expected, tolerance):
    assert float(late_offset(mu)) == pytest.approx(expected, abs=tolerance("closed_form.five_decimals"))


def test_u_approaches_its_limit_for_large_t(tolerance):
    mu, v0, t = torch.tensor([2.0, -1.5, 0.0, 3.0]).double(), torch.tensor([0.3, 2.0, 1.0, -2.0]).double(), 60.0
    late = torch.exp(mu**2 / 2) * (t - late_offset(mu, v0))
    torch.testing.assert_close(log_convergence(mu, t, v0), late, rtol=tolerance("closed_form.relative"), atol=0)


@pytest.mark.parametrize(
    ("mu", "v0", "t", "expected"),
    [
        (2.0, 2.0, 3.0, 2.0),
        (0.0, 0.0, 1e6, 0.0),
        (-2.0, 1.0, 0.0, 1.0),
        (-2.0, 1.0, math.inf, -2.0),
        (0.0, 8.0, math.inf, 0.0),
        (8.0, 0.0, 1e3, 8.0),
        (8.0, 8.0, 1e6, 8.0),
        (40.0, -40.0, math.inf, 40.0),
    ],
)
def test_values_at_start_target_and_infinite_time_are_exact(mu, v0, t, expected):
    assert float(nonlinear_solution(mu, t, v0)) == expected


@pytest.mark.parametrize(("mu", "v0"), [(1e-3, 0.0), (-2.0, 5.0), (3.0, -6.0), (8.0, -8.0), (0.0, 3.0), (20.0, -20.0)])
def test_v_is_monotonic_from_start_to_target(mu, v0):
    t = torch.cat([torch.zeros(1), torch.logspace(-20, 8, 400)]).double()
    v = nonlinear_solution(mu, t, v0)
    steps = v.diff() * math.copysign(1.0, mu - v0)
    assert (steps >= 0).all()
    assert float(v[0]) == v0
    assert torch.isfinite(v).all()


def test_components_of_very_different_sizes_can_share_a_call(tolerance):
    mu, t = torch.tensor([8.0, 1.0, 0.0, -8.0]).double(), torch.tensor([0.1, 1.0, 10.0])[:, None].double()
    together = nonlinear_solution(mu, t)
    alone = torch.stack([torch.stack([nonlinear_solution(m, s[0]) for m in mu]) for s in t])
    torch.testing.assert_close(together, alone, rtol=tolerance("closed_form.relative"), atol=0)


def test_broadcasts_in_every_arrangement(tolerance):
    rng = np.random.default_rng(2)
    mu, v0, t = rng.normal(size=(3, 1, 2)), rng.normal(size=(1, 4, 1)), rng.random((5, 3, 1, 1))
    v = nonlinear_solution(mu, t, v0, gain=np.array([0.3, 0.7]))
    assert isinstance(v, np.ndarray)
    assert v.shape == (5, 3, 4, 2)
    at = (3, 1, 2, 1)
    alone = nonlinear_solution(mu[1, 0, 1], t[3, 1, 0, 0], v0[0, 2, 0], 0.7)
    assert v[at] == pytest.approx(float(alone), rel=tolerance("closed_form.relative"))


def test_a_large_batch_equals_many_small_ones(tolerance):
    rng = np.random.default_rng(3)
    mu, v0, t = rng.uniform(-5, 5, (2, 2500)), rng.uniform(-5, 5, 2500), 10 ** rng.uniform(-3, 3, (5, 1, 1))
    v, c = nonlinear_solution(mu, t, v0), late_offset(mu, v0)
    for column in (0, 1023, 1024, 2499):
        alone = nonlinear_solution(mu[:, column], t[..., 0], v0[column])
        np.testing.assert_allclose(v[:, :, column], alone, rtol=tolerance("closed_form.relative"))
        np.testing.assert_allclose(
            c[:, column], late_offset(mu[:, column], v0[column]), rtol=tolerance("closed_form.relative")
        )


@pytest.mark.gpu
def test_an_accelerator_gives_the_same_numbers(tolerance):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    mu, v0, t = (torch.from_numpy(part) for part in random_points(2000))
    for function in (nonlinear_solution, log_convergence):
        there = function(mu.cuda(), t.cuda(), v0.cuda())
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), function(mu, t, v0), rtol=tolerance("closed_form.relative"), atol=0)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)])
def test_empty_batches_give_empty_results(shape):
    assert nonlinear_solution(torch.zeros(shape), 1.0).shape == shape
    assert late_offset(torch.zeros(shape)).shape == shape


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, low=-2.0, high=2.0):
        return (torch.rand(shape, generator=generator).double() * (high - low) + low).requires_grad_()

    mu, v0, t, gain = draw(6), draw(6), draw(5, 1, low=0.05, high=2.0), draw(low=0.3, high=0.6)
    assert torch.autograd.gradcheck(nonlinear_solution, (mu, t, v0, gain))
    assert torch.autograd.gradcheck(log_convergence, (mu, t, v0, gain))
    assert torch.autograd.gradgradcheck(log_convergence, (mu, t, v0, gain))
    assert torch.autograd.gradcheck(late_offset, (mu, v0, gain))
    assert torch.autograd.gradcheck(lambda *given: speed_ratio(mu, v0, *given), (t, gain))


def test_gradients_are_finite_at_the_limits_of_the_domain():
    mu = torch.tensor([1.0, 0.0, -3.0, 8.0, 2.0]).double().requires_grad_()
    v0 = torch.tensor([1.0, 0.0, 5.0, -8.0, 0.0]).double().requires_grad_()
    for t, by_mu in [(math.inf, 1.0), (0.0, 0.0)]:
        slopes = torch.autograd.grad(nonlinear_solution(mu, t, v0).sum(), (mu, v0))
        assert slopes[0].tolist() == [by_mu] * 5
        assert slopes[1].tolist() == [1 - by_mu] * 5


def test_speed_ratio_tends_to_its_limit_with_the_late_correction(tolerance):
    mu_j, mu_k, t = 2.0, 1.0, 1e4
    correction = (late_offset(mu_k) - late_offset(mu_j)) / (t - late_offset(mu_k))
    assert float(speed_ratio_limit(mu_j, mu_k)) == pytest.approx(math.exp(1.5), rel=tolerance("closed_form.relative"))
    assert float(speed_ratio_correction(mu_j, mu_k, t)) == pytest.approx(
        float(correction), abs=tolerance("closed_form.relative")
    )
    assert float(speed_ratio(mu_j, mu_k, 0.0)) == 1.0
    assert float(speed_ratio(mu_j, mu_k, math.inf)) == float(speed_ratio_limit(mu_j, mu_k))


@pytest.mark.parametrize(
    ("name", "domain"), [("mu", FINITE), ("t", NON_NEGATIVE), ("v0", FINITE), ("gain", POSITIVE)], ids=str
)
@pytest.mark.parametrize("function", [nonlinear_solution, log_convergence])
def test_values_outside_the_domain_are_refused(function, name, domain):
    given = {"mu": 1.0, "t": 1.0, "v0": 0.0, "gain": 0.5}
    for bad in domain.bad_values:
        with pytest.raises(InvalidArgument, match=rf"{function.__name__}: `{name}`"):
            function(**given | {name: bad})


@pytest.mark.parametrize("size", [1e-308, 1e-300, 1e-10, 1.0, 39.0, 500.0])
def test_v_is_finite_and_between_start_and_target_at_every_scale(size):
    rng = np.random.default_rng(4)
    mu, v0 = size * rng.uniform(-1, 1, (2, 200))
    t = np.concatenate([[0.0], 10 ** rng.uniform(-300, 300, 30), [math.inf]])[:, None]
    v = nonlinear_solution(mu, t, v0)
    assert ((np.minimum(mu, v0) <= v) & (v <= np.maximum(mu, v0))).all()


def test_places_beyond_the_resolution_of_float64_are_refused():
    with pytest.raises(InvalidArgument, match="`v0` is as large as 2000"):
        nonlinear_solution(1.0, 1.0, [0.0, 2000.0])
    assert float(nonlinear_solution(2000.0, math.inf, 0.0, 1e-3)) == 2000.0


@pytest.mark.parametrize("bad", [torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.complex64), "two", [True]])
def test_arguments_that_are_not_real_are_refused(bad):
    with pytest.raises(InvalidArgument, match="real"):
        nonlinear_solution(bad, 1.0)


def test_reads_python_floats_in_full_precision():
    assert float(nonlinear_solution(0.1, math.inf)) == 0.1


CORNERS = [0.0, -0.0, 5e-324, -5e-324, 1e-160, 1e-8, 0.5, -2.0, 8.0, 20.0, 38.0, 39.0, -40.0, 300.0, 1000.0, -1000.0]
TIMES_AT_THE_ENDS = [0.0, 5e-324, 1e-300, 1e-20, 1.0, 50.0, 1e10, 1e300, 1.7e308, math.inf]


def test_no_solution_is_nan_in_any_corner_of_its_domain():
    places, times = torch.tensor(CORNERS, dtype=torch.float64), torch.tensor(TIMES_AT_THE_ENDS, dtype=torch.float64)
    j, k, t = torch.meshgrid(places, places, times, indexing="ij")
    for function in (speed_ratio, speed_ratio_correction):
        assert not function(j, k, t).isnan().any()
    assert not nonlinear_solution(j, t, k).isnan().any()
    assert not log_convergence(j, t, k).isnan().any()


def test_the_correction_is_right_where_the_ratio_of_the_speeds_is_beyond_float64(tolerance):
    for mu_j, mu_k in ((60.0, 55.0), (55.0, 60.0), (-700.0, 60.0)):
        late = float(late_offset(mu_k) - late_offset(mu_j)) / (5.0 - float(late_offset(mu_k)))
        found = float(speed_ratio_correction(mu_j, mu_k, 5.0))
        assert found == pytest.approx(late, rel=tolerance("closed_form.relative"))
    for mu_k in (0.5, 3.0, 20.0):  # at first both move alike
        early = math.expm1(0.5 * mu_k**2)
        found = float(speed_ratio_correction(1e-160, mu_k, 5e-324))
        assert found == pytest.approx(early, rel=tolerance("closed_form.relative"))


@pytest.mark.parametrize("t", [5e-324, 1e-310, 1e-300])
@pytest.mark.parametrize("mu", [1e-160, 1e-8, 0.5, -3.0])
def test_the_earliest_times_keep_their_progress(t, mu):
    assert float(log_convergence(mu, t)) == t
