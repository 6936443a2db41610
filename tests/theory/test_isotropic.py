"""Theorem 3: closed forms against quadrature, quadrature against another one, fixed points by bisection."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from joma.errors import InvalidArgument
from joma.theory.isotropic import fixed_points, noise_gains, uniform_attention_flow


def slopes(name, p):
    sigmoid = 1 / (1 + math.exp(-p)) if p > -700 else 0.0
    return {
        "tanh": 1 / math.cosh(min(abs(p), 300.0)) ** 2,
        "sigmoid": sigmoid * (1 - sigmoid),
        "softplus": sigmoid,
        "silu": sigmoid * (1 + p * (1 - sigmoid)),
        "relu": float(p > 0),
    }[name]


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "silu", "relu"])
@pytest.mark.parametrize("norm", [0.05, 1.0, 30.0, 1000.0])
def test_gains_agree_with_adaptive_quadrature(name, norm, tolerance):
    r, noise = 1.3, 0.7

    def expectation(function):
        bends = sorted({min(9.0, max(-9.0, (knot - r) / (norm * noise))) for knot in (-30, -3, 0, 3, 30)})
        return quad(
            lambda x: function(noise * x) * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
            -9, 9, points=bends, limit=400, epsabs=1e-13,
        )[0]  # fmt: skip

    gains = noise_gains(r, norm, name, noise)
    along_centre = expectation(lambda s: slopes(name, r + norm * s))
    along_weights = expectation(lambda s: s * slopes(name, r + norm * s))
    assert float(gains.along_centre) == pytest.approx(along_centre, abs=tolerance("closed_form.quadrature"))
    assert float(gains.along_weights) == pytest.approx(along_weights, abs=tolerance("closed_form.quadrature"))


def test_quadrature_agrees_with_closed_forms(tolerance):
    r, norm = torch.linspace(-4, 4, 9).double(), torch.tensor([[0.1], [1.0], [50.0]]).double()
    for name, by_hand in (("relu", torch.relu), ("identity", lambda p: 1.0 * p)):
        for closed, integrated in zip(noise_gains(r, norm, name, 0.7), noise_gains(r, norm, by_hand, 0.7), strict=True):
            torch.testing.assert_close(closed, integrated, rtol=0, atol=tolerance("closed_form.quadrature"))


def test_zero_weights_remove_the_noise():
    assert float(noise_gains(0.7, 0.0, "relu").along_centre) == 1.0
    assert float(noise_gains(0.0, 0.0, "relu").along_centre) == 0.5
    assert float(noise_gains(0.7, 0.0, "tanh").along_centre) == pytest.approx(1 / math.cosh(0.7) ** 2)
    assert uniform_attention_flow([0.0, 0.0], [[1.0, 2.0]], [1.0], [1.0], "tanh").tolist() == pytest.approx([1.0, 2.0])


def test_linear_activation_follows_the_mean():
    flow = uniform_attention_flow(
        np.array([1.0, -2.0]), [[1.0, 2.0], [3.0, 0.0]], [1.0, -1.0], [0.25, 0.75], "identity"
    )
    assert flow.tolist() == pytest.approx([0.25 - 2.25, 0.5])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_gradients_agree_with_finite_differences(activation):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=generator).double().requires_grad_() for shape in ((2, 3), (2, 3), (2,))]
    noise, weights = torch.tensor(0.8).double().requires_grad_(), torch.tensor([0.3, 0.7]).double()

    def flow(v, centres, gradients, noise):
        return uniform_attention_flow(v, centres, gradients, weights, activation, noise)

    assert torch.autograd.gradcheck(flow, (*parts, noise))


def test_fixed_points_are_where_bisection_finds_them(tolerance):
    mixture = ([[1.0], [3.0]], [-4 / 3, 1.36], [0.75, 0.25], "softplus")

    def flow(v):
        return float(uniform_attention_flow([v], *mixture))

    found = fixed_points(*mixture)
    for point, growth in zip(found.points[:, 0].tolist(), found.growth.tolist(), strict=True):
        assert point == pytest.approx(brentq(flow, point - 0.01, point + 0.01), abs=tolerance("closed_form.quadrature"))
        assert (flow(point + 1e-3) > 0) == (growth > 0)
    signs = np.sign([flow(v) for v in np.linspace(-6, 6, 241)])
    assert len(found.points) == np.count_nonzero(np.diff(signs[signs != 0]))


def test_a_saturated_flow_has_no_fixed_points():
    assert len(fixed_points([[2.0, 0.0], [-1.0, 1.0]], [1.0, -1.0], [0.5, 0.5], "tanh").points) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [0.5, 0.4]}, "sum to 1"),
        ({"weights": [1.5, -0.5]}, "`weights`"),
        ({"gradients": [1.0]}, "one for each centre"),
        ({"v": [1.0]}, "like the centres"),
        ({"centres": [1.0, 2.0]}, r"\(C, D\)"),
        ({"noise": 0.0}, "`noise`"),
        ({"activation": "rellu"}, "relu"),
    ],
)
def test_invalid_arguments_are_refused(changed, message):
    given = {"v": [1.0, 0.0], "centres": [[1.0, 0.0], [0.0, 1.0]], "gradients": [1.0, 2.0], "weights": [0.5, 0.5]}
    with pytest.raises(InvalidArgument, match=message):
        uniform_attention_flow(**given | changed)
