"""Theorem 1 for embeddings that are not orthonormal, against the whole model integrated step by step."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from joma.arrays import REAL
from joma.correlations import correlation
from joma.errors import InvalidArgument
from joma.problem.classes import classification_data, random_parameters
from joma.problem.one_layer import OneLayer
from joma.simulate.descent import Minibatches, descent
from joma.theory.embeddings import (
    almost_orthogonal_correction,
    coherence,
    overcomplete_logits,
    uncorrected_error_bound,
)
from joma.theory.invariants import expected_logits

NUM_TOKENS, NUM_HIDDEN, NUM_SAMPLES, TEMPERATURE = 4, 3, 20, 1.5


class Path(NamedTuple):
    """Measurements during the training of one layer with exponential attention and a constant upstream gradient."""

    context_embedding: np.ndarray
    query_embedding: np.ndarray
    times: np.ndarray
    token_weights: np.ndarray
    logits: np.ndarray
    gates: np.ndarray

    @property
    def uncorrected(self):
        squares = (self.token_weights**2).sum(-1)
        return (self.logits - self.logits[0]) - (squares - squares[0]) / 2 / TEMPERATURE


def trained(scale, num_times=2001, duration=2.0):
    """Train a small model with embeddings that are off orthonormal by ``scale``; tanh, random data and gradients."""
    rng = np.random.default_rng(0)
    size = NUM_TOKENS + 2
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0][:, : NUM_TOKENS + 1]
    embedding = basis + scale * rng.normal(size=basis.shape)
    context, query = embedding[:, :NUM_TOKENS], embedding[:, NUM_TOKENS]
    x = rng.dirichlet(np.ones(NUM_TOKENS), NUM_SAMPLES)
    g = rng.normal(size=(NUM_SAMPLES, NUM_HIDDEN)) + 0.5
    start = np.concatenate([0.3 * rng.normal(size=NUM_TOKENS), 0.5 * rng.normal(size=size * NUM_HIDDEN)])

    def parts(state):
        z, w = state[:NUM_TOKENS], state[NUM_TOKENS:].reshape(size, NUM_HIDDEN)
        b = x * np.exp(z / TEMPERATURE)
        f = b @ context.T + query
        return w, b, f, g * (1 - np.tanh(f @ w) ** 2)

    def rate(_, state):
        w, b, f, gate = parts(state)
        dz = (b * (gate @ w.T @ context)).mean(0) / TEMPERATURE
        return np.concatenate([dz, (f.T @ gate / NUM_SAMPLES).ravel()])

    times = np.linspace(0, duration, num_times)
    states = solve_ivp(rate, (0, duration), start, "DOP853", t_eval=times, rtol=1e-11, atol=1e-12).y.T
    weights = np.stack([context.T @ parts(state)[0] for state in states])
    gates = np.stack([parts(state)[3].mean(0) for state in states])
    return Path(context, query, times, weights, states[:, :NUM_TOKENS], gates)


@pytest.mark.parametrize("scale", [0.0, 0.02, 0.2])
def test_correction_makes_theorem_1_exact(scale, tolerance):
    path = trained(scale)
    correction = almost_orthogonal_correction(
        path.token_weights, path.gates, path.times, path.context_embedding, path.query_embedding, TEMPERATURE
    )
    assert isinstance(correction, np.ndarray)
    np.testing.assert_allclose(correction, path.uncorrected, rtol=0, atol=tolerance("embeddings.trapezoid"))


def test_error_without_correction_is_first_order_in_the_coherence(tolerance):
    found = [
        (float(coherence(path.context_embedding)), np.abs(path.uncorrected).max())
        for path in map(trained, (1e-3, 1e-2))
    ]
    order = np.log(found[1][1] / found[0][1]) / np.log(found[1][0] / found[0][0])
    assert order == pytest.approx(1.0, abs=tolerance("embeddings.order"))


@pytest.mark.parametrize("scale", [0.0, 0.02, 0.2])
def test_bound_is_above_the_error_and_not_far(scale):
    path = trained(scale)
    steps = np.diff(path.token_weights, axis=0)
    bound = uncorrected_error_bound(
        path.context_embedding,
        path.query_embedding,
        np.abs(path.token_weights).max(0),
        np.linalg.norm(steps, axis=1).sum(0),
        np.abs(path.gates).max(0) * path.times[-1],
        TEMPERATURE,
    )
    error = np.abs(path.uncorrected).max(0)
    if scale == 0:
        assert (bound < 1e-12).all()
    else:
        assert (bound >= error).all()
        assert (bound < 100 * error.max()).all()


def test_coherence_of_a_batch():
    embedding = torch.stack([torch.eye(4)[:, :3], 2 * torch.eye(4)[:, :3]])
    assert coherence(embedding).tolist() == [0.0, 3.0]


def test_correction_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(shape, generator=generator).double().requires_grad_() for shape in ((5, 3, 2), (5, 2), (5, 3), (5,))
    ]
    times = torch.linspace(0, 1, 5).double()
    assert torch.autograd.gradcheck(
        lambda weights, gates, context, query: almost_orthogonal_correction(weights, gates, times, context, query),
        parts,
    )


def test_refuses_a_singular_gram_matrix():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidArgument, match=r"invertible.*more tokens than dimensions"):
        almost_orthogonal_correction(
            rng.normal(size=(5, 4, 2)),
            rng.normal(size=(5, 2)),
            np.arange(5.0),
            rng.normal(size=(3, 4)),
            rng.normal(size=3),
        )


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [(0, (5, 3), "token_weights"), (0, (5, 4, 2), "token_weights"), (1, (5, 3), "gates"), (2, (4,), "times"),
     (3, (6, 0), "context_embedding"), (4, (5,), "query_embedding")],
)  # fmt: skip
def test_refuses_wrong_shapes(place, shape, message):
    shapes = [(5, 3, 2), (5, 2), (5,), (6, 3), (6,)]
    shapes[place] = shape
    with pytest.raises(InvalidArgument, match=f"`{message}`"):
        almost_orthogonal_correction(*(np.random.default_rng(0).normal(size=shape) for shape in shapes))


def test_overcomplete_logits_are_those_of_theorem_1_for_orthonormal_tokens(tolerance):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 6, 6, generator=generator, dtype=REAL)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=REAL))[0]
    mean = torch.rand(6, generator=generator, dtype=REAL)
    seen = basis.mT @ weights
    found = overcomplete_logits(seen, weights.square().sum((-2, -1)), mean, 1.5)
    expected = expected_logits(seen, "softmax", 1.5, mean)
    assert (found - expected).abs().max() < tolerance("sums.float64")


def test_overcomplete_logits_predict_a_softmax_model_with_more_tokens_than_dimensions_and_theorem_1_does_not():
    num_tokens, width, seeds = 150, 30, [0, 1]
    generator = torch.Generator().manual_seed(0)
    law = torch.randn(8, num_tokens, generator=generator, dtype=REAL).exp() / torch.arange(1, num_tokens + 1)
    data = classification_data(law / law.sum(-1, keepdim=True), 512, 20, seeds)
    embedding = torch.randn(width, num_tokens, generator=generator, dtype=REAL)
    embedding = (embedding / embedding.norm(dim=0)).expand(2, -1, -1)
    model = OneLayer(*data, embedding, torch.zeros(2, width, 1, dtype=REAL), trains_upper=True)
    start = random_parameters(model, 16, seeds)
    trajectory = descent(model, start, [0, 200, 400], 0.1, minibatches=Minibatches(64)).complete()
    mean = trajectory.mean_attention[:1].squeeze(-2)
    norms = trajectory.weights.square().sum((-2, -1))
    moved = trajectory.attention_logits.squeeze(-2)
    corrected = overcomplete_logits(trajectory.token_weights, norms, mean)
    literal = expected_logits(trajectory.token_weights, "softmax", 1.0, mean)
    frequency = model.context.mean((0, 1, 2))
    found, without = (
        correlation(part[1:] - part[:1], moved[1:] - moved[:1], frequency) for part in (corrected, literal)
    )
    assert found.min() > 0.9
    assert without.max() < 0


@pytest.mark.parametrize(
    ("shapes", "parameter"),
    [
        (((3,), (), (3,)), "token_weights"),
        (((3, 2), (), (4,)), "mean_attention"),
        (((5, 3, 2), (4,), (3,)), "squared_norm"),
    ],
)
def test_overcomplete_logits_name_the_argument_whose_shape_does_not_fit(shapes, parameter):
    weights, norm, mean = (torch.ones(shape, dtype=REAL) for shape in shapes)
    with pytest.raises(InvalidArgument, match=parameter):
        overcomplete_logits(weights, norm, mean)


def test_overcomplete_logits_refuse_negative_norms():
    with pytest.raises(InvalidArgument, match="squared_norm"):
        overcomplete_logits([[1.0]], -1.0, [1.0])
