"""The one-layer model against the formulas of docs/theory section 1, written out sample by sample in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.errors import InvalidArgument
from joma.problem.activations import ACTIVATIONS
from joma.problem.attention import ATTENTION_KINDS, attention_weights
from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.losses import LOSSES
from joma.problem.one_layer import (
    OneLayer,
    Parameters,
    activity,
    check_parameters,
    error_signal,
    orthonormal_embeddings,
    token_weights,
    velocity,
)

Q, N, M, K, OUT, D = 2, 5, 4, 3, 2, 7
TEMPERATURE = {"linear": 1.0, "exp": 0.7, "softmax": 0.7}


def problem(attention="softmax", activation="tanh", loss="cross_entropy", seed=0, batch=()):
    source = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*batch, *shape, generator=source, dtype=torch.float64)

    targets = uniform(Q, N, OUT)
    model = OneLayer(
        context=uniform(Q, N, M) * (uniform(Q, N, M) < 0.8) + 0.01,
        targets=targets / targets.sum(-1, keepdim=True),
        context_embedding=uniform(D, M) - 0.5,  # the model does not need orthonormal embeddings
        query_embedding=uniform(D, Q) - 0.5,
        attention=attention,
        temperature=TEMPERATURE[attention],
        activation=activation,
        loss=loss,
        trains_upper=True,
    )
    return model, Parameters(uniform(D, K) - 0.5, uniform(Q, M) - 0.3, uniform(K, OUT) - 0.5)


SLOPE = {"identity": lambda a: np.ones_like(a), "tanh": lambda a: 1 - np.tanh(a) ** 2, "relu": lambda a: 1.0 * (a > 0)}
VALUE = {"identity": lambda a: a, "tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}


def formulas(model, parameters):
    """Return (ẇ, ż, the upper layer's velocity, recoil), in loops over samples."""
    x, y, U, u = (t.numpy() for t in (model.context, model.targets, model.context_embedding, model.query_embedding))
    W, z, A = (part.numpy() for part in parameters)
    dW, dz, dA, recoil = np.zeros_like(W), np.zeros_like(z), np.zeros_like(A), np.zeros_like(z)
    for q in range(Q):
        for n in range(N):
            if model.attention == "linear":
                b, jacobian = x[q, n] * z[q], np.diag(x[q, n])
            else:
                b = x[q, n] * np.exp(z[q] / model.temperature)
                jacobian = np.diag(b) / model.temperature
                if model.attention == "softmax":
                    b = b / b.sum()
                    jacobian = (np.diag(b) - np.outer(b, b)) / model.temperature
            f = U @ b + u[:, q]
            preactivation = W.T @ f
            h = VALUE[model.activation](preactivation)
            outputs = A.T @ h
            if model.loss == "cross_entropy":
                below = y[q, n] - np.exp(outputs) / np.exp(outputs).sum()
            elif model.loss == "squared_error":
                below = y[q, n] - outputs
            else:
                below = y[q, n]
            signal = (A @ below) * SLOPE[model.activation](preactivation)  # gₖ φ′ₖ
            dW += np.outer(f, signal) / (Q * N)
            dA += np.outer(h, below) / (Q * N)
            dz[q] += jacobian.T @ U.T @ (W @ signal) / (Q * N)
            recoil[q] += np.outer(b, b) @ U.T @ (W @ signal) / (Q * N)
    return dW, dz, dA, recoil


@pytest.mark.parametrize("attention", ATTENTION_KINDS)
@pytest.mark.parametrize("activation", SLOPE)
@pytest.mark.parametrize("loss", LOSSES)
def test_velocity_equals_the_formulas(attention, activation, loss, tolerance):
    model, parameters = problem(attention, activation, loss)
    found, expected = velocity(model, parameters), formulas(model, parameters)
    for part, formula in zip(found, expected, strict=True):
        if part is not None:
            np.testing.assert_allclose(part.numpy(), formula, atol=tolerance("simulation.sums"))
    assert (found.recoil is None) == (attention != "softmax")


def test_error_signal_averages_to_the_motion_of_the_weights(tolerance):
    model, parameters = problem()
    features = activity(model, parameters).features
    mean = torch.einsum("qnd,qnk->dk", features, error_signal(model, parameters)) / (Q * N)
    assert (mean - velocity(model, parameters).weights).abs().max() < tolerance("simulation.sums")


@pytest.mark.parametrize("attention", ATTENTION_KINDS)
def test_problems_of_a_batch_are_independent(attention, tolerance):
    models, starts = zip(*(problem(attention, seed=seed) for seed in range(3)), strict=True)
    names = ("context", "targets", "context_embedding", "query_embedding")
    together = OneLayer(
        *(torch.stack([getattr(model, name) for model in models]) for name in names),
        attention=attention,
        temperature=TEMPERATURE[attention],
        activation="tanh",
        trains_upper=True,
    )
    found = velocity(together, Parameters(*(torch.stack(parts) for parts in zip(*starts, strict=True))))
    for index, (model, start) in enumerate(zip(models, starts, strict=True)):
        alone = velocity(model, start)
        for part, own in zip(found, alone, strict=True):
            assert own is None or (part[index] - own).abs().max() < tolerance("simulation.sums")


@given(st.integers(0, 10_000), st.permutations(range(M)), st.sampled_from(ATTENTION_KINDS))
@settings(max_examples=25, deadline=None)
def test_permuting_tokens_permutes_the_velocity(seed, order, attention):
    model, parameters = problem(attention, seed=seed)
    renamed = OneLayer(
        model.context[..., order],
        model.targets,
        model.context_embedding[..., order],
        model.query_embedding,
        attention=attention,
        temperature=model.temperature,
        activation="tanh",
        trains_upper=True,
    )
    there = velocity(model, parameters)
    here = velocity(renamed, parameters._replace(attention_logits=parameters.attention_logits[..., order]))
    torch.testing.assert_close(here.weights, there.weights)
    torch.testing.assert_close(here.attention_logits, there.attention_logits[..., order])


def test_softmax_attention_of_distant_logits_neither_overflows_nor_vanishes():
    context = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    logits = torch.tensor([5000.0, -5000.0, -5000.0], dtype=torch.float64)
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
    assert attention_weights(context, logits, "softmax", 0.5).equal(expected)


def test_fixed_upper_layer_has_no_velocity_and_without_one_hidden_units_are_outputs():
    model, parameters = problem()
    fixed = OneLayer(model.context, model.targets, model.context_embedding, model.query_embedding)
    assert velocity(fixed, parameters).upper is None
    bare = parameters._replace(weights=parameters.weights[:, :OUT], upper=None)
    seen = activity(fixed, bare)
    assert seen.outputs.equal(seen.hidden)


def test_token_weights_are_projections_on_the_embeddings():
    embedding, _ = orthonormal_embeddings(M, Q)
    weights = torch.randn(M + Q, K, dtype=torch.float64)
    assert token_weights(weights, embedding).equal(weights[:M])


def test_subset_equals_a_model_built_from_those_samples(tolerance):
    model, parameters = problem()
    halves = [velocity(model.subset(torch.tensor(part)), parameters).weights for part in ([0, 1, 2, 3], [4])]
    mean = (4 * halves[0] + halves[1]) / 5
    assert (mean - velocity(model, parameters).weights).abs().max() < tolerance("simulation.sums")


def test_gaussian_classes_are_distributions_with_evenly_spaced_centres(tolerance):
    law = gaussian_classes(4, 40, width=3.0, spread=0.5)
    assert (law.sum(-1) - 1).abs().max() < tolerance("simulation.sums")
    centres = law @ torch.arange(40, dtype=torch.float64)
    assert (centres - torch.tensor([12.0, 17.0, 22.0, 27.0])).abs().max() < tolerance("classes.centres")


def test_a_seed_gives_the_same_problem_whatever_the_other_seeds():
    law = gaussian_classes(3, 6, width=1.0)
    several, alone = classification_data(law, 8, 5, [0, 7], 2), classification_data(law, 8, 5, [7], 2)
    assert several[0].shape == (2, 2, 8, 6)
    assert several[1].shape == (2, 2, 8, 3)
    for part, own in zip(several, alone, strict=True):
        assert part[1].equal(own[0])
        assert not part[0].equal(own[0])
    model = OneLayer(*several, *orthonormal_embeddings(6, 2))
    assert random_parameters(model, 4, [0, 7]).weights[1].equal(random_parameters(model, 4, [7]).weights[0])


def test_samples_follow_their_class(tolerance):
    law = gaussian_classes(2, 6, width=1.0)
    context, targets = classification_data(law, 4000, 20, [0])
    for index in range(2):
        seen = context[0, 0][targets[0, 0, :, index] == 1].mean(0)
        assert (seen - law[index]).abs().max() < tolerance("classes.frequencies")


GOOD = dict(zip(("context", "targets", "context_embedding", "query_embedding"), (
    torch.ones(1, 3, 4).double(), torch.ones(1, 3, 2).double(), *orthonormal_embeddings(4)), strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"attention": "sofmax"}, "did you mean 'softmax'"),
        ({"activation": "relo"}, "did you mean 'relu'"),
        ({"loss": "crossentropy"}, "did you mean 'cross_entropy'"),
        ({"temperature": 0.0}, "`temperature` is 0"),
        ({"temperature": math.nan}, "`temperature` is nan"),
        ({"attention": "linear", "temperature": 2.0}, "no temperature"),
        ({"context": torch.ones(1, 3, 4)}, None),  # float32 is read as float64
        ({"context": torch.ones(1, 3, 4, dtype=torch.int64)}, "dtype int64"),
        ({"context": torch.ones(1, 3, 4, dtype=torch.complex128)}, "dtype complex128"),
        ({"context": torch.full((1, 3, 4), math.nan).double()}, "NaN"),
        ({"context": -torch.ones(1, 3, 4).double()}, "`context` is negative"),
        ({"context": torch.zeros(1, 3, 4).double()}, "0 for all tokens of a sample"),
        ({"context": torch.ones(3, 4).double()}, "at least 3 axes"),
        ({"context": torch.ones(1, 3, 5).double()}, "`context_embedding` is of shape"),
        ({"context": torch.ones(2, 1, 3, 4).double()}, "`targets` is of shape"),
        ({"targets": torch.ones(1, 2, 2).double()}, "`targets` is of shape (1, 2, 2)"),
        ({"query_embedding": torch.ones(5, 2).double()}, "`query_embedding` is of shape (5, 2)"),
    ],
)
def test_an_invalid_model_is_refused_with_the_reason(change, named):
    if named is None:
        assert OneLayer(**GOOD | change).context.dtype == torch.float64
        return
    with pytest.raises(InvalidArgument) as caught:
        OneLayer(**GOOD | change)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", torch.ones(4, 3).double()),
        ("weights", torch.tensor(1.0).double()),
        ("attention_logits", torch.ones(4).double()),
        ("upper", torch.ones(2, 2).double()),
        ("upper", None),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(name, value):
    fitting = Parameters(torch.ones(5, 3).double(), torch.ones(1, 4).double(), torch.ones(3, 2).double())
    with pytest.raises(InvalidArgument, match=rf"parameters\.{name}"):
        check_parameters(OneLayer(**GOOD), fitting._replace(**{name: value}), "flow")


def test_every_activation_is_elementwise():
    points = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for activation in ACTIVATIONS.values():
        assert activation(points.reshape(3, 3)).flatten().equal(activation(points))
