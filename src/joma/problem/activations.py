"""The nonlinearities φ of the MLP, by name; wherever a name is taken, any elementwise torch function is too."""

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
    """The nonlinearity meant by its name, or the callable itself.

    Raises:
        InvalidArgument: an unknown name, with the nearest one.
    """
    return choose(activation, ACTIVATIONS, function, "activation") if isinstance(activation, str) else activation
