"""Hidden units of a network, read while it looks at samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from joma.measure.latents.alignment import max_pooled
from joma.train.decoder import Decoder

_NUM_AT_ONCE = 512


@torch.no_grad()
def pooled_hidden(decoder: Decoder, tokens: Int[Tensor, "B L"]) -> list[Float[Tensor, "B K"]]:
    """Return, for each layer, the largest activation of every hidden unit over the positions of a sequence.

    All positions count, padding too, as in the paper (theory, section 5b).

    Args:
        decoder: left as it was, in training mode or not; nothing is dropped meanwhile.
        tokens: (B, L) below the vocabulary's size.

    Returns:
        one (B, K) for each layer; none where the network has no MLP.
    """
    parts: list[list[Tensor]] = [[] for _ in decoder.lower_weights()]
    was_training = decoder.training
    decoder.eval()
    try:
        for batch in tokens.split(_NUM_AT_ONCE):
            decoder(batch, observe_hidden=lambda layer, hidden: parts[layer].append(max_pooled(hidden)))
    finally:
        decoder.train(was_training)
    return [torch.cat(part) for part in parts]
