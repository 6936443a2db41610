"""Attention in plain torch and float64, with which outputs of kernels are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from joma.measure.attention.visibility import hides, is_causal_bias
from joma.measure.capture.calls import AttentionCall


@torch.no_grad()
def plain_attention(call: AttentionCall, v: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output of some queries of an attention call, computed with the whole softmax in float64.

    Args:
        call: with queries (B, H, L, E) and keys (B, G, S, E), G a divisor of H.
        v: (B, G, S, V) values.
        rows: (R,) indices of the queries.

    Returns:
        Outputs (B, H, R, V), and whether each query sees a key, (B or 1, H or 1, R).
    """
    score, num_keys = scores(call, rows), call.k.shape[2]
    seen = (score > -torch.inf).any(-1)
    with torch.autocast(v.device.type, enabled=False):
        if call.sinks is not None:
            sinks = call.sinks.detach().double()[:, None, None]
            score = torch.cat([score, sinks.expand(*score.shape[:-1], 1)], dim=-1)
        v = v.detach().double().repeat_interleave(call.q.shape[1] // v.shape[1], dim=1)
        return score.softmax(-1)[..., :num_keys] @ v, seen


def scores(call: AttentionCall, rows: Tensor) -> Tensor:
    """Return the scores of some queries before the softmax, (B, H, R, S) in float64; hidden keys have −inf."""
    q, k = call.q.detach().double()[:, :, rows], call.k.detach().double()
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    with torch.autocast(q.device.type, enabled=False):
        score = q @ k.mT * (q.shape[-1] ** -0.5 if call.scale is None else call.scale)
    if (cap := call.softcap) is not None:
        score = cap * (score / cap).tanh()
    if is_causal_bias(mask := call.attn_mask):
        is_upper = mask.variant.name == "UPPER_LEFT"
        sees = torch.ones(mask.seq_len_q, mask.seq_len_kv, dtype=torch.bool, device=q.device)
        mask = sees.tril(0 if is_upper else mask.seq_len_kv - mask.seq_len_q)
    if mask is not None:
        mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
        score = (score if mask.dtype == torch.bool else score + mask).masked_fill(hides(mask), -torch.inf)
    if call.is_causal:
        score = score.masked_fill(torch.arange(k.shape[2], device=q.device) > rows[:, None], -torch.inf)
    return score
