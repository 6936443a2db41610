"""Which layer of a model a module is: numbers that depend on the model alone, not on a batch or the order of calls."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from inspect import isfunction, unwrap
from itertools import count, takewhile
from typing import Any

from torch import nn

from joma.errors import BadInput
from joma.measure.models.families import projections
from joma.measure.models.projections import Projection

_KERNELS = {"ALL_ATTENTION_FUNCTIONS", "scaled_dot_product_attention", "multi_head_attention_forward"}


class Layers:
    """The layer number of every module that attends; each module is one layer.

    A module whose query weights are ranked has the layer number of these ranks. Another one has the number that the
    model gives it (``layer_idx``), unless it is taken. All others are numbered after these, in the order of
    ``model.named_modules()``: the layers of a vision tower, and cross-attention.

    Modules that attend are found by the code of their classes. The modules of a class that calls its kernel through
    other functions are numbered when the first of them attends.

    Args:
        model: the model.

    Attributes:
        names: of the model's modules, by their ids.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._modules = model, dict(model.named_modules())
        self.names = {id(module): name for name, module in self._modules.items()}
        self._ranked: dict[str, int] = {}
        with suppress(BadInput):  # models without ranks
            self._ranked = {part.tensor: part.layer for part in projections_of(model) if part.role == "query"}
        self._numbers: dict[str, int] = {}
        kinds = {
            kind for kind, module in {type(each): each for each in model.modules()}.items() if _calls_kernel(module)
        }
        paths = (path for path, module in model.named_modules(remove_duplicate=False) if type(module) in kinds)
        self._assign(dict.fromkeys(map(self._with_parameters, paths)))

    def number(self, name: str) -> int:
        """Return the layer number of a module that attends."""
        if name not in self._numbers:
            kind = type(self._modules[name])
            self._assign(name for name, module in self._modules.items() if type(module) is kind)
        return self._numbers[name]

    def _with_parameters(self, path: str) -> str:
        """Return the name of a module or, if it has no parameters, of the innermost one around it that has some."""
        while path and next(self._model.get_submodule(path).parameters(), None) is None:
            path = path.rpartition(".")[0]
        return self.names[id(self._model.get_submodule(path))]

    def _assign(self, names: Iterable[str]) -> None:
        """Number modules that have no number."""
        left, wishes = [name for name in names if name not in self._numbers], list[tuple[int, str]]()
        for tensor, layer in self._ranked.items():
            wishes += [(layer, name) for name in reversed(left) if tensor.startswith(name + "." if name else "")][:1]
        for name in left:
            own = getattr(self._modules[name], "layer_idx", None)
            if isinstance(own, int) and own >= 0:
                wishes.append((own, name))
        taken = set(self._numbers.values())
        for layer, name in wishes:
            if layer not in taken and name not in self._numbers:
                self._numbers[name] = layer
                taken.add(layer)
        free = count(1 + max([*taken, *self._ranked.values()], default=-1))
        self._numbers |= {name: next(free) for name in left if name not in self._numbers}


def projections_of(model: nn.Module) -> tuple[Projection, ...]:
    """Find the projections of a model in memory, by layer.

    Raises:
        BadInput: a model of no known family.
    """
    return projections(_configuration(model), [name for name, _ in model.named_parameters()])


def _configuration(model: nn.Module) -> Any:
    """Return what identifies the family: the outermost configuration, or the heads of torch's attention module."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "model_type", None):
            return config
        if isinstance(module, nn.MultiheadAttention):
            num = module.num_heads
            return {"model_type": "torch", "num_attention_heads": num, "num_key_value_heads": num}
    return {}


def _calls_kernel(module: nn.Module) -> bool:
    """Whether the code of a module's class names an attention function."""
    own = takewhile(lambda base: base is not nn.Module and base.__name__ != "PreTrainedModel", type(module).__mro__)
    functions = (unwrap(value) for base in own for value in vars(base).values() if isfunction(value))
    return any(not _KERNELS.isdisjoint(function.__code__.co_names) for function in functions if isfunction(function))
