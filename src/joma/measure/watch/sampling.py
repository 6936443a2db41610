"""A few numbers of every weight, which show whether a model still has the weights that a step left."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn


class WeightSample:
    """Up to four numbers of each floating-point parameter of a model.

    They change when weights are trained, averaged, swapped or loaded. Taking them costs one small copy per dtype and
    device, so that it can be done at every step.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights: list[nn.Parameter] = []
        self._places: list[int] = []
        self._views: list[list[Tensor]] = []
        self._taken: list[Tensor] = []

    def take(self) -> None:
        """Remember the numbers as they are."""
        if not self._taken:
            self._weights = _weights(self._model)
        self._taken = self._read()

    def is_current(self) -> bool:
        """Whether the model has the numbers that were remembered; if none were, they are now."""
        if not self._taken:
            self.take()
        weights = _weights(self._model)
        if len(weights) != len(self._weights) or any(a is not b for a, b in zip(weights, self._weights, strict=True)):
            return False
        pairs = zip(self._read(), self._taken, strict=True)
        return all(torch.equal(*(part.nan_to_num(0.5) for part in pair)) for pair in pairs)

    def _read(self) -> list[Tensor]:
        places = [weight.data_ptr() for weight in self._weights]
        if places != self._places:
            parts = defaultdict(list)
            for weight in self._weights:
                parts[weight.device, weight.dtype].append(_few(weight.detach()))
            self._places, self._views = places, list(parts.values())
        return [torch.cat(views) for views in self._views]


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [part for part in model.parameters() if part.is_floating_point() and part.numel() and _is_plain(part)]


def _is_plain(part: nn.Parameter) -> bool:
    """Whether a parameter is a dense tensor in memory, and not of a class that computes its numbers."""
    return type(part.data) is Tensor and part.layout == torch.strided


def _few(weight: Tensor) -> Tensor:
    """Return a view of up to four numbers of the middle row."""
    while weight.dim() > 1:
        weight = weight[len(weight) // 2]
    weight = weight.reshape(-1)
    return weight[:: max(1, -(-len(weight) // 4))]
