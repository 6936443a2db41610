"""Log-sum-exp and entropy of each query's attention in one pass over the keys, without the L×S matrix.

If scores are scale · q·k and masks only hide keys, one call of a fused torch kernel returns both; its values are the
keys themselves (docs/theory, section 6). All other cases (additive biases, soft-capping, devices without such a kernel)
are computed block by block in plain torch, in memory of O(L·E).

Spreads over disjoint sets of keys can be joined; so blocks, the first key and sink logits are combined.

Axes: B sequences, H heads, G key heads (H a multiple of G), L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from joma.measure.attention.visibility import Visibility
from joma.measure.precision import full_precision

_HALF = {dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float32, torch.float64)}
_FEW = 4  # how many times larger the rounding of an entropy is than that of its log-sum-exp


class Spread(NamedTuple):
    """How softmax attention is spread over some keys, for each query; all (B, H, L).

    Args:
        lse: log Σ exp(s) over those keys; −inf if the query sees none of them.
        entropy_nats: entropy of softmax(s) over those keys; 0 if the query sees none.
        rounding: of the entropy, in nats: half a unit in the last place of the terms that cancel in it; true errors
            are a few times larger.
        lse_rounding: of lse; true errors are about as large.
        lse_doubled: log Σ exp(2 s), so that Σ p² = exp(lse_doubled − 2 lse); ``None`` if not requested.
    """

    lse: Tensor
    entropy_nats: Tensor
    rounding: Tensor
    lse_rounding: Tensor
    lse_doubled: Tensor | None = None


def joined(one: Spread, other: Spread) -> Spread:
    """Return the spread over the union of two disjoint sets of keys.

    With w the share of the first set: H = w H₁ + (1 − w) H₂ − w log w − (1 − w) log(1 − w).
    """
    nothing = (one.lse == -math.inf) & (other.lse == -math.inf)
    odds = (one.lse - other.lse).masked_fill(nothing, 0)
    share, rest = odds.sigmoid(), (-odds).sigmoid()
    mixing = torch.special.entr(share) + torch.special.entr(rest)
    entropy = share * one.entropy_nats + rest * other.entropy_nats + mixing
    of_odds = (one.lse_rounding + other.lse_rounding) / _FEW
    nearest = (odds.abs() - _FEW * of_odds).clamp_min(0)  # where rounding exceeds the odds, neither share is known
    sensitivity = (odds - one.entropy_nats + other.entropy_nats).abs().masked_fill(odds.isinf(), 0)
    sensitivity *= nearest.sigmoid() * (-nearest).sigmoid()
    rounding = share * one.rounding + rest * other.rounding + sensitivity * of_odds
    lse_rounding = share * one.lse_rounding + rest * other.lse_rounding
    doubled = None
    if one.lse_doubled is not None and other.lse_doubled is not None:
        doubled = torch.logaddexp(one.lse_doubled, other.lse_doubled)
    lse = torch.logaddexp(one.lse, other.lse)
    entropy, rounding, lse_rounding = (part.masked_fill(nothing, 0) for part in (entropy, rounding, lse_rounding))
    return Spread(lse, entropy, rounding, lse_rounding, doubled)


def combined(parts: Iterable[Spread], combine: Callable[[list[Tensor]], Tensor]) -> Spread:
    """Combine the spreads of different queries field by field, for example by ``torch.cat``."""
    fields = zip(*parts, strict=True)
    return Spread._make(None if any(part is None for part in field) else combine(list(field)) for field in fields)


def spread_over_one(score: Tensor) -> Spread:
    """Return the spread over a single key with this score."""
    zero = torch.zeros_like(score)
    return Spread(score, zero, zero, _HALF[score.dtype] * score.abs(), 2 * score)


def spread_over_one_each(
    q: Tensor, k: Tensor, seen: Tensor, bias: Tensor | None, *, scale: float, softcap: float | None = None
) -> Spread:
    """Return the spread of each query over one key: its own, or one that all queries share.

    Args:
        q: (B, H, L, E).
        k: (B, H, L or 1, E).
        seen: whether a query sees its key; broadcastable to (B, H, L).
        bias: added to scores; broadcastable to (B, H, L).
        scale, softcap: as in ``spread_over_keys``.
    """
    with full_precision(q.device):
        score = scale * (torch.linalg.vecdot(q, k) if k.shape[2] > 1 else (q @ k.mT)[..., 0])
    score = score if softcap is None else softcap * (score / softcap).tanh()
    score = (score if bias is None else score + bias).where(seen, -math.inf)
    size = torch.linalg.vector_norm(q, dim=-1) * torch.linalg.vector_norm(k, dim=-1)  # bounds the terms of the scores
    return spread_over_one(score)._replace(lse_rounding=(_HALF[q.dtype] * abs(scale) * size).where(seen, 0))


def spread_over_none(q: Tensor) -> Spread:
    """Return the spread of queries q (B, H, L, E) that see no key."""
    nothing, zero = q.new_full(q.shape[:-1], -math.inf), q.new_zeros(q.shape[:-1])
    return Spread(nothing, zero, zero, zero, nothing)


def spread_over_keys(
    q: Tensor, k: Tensor, visibility: Visibility, *, scale: float, softcap: float | None = None, squares: bool = False
) -> Spread:
    """Return the spread of each query over all keys that it sees.

    Args:
        q: (B, H, L, E) in float32 or float64.
        k: (B, G, S, E) in the same dtype; not copied for grouped queries.
        visibility: which keys each query sees.
        scale: factor on q·k.
        softcap: scores become c·tanh(score / c) before any bias.
        squares: compute ``lse_doubled`` too, which takes a second call of a fused kernel.
    """
    group = q.shape[1] // k.shape[1]
    with full_precision(q.device):
        members = [
            _spread(q[:, n::group], k, visibility.of_group_member(n, group), _Scores(scale, softcap, squares))
            for n in range(group)
        ]
    return members[0] if group == 1 else combined(members, lambda parts: torch.stack(parts, dim=2).flatten(1, 2))


def largest_score(
    q: Tensor, k: Tensor, visibility: Visibility, *, scale: float, softcap: float | None = None
) -> Tensor:
    """Return each query's largest score over the keys that it sees, (B, H, L); −inf if it sees none.

    Args:
        q, k, visibility, scale, softcap: as in ``spread_over_keys``.
    """
    group, scores = q.shape[1] // k.shape[1], _Scores(scale, softcap, False)
    with full_precision(q.device):
        members = [_largest(q[:, n::group], k, visibility.of_group_member(n, group), scores) for n in range(group)]
    return torch.stack(members, dim=2).flatten(1, 2)


def _largest(q: Tensor, k: Tensor, visibility: Visibility, scores: _Scores) -> Tensor:
    largest = q.new_full(q.shape[:-1], -math.inf)
    for rows in visibility.row_blocks():
        seen, of_rows = visibility.columns(rows), q[:, :, rows]
        size = _block_size(of_rows)
        for start in range(seen.start, seen.stop, size):
            columns = slice(start, min(start + size, seen.stop))
            score = _scored(of_rows, k[:, :, columns], visibility.bias(rows, columns, q), scores)
            largest[:, :, rows] = torch.maximum(largest[:, :, rows], score.amax(-1))
    return largest


class _Scores(NamedTuple):
    scale: float
    softcap: float | None
    squares: bool


def _spread(q: Tensor, k: Tensor, visibility: Visibility, scores: _Scores) -> Spread:
    if not (visibility.num_keys and visibility.num_queries):
        return spread_over_none(q)
    whole = slice(0, visibility.num_queries), slice(0, visibility.num_keys)
    if visibility.is_whole and scores.softcap is None and visibility.at is None:
        bias = visibility._replace(is_causal=False).bias(*whole, q)
        if (visibility.hides_only or _hides_only(bias)) and _has_kernel(q, bias):
            seen = None if bias is None else visibility.census(q).num_visible > 0
            return _fused(q, k, bias, scores, is_causal=visibility.is_causal, seen=seen)
    parts = (_spread_of_rows(q[:, :, rows], k, visibility, rows, scores) for rows in visibility.row_blocks())
    return combined(parts, partial(torch.cat, dim=2))


def _spread_of_rows(q: Tensor, k: Tensor, visibility: Visibility, rows: slice, scores: _Scores) -> Spread:
    columns = visibility.columns(rows)
    bias = visibility.bias(rows, columns, q)
    if bias is not None and bias.shape[-1] > 1:
        # Skip columns that no query of these rows sees: half of a causal mask, most of a packed or a local one.
        used = (bias.amax((0, 1, 2)) != -math.inf).nonzero()
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, -1)
        columns, bias = slice(columns.start + first, columns.start + last + 1), bias[..., first : last + 1]
    k = k[:, :, columns]
    if not k.shape[2]:
        return spread_over_none(q)
    fusible = scores.softcap is None and visibility.at is None  # for few queries in float64, blocks are faster
    if fusible and (visibility.hides_only or _hides_only(bias)) and _has_kernel(q, bias):
        seen = None if bias is None else bias.amax(-1) != -math.inf
        return _fused(q, k, bias, scores, is_causal=False, seen=seen)
    size = _block_size(q)
    return reduce(joined, (_block(q, k, bias, scores, n, size) for n in range(0, k.shape[2], size)))


def _block_size(q: Tensor) -> int:
    """Return the number of keys whose scores are computed at once."""
    num_scores = 2**20 if q.device.type == "cpu" else 2**24  # fits into the cache, or keeps an accelerator busy
    return max(32, num_scores // max(1, math.prod(q.shape[:3])))


def _block(q: Tensor, k: Tensor, bias: Tensor | None, scores: _Scores, start: int, size: int) -> Spread:
    bias = bias if bias is None or bias.shape[-1] == 1 else bias[..., start : start + size]
    score = _scored(q, k[:, :, start : start + size], bias, scores)
    peak = score.amax(-1)
    peak = peak.masked_fill(peak == -math.inf, 0)  # a row that sees no key of this block
    below = score.sub_(peak[..., None])
    weights = below.exp()
    total = weights.sum(-1)
    doubled = 2 * peak + torch.linalg.vecdot(weights, weights).log() if scores.squares else None
    below.clamp_min_(-1e4)  # the weight is 0 there, but 0 · −inf is NaN
    entropy = total.log() - torch.linalg.vecdot(weights, below) / total
    rounding = _HALF[q.dtype] * peak.abs()
    entropy = entropy.masked_fill(total == 0, 0)
    return Spread(peak + total.log(), entropy, rounding, rounding, doubled)


def _scored(q: Tensor, k: Tensor, bias: Tensor | None, scores: _Scores) -> Tensor:
    score = (q * scores.scale) @ k.transpose(-1, -2)
    if scores.softcap is not None:
        score = score.div_(scores.softcap).tanh_().mul_(scores.softcap)
    return score if bias is None else score.add_(bias)


def _fused(
    q: Tensor, k: Tensor, bias: Tensor | None, scores: _Scores, *, is_causal: bool, seen: Tensor | None
) -> Spread:
    """Attend with the keys as values; ``seen`` marks the queries that see a key, ``None`` means all."""
    mean_key, lse = _kernel(q, k, scores.scale, is_causal, bias)
    size = torch.linalg.vector_norm(q, dim=-1) * torch.linalg.vector_norm(mean_key, dim=-1)
    mean_score = scores.scale * mean_key.mul_(q).sum(-1)
    rounding = _HALF[q.dtype] * (lse.abs() + abs(scores.scale) * size)
    lse = lse.where(mean_score.isfinite(), math.nan)  # kernels may hide scores that are not finite
    entropy = (lse - mean_score).clamp_min(0)
    doubled = _kernel(q, k, 2 * scores.scale, is_causal, bias)[1] if scores.squares else None
    if seen is not None:
        lse, entropy, rounding = lse.where(seen, -math.inf), entropy.where(seen, 0), rounding.where(seen, 0)
        doubled = None if doubled is None else doubled.where(seen, -math.inf)
    return Spread(lse, entropy, rounding, rounding, doubled)


def _has_kernel(q: Tensor, bias: Tensor | None) -> bool:
    if q.device.type == "cpu":
        return True
    return q.device.type == "cuda" and bias is None and q.dtype == torch.float32 and q.shape[-1] % 4 == 0


def _kernel(q: Tensor, k: Tensor, scale: float, is_causal: bool, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attend with the keys as values and return the log-sum-exp too; the only use of torch's private kernels."""
    if q.device.type == "cpu":
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(q, k, k, 0.0, is_causal, attn_mask=bias, scale=scale)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    output, lse, *_ = kernel(q, k, k, None, True, 0.0, is_causal, scale=scale)
    return output, lse[..., : q.shape[-2]]  # the kernel pads to a multiple of 32 queries


def _hides_only(bias: Tensor | None) -> bool:
    """Whether a bias only hides keys; the last row is checked first, because other biases mostly show there."""
    if bias is None:
        return True
    return all(((part == 0) | (part == -math.inf)).all() for part in (bias[:, :, -1:], bias))
