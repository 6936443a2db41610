"""A few numbers of every weight, which show whether a model still has the weights that a step left."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from joma.measure.capture.sharded import agreed, local_part, reshard


class WeightSample:
    """Up to four numbers of each floating-point parameter of a model.

    They change when weights are trained, averaged, swapped or loaded. Taking them costs one small copy per dtype and
    device, so that it can be done at every step. Of sharded parameters each process takes those of its own shards.

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
        """Whether the model has the numbers that were remembered, in all processes; if none were, they are now."""
        return agreed(self._is_current(), self._model)

    def _is_current(self) -> bool:
        if not self._taken:
            self.take()
        weights = _weights(self._model)
        if len(weights) != len(self._weights) or any(a is not b for a, b in zip(weights, self._weights, strict=True)):
            return False
        pairs = zip(self._read(), self._taken, strict=True)
        return all(torch.equal(*(part.nan_to_num(0.5) for part in pair)) for pair in pairs)

    def _read(self) -> list[Tensor]:
        held = [local_part(weight) for weight in self._weights]
        places = [weight.data_ptr() for weight in held]
        if places != self._places:
            parts = defaultdict(list)
            for weight in held:
                parts[weight.device, weight.dtype].append(_few(weight))
            self._places, self._views = places, list(parts.values())
        return [torch.cat(views) for views in self._views]


def _weights(model: nn.Module) -> list[nn.Parameter]:
    reshard(model)
    return [part for part in model.parameters() if part.is_floating_point() and _is_held(local_part(part))]


def _is_held(part: Tensor) -> bool:
    """Whether a tensor is dense, in memory and not empty, and not of a class that computes its numbers."""
    return type(part) is Tensor and part.layout == torch.strided and part.numel() > 0


def _few(weight: Tensor) -> Tensor:
    """Return a view of up to four numbers of the middle row."""
    while weight.dim() > 1:
        weight = weight[len(weight) // 2]
    weight = weight.reshape(-1)
    return weight[:: max(1, -(-len(weight) // 4))]
