"""Losses per sample, by name; functions that take a name also take any function of (outputs, targets)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float

from joma.domains import choose

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A function from (outputs, targets), both (..., N, O), to the loss of each sample (..., N)."""


def cross_entropy(
    outputs: Float[torch.Tensor, "*batch O"], targets: Float[torch.Tensor, "*batch O"]
) -> Float[torch.Tensor, "*batch"]:
    """Return the softmax cross-entropy in nats against target probabilities (one-hot for a class)."""
    return -(targets * torch.log_softmax(outputs, -1)).sum(-1)


def squared_error(
    outputs: Float[torch.Tensor, "*batch O"], targets: Float[torch.Tensor, "*batch O"]
) -> Float[torch.Tensor, "*batch"]:
    """Return half the squared distance to the targets."""
    return 0.5 * (outputs - targets).square().sum(-1)


def constant_gradient(
    outputs: Float[torch.Tensor, "*batch O"], targets: Float[torch.Tensor, "*batch O"]
) -> Float[torch.Tensor, "*batch"]:
    """Return −⟨targets, outputs⟩; its gradient is constant (the targets), as the theory assumes of Δ and g."""
    return -(targets * outputs).sum(-1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "constant_gradient": constant_gradient,
}


def as_loss(loss: str | Loss, function: str) -> Loss:
    """Return the loss of that name, or the callable itself; an unknown name raises ``InvalidArgument``."""
    return choose(loss, LOSSES, function, "loss") if isinstance(loss, str) else loss
