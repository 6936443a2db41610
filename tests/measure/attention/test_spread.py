import math
from functools import partial

import pytest
import torch
from torch import Tensor

from joma.measure.attention.spread import (
    Spread,
    combined,
    joined,
    spread_over_keys,
    spread_over_none,
    spread_over_one,
)
from joma.measure.attention.visibility import Visibility


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spread_of(scores: Tensor) -> Spread:
    """Return the spread by definition, from all scores (…, keys)."""
    weights = scores.softmax(-1)
    entropy = -torch.xlogy(weights, weights).sum(-1)
    return Spread(scores.logsumexp(-1), entropy, *[torch.zeros_like(entropy)] * 2, (2 * scores).logsumexp(-1))


def furthest(one: Spread, other: Spread) -> float:
    fields = ("lse", "entropy_nats", "lse_doubled")
    return max((getattr(one, name) - getattr(other, name)).abs().max().item() for name in fields)


@pytest.mark.parametrize("apart", [0.0, 30.0, -30.0, 800.0])
def test_joining_two_sets_of_keys_gives_the_spread_over_both(apart, tolerance):
    one, other = some(2, 3, 4, 5).double(), some(2, 3, 4, 7, seed=1).double() + apart
    found = joined(spread_of(one), spread_of(other))
    assert furthest(found, spread_of(torch.cat((one, other), dim=-1))) <= tolerance("attention.entropy")


@pytest.mark.parametrize("entropies", [(0.0, 3.0), (3.0, 0.0), (2.0, 2.0), (0.0, 0.0)])
def test_rounding_covers_what_a_rounded_log_sum_exp_does_to_the_joined_entropy(entropies):
    """In particular where the shares are such that one of the terms of its derivative cancels the others."""
    odds, moved = torch.linspace(-12, 12, 2001, dtype=torch.float64), 1e-6
    nothing = torch.zeros_like(odds)
    one, other = (
        Spread(lse, torch.full_like(odds, h), nothing, nothing)
        for lse, h in zip((odds, nothing), entropies, strict=True)
    )
    found = joined(one._replace(lse_rounding=nothing + moved), other)
    change = (joined(one._replace(lse=odds + moved), other).entropy_nats - found.entropy_nats).abs()
    most = 4.01 * found.rounding + 1e-12  # true errors are up to four times the rounding of an entropy
    assert (change <= most).all()


def test_joining_with_no_keys_changes_nothing():
    some_keys, none = spread_of(some(1, 2, 3, 4)), spread_over_none(some(1, 2, 3, 8))
    for found in (joined(some_keys, none), joined(none, some_keys)):
        assert furthest(found, some_keys) == 0
    nothing = joined(none, none)
    assert (nothing.entropy_nats == 0).all()
    assert (nothing.lse == -math.inf).all()
    assert (nothing.lse_doubled == -math.inf).all()


def test_the_spread_over_one_key_is_its_score_and_zero_entropy():
    score = some(1, 2, 3)
    assert furthest(spread_over_one(score), spread_of(score.double()[..., None])) <= torch.finfo(torch.float32).eps


def test_combined_queries_keep_their_spreads():
    spread = spread_of(some(1, 2, 3, 4))
    longer = combined([spread_over_none(some(1, 2, 2, 8)), spread], partial(torch.cat, dim=2))
    assert (longer.lse[..., :2] == -math.inf).all()
    assert (longer.entropy_nats[..., :2] == 0).all()
    assert furthest(Spread(*(field[..., 2:] for field in longer)), spread) == 0


def test_combined_squares_are_none_if_one_part_has_none():
    spread = spread_of(some(1, 2, 3, 4))
    assert combined([spread, spread._replace(lse_doubled=None)], partial(torch.cat, dim=2)).lse_doubled is None


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 40), (5, 300), (300, 5), (1300, 700)])
def test_fused_and_blockwise_pass_agree(is_causal, num_queries, num_keys, tolerance):
    """A constant bias changes only the log-sum-exp, but no kernel supports it."""
    q, k = some(2, 3, num_queries, 8), some(2, 3, num_keys, 8, seed=1)
    visibility = Visibility(num_queries, num_keys, is_causal=is_causal)
    fused = spread_over_keys(q, k, visibility, scale=0.5, squares=True)
    raised = visibility._replace(mask=torch.full((1, 1, 1, num_keys), 2.0))
    plain = spread_over_keys(q, k, raised, scale=0.5, squares=True)
    lowered = plain._replace(lse=plain.lse - 2, lse_doubled=plain.lse_doubled - 4)
    assert furthest(fused, lowered) <= tolerance("attention.entropy")
    assert not torch.equal(fused.entropy_nats, lowered.entropy_nats)  # otherwise both would have used the same code


def test_squares_are_computed_only_on_request():
    q = some(1, 1, 4, 8)
    assert spread_over_keys(q, q, Visibility(4, 4), scale=1.0).lse_doubled is None


def test_nan_keys_give_nan():
    """NaN in a key gives NaN for every query that sees it."""
    q, k = some(1, 1, 6, 8), some(1, 1, 6, 8, seed=1)
    k[0, 0, 3] = math.nan
    for mask in (None, torch.ones(1, 1, 1, 6)):
        entropy = spread_over_keys(q, k, Visibility(6, 6, is_causal=True, mask=mask), scale=1.0).entropy_nats
        assert entropy[0, 0, 3:].isnan().all()
