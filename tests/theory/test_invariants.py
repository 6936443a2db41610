"""Theorem 1's formulas: values by hand, consistency with each other, refused arguments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.errors import InvalidArgument
from joma.theory.invariants import expected_logits, invariant, invariant_residual, softmax_identities

KINDS = {"linear": {}, "exp": {"temperature": 0.5}, "softmax": {"temperature": 0.5}}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def extra(kind, seed=9, n_context=4):
    mean = torch.softmax(random(n_context, seed=seed), -1)
    return KINDS[kind] | ({"mean_attention": mean} if kind == "softmax" else {})


def test_expected_logits_of_one_token_by_hand(tolerance):
    weights = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    mean = torch.tensor([0.25, 0.75], dtype=torch.float64)
    by_hand = {"linear": [5.0, 1.0], "exp": [25.0, 1.0], "softmax": [25 - 26 * 0.25, 1 - 26 * 0.75]}
    for kind, logits in by_hand.items():
        more = KINDS[kind] | ({"mean_attention": mean} if kind == "softmax" else {})
        found = expected_logits(weights, kind, **more)
        assert (found - torch.tensor(logits)).abs().max() < tolerance("simulation.sums")


@given(st.integers(0, 10_000), st.sampled_from(list(KINDS)))
@settings(max_examples=40, deadline=None)
def test_expected_logits_keep_the_invariant_constant(seed, kind):
    first = 0.3 * random(4, 3, seed=seed)
    later = first + 2 * random(5, 4, 3, seed=seed + 1).abs() * first.sign()  # further from 0, so linear z stays real
    logits = random(4, seed=seed + 2)
    expected = expected_logits(later, kind, **extra(kind), start=(first, logits))
    before = invariant(first, logits, kind, **extra(kind))
    torch.testing.assert_close(invariant(later, expected, kind, **extra(kind)), before.expand(5, 4))
    if kind == "linear":
        assert expected.sign().equal(logits.sign().expand(5, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_expected_logits_are_differentiable(kind):
    weights = random(2, 4, 3).requires_grad_()
    start = (0.1 * random(4, 3, seed=1), 3 + random(4, seed=2).abs())
    assert torch.autograd.gradcheck(lambda value: expected_logits(value, kind, **extra(kind)), weights)
    assert torch.autograd.gradcheck(lambda value: expected_logits(value, kind, **extra(kind), start=start), weights)
    flat = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    expected_logits(flat, kind, **extra(kind)).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_several_queries_are_summed(tolerance):
    weights, logits = random(6, 4, 3), random(6, 2, 4, seed=1)
    linear = invariant(weights, logits, "linear")
    assert (linear - (logits.square().sum(-2) - weights.square().sum(-1))).abs().max() < tolerance("simulation.sums")
    one = invariant_residual(weights, logits[:, :1], "exp", 2.0)
    assert one.equal(invariant_residual(weights, logits[:, 0], "exp", 2.0))


def test_residual_starts_at_zero_and_follows_the_logits(tolerance):
    weights, shift = random(1, 4, 3).expand(3, 4, 3), torch.tensor([0.0, 0.5, -2.0], dtype=torch.float64)
    residual = invariant_residual(weights, random(4) + shift.unsqueeze(-1), "exp")
    assert (residual - shift.unsqueeze(-1)).abs().max() < tolerance("simulation.sums")


def test_softmax_identities_include_the_recoil_integral(tolerance):
    weights, recoil = random(3, 4, 2), random(3, 4, seed=1)
    logits = weights.square().sum(-1) / (2 * 0.5) - recoil / 0.5 + random(4, seed=2)
    found = softmax_identities(weights, logits, recoil, 0.5)
    assert found.closed.abs().max() < tolerance("simulation.sums")
    assert (found.logit_sum - (logits - logits[0]).sum(-1)).abs().max() < tolerance("simulation.sums")
    several = softmax_identities(weights, logits.unsqueeze(-2), recoil.unsqueeze(-2), 0.5)
    assert several.logit_sum.shape == (3, 1)
    assert several.closed.equal(found.closed)


def test_numpy_arguments_give_numpy_results():
    assert isinstance(expected_logits(np.ones((4, 3)), "exp"), np.ndarray)
    identities = softmax_identities(np.ones((2, 4, 3)), np.ones((2, 4)), np.ones((2, 4)))
    assert isinstance(identities.closed, np.ndarray)
    assert isinstance(expected_logits([[1.0, 2.0]], "exp"), torch.Tensor)


W, Z = torch.ones(2, 4, 3).double(), torch.ones(2, 4).double()


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (expected_logits, (W, "expo"), "did you mean 'exp'"),
        (expected_logits, (W, "exp", 0.0), "`temperature` is 0"),
        (expected_logits, (W, "exp", -1.0), "`temperature` is -1"),
        (expected_logits, (W, "exp", math.inf), "`temperature` is inf"),
        (expected_logits, (W, "linear", 2.0), "no temperature"),
        (expected_logits, (W * math.nan, "exp"), "NaN in 24 of 24"),
        (expected_logits, (W.to(torch.complex128), "exp"), "complex128"),
        (expected_logits, (W.long(), "exp"), "int64"),
        (expected_logits, (W[0, 0], "exp"), "of shape (3,)"),
        (expected_logits, (W, "softmax"), "`mean_attention` is missing"),
        (expected_logits, (W, "exp", 1.0, Z), "`mean_attention` is given with exp"),
        (expected_logits, (W, "softmax", 1.0, torch.ones(3).double()), "`mean_attention` is of shape (3,)"),
        (expected_logits, (W, "linear", 1.0, None, (2 * W, Z)), "below"),
        (expected_logits, (W, "exp", 1.0, None, (W, torch.ones(3).double())), "`start[1]` is of shape (3,)"),
        (expected_logits, (W, "exp", 1.0, None, (torch.ones(5, 3).double(), Z[0, :1])), "`start"),
        (invariant, (W, Z[0], "exp"), "`attention_logits` is of shape (4,)"),
        (invariant, (W, torch.ones(2, 5, 3).double(), "exp"), "`attention_logits` is of shape (2, 5, 3)"),
        (invariant, (W, torch.ones(2, 2, 4).double(), "softmax", 1.0, Z), "of 2 queries"),
        (softmax_identities, (W, Z, Z[:1]), "`recoil_integral` is of shape (1, 4)"),
    ],
)
def test_invalid_arguments_are_reported_by_name(function, arguments, named):
    with pytest.raises(InvalidArgument) as caught:
        function(*arguments)
    assert named in str(caught.value)


@pytest.mark.parametrize("parameter", ["token_weights", "attention_logits"])
def test_numbers_whose_squares_float64_cannot_hold_are_refused(parameter):
    given = {"token_weights": torch.ones(3, 2), "attention_logits": torch.ones(3)}
    for huge in (1e200, math.inf):
        with pytest.raises(InvalidArgument, match=f"invariant: `{parameter}` is"):
            invariant(**given | {parameter: given[parameter].double() * huge}, attention="linear")
