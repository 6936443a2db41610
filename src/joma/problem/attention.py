"""The three kinds of attention that the theory treats: from logits and token frequencies to what is attended to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float

from joma.domains import POSITIVE, choose
from joma.errors import InvalidArgument

AttentionKind = Literal["linear", "exp", "softmax"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


def check_attention(attention: str, temperature: float, function: str) -> None:
    """Raise unless the kind is known and the temperature positive, and 1 where the kind has no temperature."""
    choose(attention, dict.fromkeys(ATTENTION_KINDS), function, "attention")
    POSITIVE.check(temperature, function, "temperature")
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
    """What each sample attends to, b: x∘z (linear), x∘exp(z/T) (exp), or the latter normalised (softmax).

    Args:
        context: x, how often each token occurs in each sample, at least 0.
        attention_logits: z of the query that the samples share.
        attention: the kind.
        temperature: T > 0; exp and softmax only.

    Returns:
        b; for softmax each sample sums to 1. Not a number where exp overflows (z/T above 709, exp attention).
    """
    logits = attention_logits.unsqueeze(-2)
    if attention == "linear":
        return context * logits
    if attention == "exp":
        return context * torch.exp(logits / temperature)
    # Subtracting the largest logit of all tokens would underflow a sample that contains only small ones.
    seen = torch.where(context > 0, logits / temperature, -torch.inf)
    weights = context * torch.exp(seen - seen.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)
