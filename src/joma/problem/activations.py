"""Activation functions φ of the MLP, by name; functions that take a name also take any elementwise torch function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from joma.domains import choose

Activation = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda preactivation: preactivation,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
}


def as_activation(activation: str | Activation, function: str) -> Activation:
    """Return the activation of that name, or the callable itself; an unknown name raises ``InvalidArgument``."""
    return choose(activation, ACTIVATIONS, function, "activation") if isinstance(activation, str) else activation
