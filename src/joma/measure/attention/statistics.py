"""Statistics of attention, computed from queries and keys without building the L×S matrix.

For one query with scores s_j = scale · q·k_j (+ bias_j) and p = softmax(s), the entropy is lse(s) − E_p[s], and
E_p[s] = scale · q·(Σ_j p_j k_j) + E_p[bias]. The bracket is attention whose values are the keys, so one pass of a stock
fused kernel that returns its log-sum-exp is enough (docs/theory, section 6). If there is no such kernel, a blockwise
pass in plain torch gives the same numbers in memory of O(L·E).

Everything here is computed in float32 (float64 for float64 input) for every dtype of q and k, without gradients and
without autocast; queries whose scores are too large for float32 are repeated in float64. Values are never NaN for
finite input. NaN in a query makes the values of that query NaN; NaN in a key that some query sees makes those of all
queries of its head NaN. Keys that no query sees have no influence.

Axes: B sequences, H heads, G key heads (H a multiple of G), L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from joma.domains import POSITIVE, check_flag
from joma.errors import InvalidArgument
from joma.measure.attention.arguments import checked, of_heads, require_whole, sinks_over_queries
from joma.measure.attention.refined import Attention, attention_of, refined
from joma.measure.attention.spread import Spread, joined
from joma.measure.attention.visibility import Census


class AttentionStatistics(NamedTuple):
    """Statistics of each query's attention; all (B, H, L), in float32 (float64 for float64 input).

    Their means are metrics, whose names are those of the fields after ``attention_`` (``joma.metrics``).

    Args:
        entropy_nats: −Σ p log p; 0 if a query sees one key or none.
        entropy_normalized: the entropy divided by the logarithm of the number of keys the query sees, so that 1 is
            uniform; 0 if it sees one key or none, so leave those queries out of a mean.
        sum_of_squares: Σ p², whose reciprocal is the effective number of keys; 0 if a query sees no key.
        first_token_share: p of the first key of the query's sequence (an attention sink), found from the mask as in
            ``first_token_share``; 0 if the query does not see it.
        entropy_without_first_nats: entropy of the attention over all other keys, as if the first key were hidden.
        max_logit: the largest score before the softmax, with soft-capping and bias, without sinks; −inf if a query sees
            no key.
        window_share: p of the keys less than ``share_window`` positions away; ``None`` without ``share_window``.
    """

    entropy_nats: Tensor
    entropy_normalized: Tensor
    sum_of_squares: Tensor
    first_token_share: Tensor
    entropy_without_first_nats: Tensor
    max_logit: Tensor
    window_share: Tensor | None = None


@of_heads
def attention_statistics(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    share_window: int | None = None,
) -> AttentionStatistics:
    """Return all statistics of attention, from two passes over the keys and one over the scores.

    >>> import torch, joma
    >>> q = k = 5 * torch.eye(4)[None, None]  # each query attends to its own key
    >>> found = joma.attention_statistics(q, k, scale=1.0, is_causal=True)
    >>> found.max_logit[0, 0]
    tensor([25., 25., 25., 25.])
    >>> found.first_token_share[0, 0].round(decimals=3)
    tensor([1., 0., 0., 0.])

    Args:
        q, k, scale, is_causal, attn_mask: as in ``attention_entropy``.
        window: sliding window; keys at this distance or farther are hidden: with ``is_causal``, query i sees keys
            i − window + 1 … i; otherwise also those up to i + window − 1.
        softcap: scores become c·tanh(score / c) before mask and bias.
        sinks: (H,) logits that join each head's softmax without a value. A sink counts as one more key that every query
            sees, without a position: it enters every statistic, but is in no share.
        share_window: keys nearer than this count in ``window_share``, by the rule of ``window``.

    Returns:
        One value per sequence, head and query. The entropy H' without the first key is computed, and then joined with
        the first key's share p₀ to H = (1 − p₀) H' − p₀ log p₀ − (1 − p₀) log(1 − p₀), so that H' stays accurate if p₀
        is close to 1.

    Valid for softmax attention. Positions count from the first query and the first key, or back from the last ones if
    ``attn_mask`` is torch's ``causal_lower_right``. Source: derived, docs/theory section 6.
    """
    function = "attention_statistics"
    require_whole(function, "window", window, remedy="pass None if the model has no window")
    require_whole(function, "share_window", share_window, remedy="1 counts only the query's own key")
    softcap = None if softcap is None else POSITIVE.check(softcap, function, "softcap")
    q, k, visibility, scale = checked(function, q, k, scale, is_causal, attn_mask)
    attention = attention_of(q, k, visibility._replace(window=window), scale=scale, softcap=softcap)
    if sinks is not None:
        attention = attention._replace(sinks=sinks_over_queries(function, q, sinks))
    found = refined(attention, partial(_statistics, share_window=share_window))
    return AttentionStatistics(*found)


def _statistics(attention: Attention, share_window: int | None) -> tuple[list[Tensor], Tensor]:
    """Return all statistics, and the largest of their rounding errors."""
    first, others = attention.first_and_others(squares=True)
    everything = joined(first, others)
    num_keys = attention.num_keys
    entropy = _entropy(everything, num_keys)
    found = [
        entropy,
        entropy / num_keys.clamp_min(2).log(),
        _sum_of_squares(everything),
        _share(first, everything),
        _entropy(others, num_keys - (first.lse > -math.inf).long()),
        attention.largest_score(),
    ]
    rounding = torch.maximum(everything.rounding, others.rounding)
    rounding = rounding.where(found[-1].isfinite() | (attention.num_visible == 0), torch.nan)
    if share_window is not None:
        near = attention._replace(visibility=attention.visibility.within(share_window)).spread()
        found.append(_share(near, everything))
        rounding = torch.maximum(rounding, found[-1] * near.lse_rounding.expm1())
    return found, rounding


@of_heads
def attention_entropy(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    normalized: bool = False,
) -> Tensor:
    """Return the entropy of each query's attention, in nats.

    >>> import torch, joma
    >>> q, k = torch.zeros(1, 2, 4, 8), torch.randn(1, 2, 4, 8)  # queries of zeros attend evenly
    >>> joma.attention_entropy(q, k, is_causal=True)[0, 0].exp()
    tensor([1., 2., 3., 4.])

    Args:
        q: (B, H, L, E) queries as the kernel receives them (after rotary embedding); any floating dtype.
        k: (B, G, S, E) keys; fewer heads than q mean grouped queries (H a multiple of G).
        scale: factor on q·k; 1/√E if ``None``.
        is_causal: query i sees keys 0 … i, as in ``scaled_dot_product_attention``.
        attn_mask: broadcastable to (B, H, L, S); bool (True = attend) or an additive float bias; or torch's
            ``CausalBias``; not with ``is_causal``. A bias hides a key by −inf, by the lowest number of its dtype, or by
            a large negative number such as −1e4 or −1e9 (any below −9,000, unless graded biases such as ALiBi's reach
            it), and also by one such as −1,000 that lies so far below all others that no score makes up for it; there
            is a warning if some score might.
        normalized: divide by the logarithm of the number of keys the query sees, so that 1 is uniform.

    Returns:
        (B, H, L) in float32 (float64 for float64 input), never NaN for finite input; 0, normalised or not, for a query
        that sees one key or none. Leave those queries out of a normalised mean.

    Valid if scores are affine in q·k (no soft-capping and no sink logits; for these, ``attention_statistics``). The
    error is at most 1e-5 nats for scores up to 1e9. Measured errors were 1e-6 for random queries and keys whose scores
    have a standard deviation of 1, 6e-6 for one of 5, and 9e-6 for two pretrained models at 512 and 2,048 tokens. With
    scores as large as theirs, some queries are repeated in float64, and the time is 1.4 to 1.5 times that of plain
    attention at 2,048 tokens instead of 1.1. Source: derived, docs/theory section 6.
    """
    check_flag(normalized, "attention_entropy", "normalized")
    q, k, visibility, scale = checked("attention_entropy", q, k, scale, is_causal, attn_mask)
    attention = attention_of(q, k, visibility, scale=scale)

    def measured(attention: Attention) -> tuple[list[Tensor], Tensor]:
        if attention.is_repeated or attention.is_mild:
            everything = attention.spread()
            return [_entropy(everything, attention.num_keys)], 2 * everything.rounding
        everything = joined(*attention.first_and_others())
        return [_entropy(everything, attention.num_keys)], everything.rounding

    entropy = refined(attention, measured)[0]
    return entropy / attention.num_keys.clamp_min(2).log() if normalized else entropy


@of_heads
def key_share(
    q: Tensor,
    k: Tensor,
    keys: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
) -> Tensor:
    """Return the share of each query's attention that falls on some of the keys.

    >>> import torch, joma
    >>> q, k = torch.zeros(1, 2, 4, 8), torch.randn(1, 2, 4, 8)  # queries of zeros attend evenly
    >>> is_comma = torch.tensor([False, True, False, True])
    >>> joma.key_share(q, k, is_comma, is_causal=True)[0, 0].round(decimals=3)
    tensor([0.0000, 0.5000, 0.3330, 0.5000])

    Args:
        q, k, scale, is_causal, attn_mask: as in ``attention_entropy``.
        keys: (B, S) or (S,) bool; True for the keys that count.

    Returns:
        (B, H, L) in [0, 1]; 0 if a query sees no key.
    """
    q, k, visibility, scale = checked("key_share", q, k, scale, is_causal, attn_mask)
    if keys.dtype != torch.bool or keys.shape not in ((k.shape[0], k.shape[-2]), k.shape[-2:-1]):
        raise InvalidArgument(
            "key_share",
            "keys",
            required=f"a bool tensor of shape ({k.shape[0]}, {k.shape[-2]}) or ({k.shape[-2]},)",
            received=f"{keys.dtype} of shape {tuple(keys.shape)}",
            remedy="mark the keys that count with True",
        )
    attention = attention_of(q, k, visibility, scale=scale)
    counted = keys.view(-1, 1, 1, k.shape[-2])

    def measured(attention: Attention) -> tuple[list[Tensor], Tensor]:
        everything = attention.spread()
        part = attention._replace(visibility=attention.visibility._replace(keys=counted)).spread()
        share = _share(part, everything)
        return [share], torch.maximum(everything.rounding, share * part.lse_rounding.expm1())

    return refined(attention, measured)[0]


@of_heads
def first_token_share(
    q: Tensor, k: Tensor, *, scale: float | None = None, is_causal: bool = False, attn_mask: Tensor | None = None
) -> Tensor:
    """Return the share of each query's attention that falls on the first key of its sequence (an attention sink).

    >>> import torch, joma
    >>> q, k = torch.zeros(1, 2, 4, 8), torch.randn(1, 2, 4, 8)  # queries of zeros attend evenly
    >>> joma.first_token_share(q, k, is_causal=True)[0, 0].round(decimals=3)
    tensor([1.0000, 0.5000, 0.3330, 0.2500])

    The first key is the first that is not padding; each of several packed documents has its own. The mask shows which
    it is: the first key that a query sees begins a sequence if the query at its position sees no earlier key either.

    Args:
        q, k, scale, is_causal, attn_mask: as in ``attention_entropy``.

    Returns:
        (B, H, L) in [0, 1]; 0 if a query does not see that key, for example beyond a sliding window.
    """
    q, k, visibility, scale = checked("first_token_share", q, k, scale, is_causal, attn_mask)

    def measured(attention: Attention) -> tuple[list[Tensor], Tensor]:
        first, others = attention.first_and_others()
        everything = joined(first, others)
        return [_share(first, everything)], everything.rounding

    return refined(attention_of(q, k, visibility, scale=scale), measured)[0]


def largest_logit(
    q: Tensor, k: Tensor, *, scale: float | None = None, is_causal: bool = False, attn_mask: Tensor | None = None
) -> Tensor:
    """Return each query's largest score before the softmax, (B, H, L), at the cost of one pass over the scores.

    Arguments are as in ``attention_entropy``; −inf if a query sees no key.
    """
    q, k, visibility, scale = checked("largest_logit", q, k, scale, is_causal, attn_mask)
    return attention_of(q, k, visibility, scale=scale).largest_score()


def census_of_keys(q: Tensor, k: Tensor, *, is_causal: bool = False, attn_mask: Tensor | None = None) -> Census:
    """Return which keys are visible to which queries; arguments are as in ``attention_entropy``."""
    return checked("census_of_keys", q, k, None, is_causal, attn_mask)[2].census(q)


def _entropy(spread: Spread, num_keys: Tensor) -> Tensor:
    """Return the entropy, clamped to the range that this number of keys allows; 0 for one key or none."""
    return torch.minimum(spread.entropy_nats.clamp_min(0), num_keys.clamp_min(1).log()).where(num_keys > 1, 0)


def _share(part: Spread, everything: Spread) -> Tensor:
    nothing = everything.lse == -math.inf
    return (part.lse - everything.lse).masked_fill(nothing, -math.inf).exp().clamp_max(1)


def _sum_of_squares(spread: Spread) -> Tensor:
    assert spread.lse_doubled is not None
    nothing = spread.lse == -math.inf
    return (spread.lse_doubled - 2 * spread.lse).masked_fill(nothing, -math.inf).exp().clamp_max(1)
