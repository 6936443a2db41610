"""Attention weights themselves, for texts of a few tokens: the only place where the L×S matrix is held."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from joma.measure.attention.arguments import checked


def attention_weights(
    q: Float[Tensor, "B H L E"],
    k: Float[Tensor, "B G S E"],
    *,
    scale: float | None = None,
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Float[Tensor, "B H L S"]:
    """Return the weight of each key for each query, in float64.

    Args:
        q: queries, H heads.
        k: keys; G divides H, and consecutive heads share keys.
        scale, is_causal, attn_mask, softcap, sinks: as in ``attention_statistics``.

    Returns:
        Weights of 0 to 1. Those of a query sum to 1, to less with ``sinks``, and to 0 if it sees no key.

    Raises:
        InvalidArgument: shapes that do not fit each other.
    """
    q, k, visibility, scale = checked("attention_weights", q, k, scale, is_causal, attn_mask)
    q, k = q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = scale * (q @ k.mT)
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    bias = visibility.bias(slice(0, q.shape[2]), slice(0, k.shape[2]), scores)
    scores = scores if bias is None else scores + bias
    if sinks is not None:
        sink = sinks.detach().double()[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    hidden = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.softmax(-1).masked_fill(hidden, 0)[..., : k.shape[2]]
