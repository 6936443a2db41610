"""Hidden units of a decoder on samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
