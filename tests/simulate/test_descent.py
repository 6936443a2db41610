"""Descent in finite steps: against the optimisers' own update rules, and against the flow it approximates."""

import functools
import math

import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, activity, orthonormal_embeddings
from joma.simulate.descent import Minibatches, descent
from joma.simulate.flow import flow

SEEDS = [0, 1]


def classifier(attention="exp", **settings):
    data = classification_data(gaussian_classes(3, 5, width=1.0), 8, 6, SEEDS)
    model = OneLayer(*data, *orthonormal_embeddings(5), attention, **{"trains_upper": True} | settings)
    return model, random_parameters(model, 4, SEEDS, scale=0.4, logit=1.0)


def gradients(model, parameters):
    leaves = parameters._make(part.clone().requires_grad_() for part in parameters)
    return torch.autograd.grad(activity(model, leaves).loss.sum(), leaves)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_two_steps_by_hand(optimizer, tolerance):
    model, start = classifier()
    seen = descent(model, start, [0, 1, 2], 0.3, optimizer)
    velocity, now = [torch.zeros_like(part) for part in start], start
    for index in (1, 2):
        carried = 0.9 if optimizer == "momentum" else 0.0
        velocity = [carried * old + new for old, new in zip(velocity, gradients(model, now), strict=True)]
        now = now._make(part - 0.3 * speed for part, speed in zip(now, velocity, strict=True))
        for part, expected in zip(seen.parameters(index), now, strict=True):
            assert (part - expected).abs().max() < tolerance("simulation.sums")


def test_the_first_step_of_adam_has_its_rate_as_size(tolerance):
    model, start = classifier()
    seen = descent(model, start, [0, 1], 0.01, "adam")
    moved = (seen.weights[1] - seen.weights[0]).abs()
    assert (moved - 0.01).abs().max() < tolerance("simulation.adam_epsilon")


def test_small_steps_approach_the_flow_at_first_order(tolerance):
    model, start = classifier("softmax", activation="tanh")
    exact = flow(model, start, [0.0, 2.0]).weights[-1]
    errors = [
        (descent(model, start, [0, round(2 / rate)], rate).weights[-1] - exact).abs().max() for rate in (0.02, 0.01)
    ]
    assert abs(math.log2(errors[0] / errors[1]) - 1) < tolerance("simulation.order")


@pytest.mark.parametrize("attention", ["linear", "exp"])
def test_drift_of_the_invariant_is_the_sum_of_squared_steps(attention, tolerance):
    model, start = classifier(attention, activation="tanh")
    seen = descent(model, start, range(51), 0.1)
    squares = seen.token_weights.diff(dim=0).square().sum((0, -1))
    expected = -squares / 2
    if attention == "linear":
        expected = seen.attention_logits.diff(dim=0).square().sum((0, -2)) - squares
    assert expected.abs().max() > tolerance("simulation.moved") / 10
    assert (seen.residual[-1] - expected).abs().max() < tolerance("simulation.sums")


def test_the_sum_of_softmax_logits_stays_and_the_integral_identity_drifts_with_the_step(tolerance):
    model, start = classifier("softmax", temperature=0.5)
    coarse, fine = (descent(model, start, [0, round(4 / rate)], rate).identities for rate in (0.02, 0.01))
    assert coarse.logit_sum.abs().max() < tolerance("simulation.sums")
    ratio = coarse.closed.abs().max() / fine.closed.abs().max()
    assert abs(math.log2(ratio) - 1) < tolerance("simulation.order")


def test_recoil_is_known_for_plain_descent_only():
    model, start = classifier("softmax")
    assert descent(model, start, [0, 1], 0.1, "adam").recoil_integral is None
    assert descent(*classifier("exp"), [0, 1], 0.1).recoil_integral is None


def test_minibatches_repeat_with_their_seed_and_differ_without():
    model, start = classifier("softmax")
    runs = [descent(model, start, [0, 20], 0.1, "sgd", Minibatches(3, seed)).weights[-1] for seed in (0, 0, 1)]
    assert runs[0].equal(runs[1])
    assert not runs[0].equal(runs[2])


def test_any_torch_optimiser_is_accepted():
    model, start = classifier()
    factory = functools.partial(torch.optim.RMSprop, alpha=0.9)
    assert descent(model, start, [0, 50], 0.01, factory).status.ok


def test_a_diverging_descent_reports_the_steps_between_which_it_diverges():
    model, start = classifier(loss="squared_error")
    seen = descent(model, start, [0, 1, 200], 1e3)
    assert seen.status.name == "diverged"
    assert "between steps 1 and 200" in seen.status.cause
    assert seen.times.tolist() == [0, 1]


def test_the_initial_parameters_are_not_changed():
    model, start = classifier()
    before = start.weights.clone()
    descent(model, start, [0, 3], 0.1)
    assert start.weights.equal(before)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([0, 1], 0.1, "adm"), "did you mean 'adam'"),
        (([0, 1], 0.0), "`learning_rate` is 0"),
        (([1, 2], 0.1), "`steps` is [1, 2]"),
        (([0, 2, 2], 0.1), "`steps` is [0, 2, 2]"),
        (([0, 1.5], 0.1), "`steps` is [0, 1.5]"),
        (([], 0.1), "`steps` is []"),
        (([0, 1], 0.1, "sgd", Minibatches(0)), "`minibatches.size` is 0"),
    ],
)
def test_invalid_settings_are_reported_by_name(arguments, named):
    with pytest.raises(InvalidArgument) as caught:
        descent(*classifier(), *arguments)
    assert named in str(caught.value)
