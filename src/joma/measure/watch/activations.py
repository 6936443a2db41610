"""The largest activation after each layer, measured in the same forward pass as attention."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.capture.padding import Marks
from joma.measure.capture.sharded import is_sharded, local_part
from joma.records import Row

NAME = "largest_activation"
_NUMBERED = re.compile(r"(?:.*\.)?\d+")
_LAYER = re.compile(r"((?:.*\.)?\d+)(?:\.|$)")
"""The name of a module in a layer; the group is that of the layer, the innermost module with a number."""


class Activations:
    """The largest absolute value that each numbered module of a model returns, without padding.

    Args:
        model: without wrappers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._marks = model, Marks()
        self._largest: dict[str, Tensor] = {}

    @contextmanager
    def observed(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Generator[None]:
        """Take them while the model runs with these arguments."""
        self._marks, self._largest = Marks.by(self._model, args, kwargs), {}
        with ExitStack() as stack:
            for name, module in self._model.named_modules():
                if not name or _NUMBERED.fullmatch(name):
                    stack.callback(module.register_forward_hook(partial(self._take, name)).remove)
            yield

    def _take(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(hidden, Tensor) or not hidden.is_floating_point():
            return
        sizes = local_part(hidden).abs()
        if sizes.dim() == 3 and (marks := self._marks.of_queries((sizes.shape[0], sizes.shape[1]), is_cross=False)):
            sizes = sizes.masked_fill(~marks[0][..., None], 0)
        found = sizes.amax().double()
        self._largest[name] = torch.maximum(found, self._largest.get(name, found))

    def rows(self, layers: Mapping[int, str]) -> list[Row]:
        """Return one row per layer; none, but a warning, if it is not finite.

        Args:
            layers: the name of the attention module of each layer.

        Raises:
            BadInput: an attention module that is not part of a numbered layer.
        """
        found, order = [], sorted(layers)
        for name in map(layers.__getitem__, order):
            match = _LAYER.match(name)
            of_layer = self._largest.get(match[1] if match else "") if match or len(layers) == 1 else None
            if of_layer is None:
                raise BadInput(
                    f"the layer of {name or 'the model'} has no output that is known: its name has no number",
                    expected="layers in a ModuleList, which return their activations first",
                    remedy=f"leave {NAME} out of measures",
                )
            found.append(of_layer)
        largest = torch.stack(found)
        if is_sharded(self._model):  # sequence parallelism divides the tokens
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        rows = [Row(layer, None, None, NAME, value) for layer, value in zip(order, largest.tolist(), strict=True)]
        if missing := [row.layer for row in rows if not math.isfinite(row.value)]:
            warnings.warn(f"joma: the activations of layer {missing[0]} are not finite", RuntimeWarning, stacklevel=2)
        return [row for row in rows if math.isfinite(row.value)]
