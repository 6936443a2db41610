"""Fast components under softmax attention: against 120 digits and an integrator in u, where τ alone has no digits."""

import math
import sys
from pathlib import Path as Folder

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from joma.errors import InvalidArgument
from joma.theory.normalized import attention_entropy_over_time, normalized_solution, sparsest_time

sys.path.insert(0, str(Folder(__file__).parents[1] / "golden"))
from fifty_digits import Path

PROBLEMS = {
    "one winner": ([9.0, 2.0], [0.0, 0.0], [0.5, 5.0, 7.0, 10.0]),
    "two fast": ([10.0, 7.0], [0.0, 0.0], [0.1, 3.0, 60.0]),
    "two equal": ([9.0, 9.0], [0.0, 0.0], [3.0, 8.0, 20.0]),
    "mirrored": ([12.0, -12.0], [-3.0, 3.0], [3.0, 20.0]),
    "a head start": ([9.0, -9.0, 8.999], [0.0, 0.0, 0.0005], [3.0, 10.0]),
    "slowing down": ([2.0, 3.0], [9.0, -8.0], [0.5, 5.0, 20.0]),
    "as fast as is asked of": ([30.0, 20.0], [0.0, 0.0], [0.5, 5.0, 30.0]),
    "one among slow ones": ([20.0, 1.0, 0.5, -0.2], [0.1, 0.2, 0.0, 0.0], [1.0, 4.0, 8.0]),
}


def integrated(mu, v0, times):
    """u from an explicit integrator: its rate is the attention, at most 1."""
    mu, v0 = np.array(mu), np.array(v0)

    def rate(_, u):
        v = mu - (mu - v0) * np.exp(-u)
        weights = np.exp(v**2 / 2 - (v**2).max() / 2)
        return weights / weights.sum()

    path = solve_ivp(
        rate, (0, times[-1]), np.zeros(len(mu)), t_eval=times, method="DOP853", rtol=1e-13, atol=1e-14, max_step=0.1
    )
    return mu - (mu - v0) * np.exp(-path.y.T)


@pytest.mark.parametrize("name", PROBLEMS)
def test_fast_components_agree_with_an_integrator(name, tolerance):
    mu, v0, times = PROBLEMS[name]
    found = normalized_solution(mu, times, v0)
    np.testing.assert_allclose(found, integrated(mu, v0, times), rtol=tolerance("closed_form.relative"), atol=1e-300)


@pytest.mark.parametrize(("mu", "t"), [([9.0, 2.0], 5.0), ([30.0, 20.0], 8.0)])
def test_two_components_agree_with_120_digits(mu, t, tolerance):
    with mp.workdps(120 if mu[0] < 20 else 220):
        first, second = (Path(value, 0.0) for value in mu)

        def behind(u):  # the second component has the rest of t, at the same τ
            return first.time(u) - second.time(t - u)

        guess = float(torch.log(mu[0] / (mu[0] - normalized_solution(mu, t)[0])))
        u = mp.findroot(behind, (guess * (1 - mp.mpf(10) ** -6), guess * (1 + mp.mpf(10) ** -6)), solver="anderson")
        expected = [float(first.v(u)), float(second.v(t - u))]
    assert normalized_solution(mu, t).tolist() == pytest.approx(expected, rel=tolerance("closed_form.fast"))


@pytest.mark.parametrize("mu", [0.5, 9.0, 10.0, -30.0, 900.0])
def test_one_component_is_exponential_because_its_attention_is_1(mu, tolerance):
    t = torch.tensor([0.0, 1e-9, 0.1, 3.0, 5.0, 30.0, math.inf], dtype=torch.float64)
    expected = [mu * -math.expm1(-float(time)) for time in t]
    assert normalized_solution([mu], t)[:, 0].tolist() == pytest.approx(expected, rel=tolerance("closed_form.fast"))


@pytest.mark.parametrize("mu", [[10.0, 7.0], [9.0, 8.0], [30.0, 20.0], [7.0, -10.0]])
def test_attention_is_sparsest_where_both_components_pull_it_equally(mu, tolerance):
    """Entropy depends on v₁² − v₂² alone, whose rate is the difference of v (μ − v) times the attention of each."""
    first, second = sorted(mu, key=abs, reverse=True)
    with mp.workdps(120 if abs(first) < 20 else 220):
        winner, other = Path(first, 0.0), Path(second, 0.0)

        def imbalance(u):
            tau = winner.time(u)
            w = mp.findroot(lambda w: other.time(w) - tau, (0.01, 0.3), solver="anderson")
            pulls = [mp.log(p.v(at) * p._x(at)) + p.v(at) ** 2 / 2 for p, at in ((winner, u), (other, w))]
            return pulls[0] - pulls[1], u + w

        guess = float(sparsest_time(mu).time)
        u = mp.findroot(lambda u: imbalance(u)[0], (guess - 1, guess), solver="anderson")
        expected = float(imbalance(u)[1])
    assert guess == pytest.approx(expected, rel=tolerance("closed_form.relative"))


def test_entropy_keeps_its_digits_when_one_component_has_almost_all_attention(tolerance):
    with mp.workdps(50):
        v = [mp.mpf(9.5), mp.mpf(1.25)]
        ratio = mp.e ** ((v[1] ** 2 - v[0] ** 2) / 2)
        expected = float(mp.log(1 + ratio) - ratio / (1 + ratio) * mp.log(ratio))
    found = attention_entropy_over_time([1.0, 1.0], 0.0, [9.5, 1.25])
    assert float(found) == pytest.approx(expected, rel=tolerance("closed_form.fast"))


def test_what_cannot_be_resolved_is_refused_with_the_limit():
    with pytest.raises(InvalidArgument, match="at most 36/"):
        normalized_solution([40.0, 1.0], 1.0)
    with pytest.raises(InvalidArgument, match="`v0` is as large as 40; expected at most 36/"):
        normalized_solution([1.0, 1.0], 1.0, [0.0, 40.0])
    with pytest.raises(InvalidArgument, match="at most 6/"):
        normalized_solution(torch.tensor([9.0, 1.0], requires_grad=True), 1.0)


def test_gradients_of_fast_components_agree_with_finite_differences():
    mu = torch.tensor([5.0, 4.8, 1.0]).double().requires_grad_()
    v0 = torch.tensor([0.1, 0.2, 0.15]).double().requires_grad_()
    assert torch.autograd.gradcheck(normalized_solution, (mu, torch.tensor([0.3, 5.0]).double(), v0))
