"""The three kinds of attention that the theory treats: linear, exponential and softmax."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float

from joma.domains import TEMPERATURE, choose
from joma.errors import InvalidArgument

AttentionKind = Literal["linear", "exp", "softmax"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


def check_attention(attention: str, temperature: float, function: str) -> None:
    """Raise ``InvalidArgument`` unless the kind is known and the temperature positive (1 for linear attention)."""
    choose(attention, dict.fromkeys(ATTENTION_KINDS), function, "attention")
    TEMPERATURE.check(temperature, function, "temperature")
    if attention == "linear" and temperature != 1.0:
        raise InvalidArgument(
            function,
            "temperature",
            required="1 with linear attention, which has no temperature",
            received=f"{temperature:g}",
            remedy="leave it out, or choose 'exp' or 'softmax'",
        )


def attention_weights(
    context: Float[torch.Tensor, "*batch N M"],
    attention_logits: Float[torch.Tensor, "*batch M"],
    attention: AttentionKind,
    temperature: float = 1.0,
) -> Float[torch.Tensor, "*batch N M"]:
    """Return the attention b of each sample: x∘z (linear), x∘exp(z/T) (exp), or the latter normalised (softmax).

    Args:
        context: x, the frequency of each token in each sample, at least 0.
        attention_logits: z of the query, common to the samples.
        attention: the kind of attention.
        temperature: T > 0; exp and softmax only.

    Returns:
        b; with softmax it sums to 1 in each sample. NaN where exp overflows (exp attention, z/T above 709).
    """
    logits = attention_logits.unsqueeze(-2)
    if attention == "linear":
        return context * logits
    if attention == "exp":
        return context * torch.exp(logits / temperature)
    # The largest logit is taken over each sample's own tokens: with that of all tokens, a sample whose tokens all have
    # much smaller logits would underflow.
    present = torch.where(context > 0, logits / temperature, -torch.inf)
    weights = context * torch.exp(present - present.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)
