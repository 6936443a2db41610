"""Hidden units of a decoder on samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from joma.arrays import REAL
from joma.measure.latents.alignment import max_pooled
from joma.train.decoder import Decoder, evaluating

_NUM_AT_ONCE = 512


@torch.no_grad()
def pooled_hidden(decoder: Decoder, tokens: Int[Tensor, "B L"]) -> list[Float[Tensor, "B K"]]:
    """Return, for each layer, the largest activation of every hidden unit over the positions of a sequence.

    All positions count, including padding, as in the paper (theory, section 5b).

    Args:
        decoder: the network; it is evaluated without dropout, and its mode is restored.
        tokens: (B, L) token ids.

    Returns:
        a tensor (B, K) for each layer; an empty list if the network has no MLP.
    """
    parts: list[list[Tensor]] = [[] for _ in decoder.lower_weights()]
    with evaluating(decoder):
        for batch in tokens.split(_NUM_AT_ONCE):
            decoder(batch, observe_hidden=lambda layer, hidden: parts[layer].append(max_pooled(hidden)))
    return [torch.cat(part) for part in parts]


@torch.no_grad()
def mean_hidden(decoder: Decoder, tokens: Int[Tensor, "B L"]) -> list[Float[Tensor, "V K"]]:
    """Return, for each layer, the activation of every hidden unit at a token, mean over the places where it stands.

    Args:
        decoder: the network; it is evaluated without dropout, and its mode is restored.
        tokens: (B, L) token ids.

    Returns:
        a tensor (V, K) for each layer, 0 for tokens that do not occur; an empty list if the network has no MLP.
    """
    num_tokens = decoder.config.vocabulary_size
    sums = [torch.zeros(num_tokens, len(lower), dtype=REAL) for lower in decoder.lower_weights()]
    with evaluating(decoder):
        for batch in tokens.split(_NUM_AT_ONCE):
            ids = batch.flatten()
            decoder(
                batch,
                observe_hidden=lambda layer, hidden, ids=ids: sums[layer].index_add_(
                    0, ids, hidden.flatten(0, 1).to(REAL)
                ),
            )
    counts = torch.bincount(tokens.flatten(), minlength=num_tokens).clamp_min(1)
    return [total / counts[:, None] for total in sums]
