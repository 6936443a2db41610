"""How attention is spread over its keys, read off queries and keys without ever building the L×S matrix.

For one query with scores s_j = scale · q·k_j (+ bias_j) and p = softmax(s), the entropy is lse(s) − E_p[s], and
E_p[s] = scale · q·(Σ_j p_j k_j) + E_p[bias]. The bracket is attention whose values are the keys, so one pass of
a stock fused kernel that returns its log-sum-exp is all it takes (docs/theory, section 6). Where no such kernel
serves, a blockwise pass in plain torch gives the same numbers in memory of O(L·E).

Axes: B sequences, H heads, G key heads (H a multiple of G), L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from joma.errors import InvalidArgument

_BLOCK = 256  # keys and queries per block of the plain path: a few MB of scores for a dozen heads


class Attention(NamedTuple):
    """What one pass over queries, keys and values leaves behind.

    Args:
        output: (B, H, L, E) the attended values; 0 where a query sees no key.
        lse: (B, H, L) log Σ exp(scores); meaningless where a query sees no key.
        mean_score: (B, H, L) E_p[s] where the pass had to go block by block, else ``None``.
    """

    output: Tensor
    lse: Tensor
    mean_score: Tensor | None = None


def attention_entropy(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    normalized: bool = False,
) -> Tensor:
    """Entropy of each query's attention, in nats.

    Args:
        q: (B, H, L, E) queries as the kernel sees them (after rotary embedding); any floating dtype.
        k: (B, G, S, E) keys; fewer heads than q mean grouped queries (H a multiple of G).
        scale: factor on q·k; 1/√E where ``None``.
        is_causal: query i sees keys 0 … i, as in ``scaled_dot_product_attention``.
        attn_mask: broadcastable to (B, H, L, S); bool (True = attend) or an additive float bias; not with
            ``is_causal``.
        normalized: divide by the logarithm of the number of keys the query sees, so that 1 is uniform.

    Returns:
        (B, H, L) in float32 (float64 for float64 input), never NaN for finite input. A query that sees one key
        or none has nothing to spread: 0, normalised or not. Leave those out of a normalised mean.

    Valid while scores are affine in q·k (no soft-capping, no sink logits). float32 sums: about 1e-6 nats for
    scores of order 10, growing with the spread of the scores. Source: derived, docs/theory section 6.
    """
    q, k, attn_mask, scale = _checked("attention_entropy", q, k, scale, is_causal, attn_mask)
    attention = attention_with_lse(q, k, k, scale=scale, is_causal=is_causal, attn_mask=attn_mask)
    mean_score = attention.mean_score
    if mean_score is None:
        mean_score = scale * (q * attention.output).sum(dim=-1)
    num_visible = visible_keys(q, k, is_causal=is_causal, attn_mask=attn_mask)
    entropy = (attention.lse - mean_score).clamp_min(0).where(num_visible > 1, 0)
    return entropy / num_visible.clamp_min(2).log() if normalized else entropy


def key_share(
    q: Tensor,
    k: Tensor,
    keys: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
) -> Tensor:
    """Share of each query's attention that falls on some of the keys.

    Args:
        q, k, scale, is_causal, attn_mask: as in ``attention_entropy``.
        keys: (B, S) or (S,) bool; True for the keys that count.

    Returns:
        (B, H, L) in [0, 1]; 0 where a query sees no key.
    """
    q, k, attn_mask, scale = _checked("key_share", q, k, scale, is_causal, attn_mask)
    if keys.dtype != torch.bool or keys.shape[-1:] != k.shape[-2:-1] or keys.dim() > 2:
        raise InvalidArgument(
            "key_share",
            "keys",
            required=f"a bool tensor of shape ({k.shape[0]}, {k.shape[-2]}) or ({k.shape[-2]},)",
            received=f"{keys.dtype} of shape {tuple(keys.shape)}",
            remedy="mark the keys that count with True",
        )
    # The kernel wants values as wide as the keys, and is slow to a fault where their strides are 0.
    values = keys.to(k.dtype).view(-1, 1, k.shape[-2], 1).expand_as(k).contiguous()
    share = attention_with_lse(q, k, values, scale=scale, is_causal=is_causal, attn_mask=attn_mask).output[..., 0]
    num_visible = visible_keys(q, k, is_causal=is_causal, attn_mask=attn_mask)
    return share.clamp(0, 1).where(num_visible > 0, 0)


def first_token_share(
    q: Tensor,
    k: Tensor,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
) -> Tensor:
    """Share of each query's attention that falls on the first key (an attention sink).

    Args:
        q, k, scale, is_causal, attn_mask: as in ``attention_entropy``.

    Returns:
        (B, H, L) in [0, 1]; 0 where a query sees no key.
    """
    first = torch.arange(k.shape[-2], device=k.device) == 0
    return key_share(q, k, first, scale=scale, is_causal=is_causal, attn_mask=attn_mask)


def visible_keys(q: Tensor, k: Tensor, *, is_causal: bool = False, attn_mask: Tensor | None = None) -> Tensor:
    """Count the keys each query sees.

    Args:
        q, k, is_causal, attn_mask: as in ``attention_entropy``; a bias of −inf hides a key.

    Returns:
        Integers, broadcastable to (B, H, L).
    """
    num_queries, num_keys = q.shape[-2], k.shape[-2]
    if is_causal:
        return torch.arange(1, num_queries + 1, device=q.device).clamp_max(num_keys)
    if attn_mask is None:
        return torch.tensor(num_keys, device=q.device)
    seen = attn_mask if attn_mask.dtype == torch.bool else attn_mask > -math.inf
    return seen.sum(-1) * (num_keys if seen.shape[-1] == 1 else 1)


def attention_with_lse(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, is_causal: bool, attn_mask: Tensor | None
) -> Attention:
    """Attend, and keep the log-sum-exp: the one door to torch's private fused kernels.

    Args:
        q: (B, H, L, E) in float32 or float64.
        k, v: (B, H, S, E), already one head per query head.
        scale: factor on q·k.
        is_causal, attn_mask: as in ``attention_entropy``, the mask four-dimensional.
    """
    with torch.no_grad():
        if q.device.type == "cpu" and (attn_mask is None or attn_mask.dtype == torch.bool):
            bias = None if attn_mask is None else torch.zeros_like(attn_mask, dtype=q.dtype)
            if bias is not None:
                bias.masked_fill_(~attn_mask, -math.inf)  # ty: ignore[unsupported-operator]
            kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return Attention(*kernel(q, k, v, 0.0, is_causal, attn_mask=bias, scale=scale))
        if q.device.type == "cuda" and attn_mask is None and q.dtype == torch.float32 and q.shape[-1] % 4 == 0:
            kernel = torch.ops.aten._scaled_dot_product_efficient_attention
            output, lse, *_ = kernel(q, k, v, None, True, 0.0, is_causal, scale=scale)
            return Attention(output, lse[..., : q.shape[-2]])  # the kernel pads to a multiple of 32 queries
        return blockwise_attention(q, k, v, scale=scale, is_causal=is_causal, attn_mask=attn_mask)


def blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, is_causal: bool, attn_mask: Tensor | None
) -> Attention:
    """Attend block by block with a running log-sum-exp, in plain torch, on any device.

    Args:
        q, k, v, scale, is_causal, attn_mask: as in ``attention_with_lse``.

    Returns:
        Output, log-sum-exp and the mean score, which no fused kernel gives under an additive bias.
    """
    rows = [
        _query_block(q, k, v, slice(start, start + _BLOCK), scale=scale, is_causal=is_causal, attn_mask=attn_mask)
        for start in range(0, q.shape[-2], _BLOCK)
    ]
    output, lse, mean_score = (torch.cat(parts, dim=2) for parts in zip(*rows, strict=True))
    return Attention(output, lse, mean_score)


def _query_block(
    q: Tensor, k: Tensor, v: Tensor, rows: slice, *, scale: float, is_causal: bool, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    q = q[:, :, rows] * scale
    positions = torch.arange(rows.start, rows.start + q.shape[-2], device=q.device)
    peak = torch.full(q.shape[:-1], -math.inf, dtype=q.dtype, device=q.device)
    total, score, output = torch.zeros_like(peak), torch.zeros_like(peak), torch.zeros_like(q)
    num_keys = min(k.shape[-2], int(positions[-1]) + 1) if is_causal else k.shape[-2]
    for start in range(0, num_keys, _BLOCK):
        columns = slice(start, min(start + _BLOCK, num_keys))
        scores = q @ k[:, :, columns].transpose(-1, -2)
        if is_causal:
            hidden = torch.arange(columns.start, columns.stop, device=q.device) > positions[:, None]
            scores = scores.masked_fill(hidden, -math.inf)
        if attn_mask is not None:
            part = attn_mask if attn_mask.shape[-2] == 1 else attn_mask[:, :, rows]
            part = part if part.shape[-1] == 1 else part[..., columns]
            scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
        new_peak = torch.maximum(peak, scores.amax(-1))
        shift = new_peak.where(new_peak > -math.inf, 0)  # a row that has seen no key yet
        decay, weights = (peak - shift).exp(), (scores - shift[..., None]).exp()
        total = total * decay + weights.sum(-1)
        score = score * decay + (weights * scores.where(weights > 0, 0)).sum(-1)  # 0 · −inf counts as 0
        output = output * decay[..., None] + weights @ v[:, :, columns]
        peak = new_peak
    some = total.clamp_min(torch.finfo(total.dtype).tiny)
    return output / some[..., None], peak + some.log(), score / some


def _checked(
    function: str, q: Tensor, k: Tensor, scale: float | None, is_causal: bool, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """Raise queries and keys to full precision, centre the keys, give every query head its own, the mask four axes."""
    if (
        q.dim() != 4
        or k.dim() != 4
        or q.shape[0] != k.shape[0]
        or q.shape[-1] != k.shape[-1]
        or q.shape[1] % k.shape[1]
    ):
        raise InvalidArgument(
            function,
            "k",
            required="of shape (batch, key heads, keys, head dim), the key heads dividing the query heads",
            received=f"{tuple(k.shape)} beside q of {tuple(q.shape)}",
            remedy="transpose both to (batch, heads, length, head dim)",
        )
    if not q.numel() or not k.numel():
        raise InvalidArgument(
            function,
            "q" if not q.numel() else "k",
            required="at least one query and one key",
            received=f"empty, of shape {tuple(q.shape if not q.numel() else k.shape)}",
            remedy="skip empty batches",
        )
    if is_causal and attn_mask is not None:
        raise InvalidArgument(
            function,
            "attn_mask",
            required="None where is_causal=True",
            received="given as well",
            remedy="fold causality into the mask: attn_mask & torch.ones(L, S, dtype=torch.bool).tril()",
        )
    dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype) else torch.float32
    q, k = q.detach().to(dtype), k.detach().to(dtype)
    k = k - k.mean(dim=-2, keepdim=True)  # shifts each row's scores by a constant: same p, less cancellation
    if q.shape[1] != k.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return q, k, _four_axes(function, q, k, attn_mask), q.shape[-1] ** -0.5 if scale is None else scale


def _four_axes(function: str, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    full = (*q.shape[:-1], k.shape[-2])
    fits = mask.dim() <= 4 and all(a in (1, b) for a, b in zip(mask.shape[::-1], full[::-1], strict=False))
    if not fits or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise InvalidArgument(
            function,
            "attn_mask",
            required=f"bool or float, broadcastable to {full}",
            received=f"{str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}",
            remedy="True (or 0.0) lets a query attend, False (or -inf) hides a key",
        )
    mask = mask.detach().view(*[1] * (4 - mask.dim()), *mask.shape)
    return mask if mask.dtype == torch.bool else mask.to(q.dtype)
