"""Axis letters, the dtype of the theory, and reading NumPy arrays, lists and numbers as torch tensors.

Axis letters mean the same in every module:

    theory and simulation               networks
    M  contextual tokens (n_context)    B  sequences of a batch
    K  hidden units (n_hidden)          H  heads
    N  samples                          L  positions, as queries
    D  embedding dimensions             S  positions, as keys
    C  classes                          E  dimensions of a head
    T  times                            V  vocabulary
    Q  queries

Theory and simulation use float64 throughout, because their results are compared to ten digits. Networks keep the dtype
of their training; measurements use a wider one where a sum would lose digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch

from joma.domains import Domain
from joma.errors import InvalidArgument

REAL = torch.float64

Real = torch.Tensor | np.ndarray | Sequence[Any] | float
"""Arguments of theory functions: tensors, arrays, nested lists or floats, all of real numbers."""

P = ParamSpec("P")
R = TypeVar("R")


def as_real(value: Real, function: str, parameter: str) -> torch.Tensor:
    """Read ``value`` as a float64 tensor on its own device.

    Raises:
        InvalidArgument: complex, boolean, text or integer tensors, or NaN. (Python integers are accepted; an integer
            *tensor* is refused, because it would silently stop gradients.)
    """
    given_array = isinstance(value, torch.Tensor | np.ndarray)
    try:  # through NumPy, because torch reads Python floats in single precision
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgument(
            function,
            parameter,
            required="real numbers",
            received=f"of type {type(value).__name__} ({error})",
            remedy="pass a float tensor, a NumPy array or a list of floats",
        ) from error
    if not tensor.is_floating_point() and (given_array or tensor.is_complex() or tensor.dtype == torch.bool):
        raise InvalidArgument(
            function,
            parameter,
            required="a tensor of real floating-point numbers",
            received=f"a tensor of dtype {str(tensor.dtype).removeprefix('torch.')}",
            remedy=f"pass {parameter}.double()" if not tensor.is_complex() else "pass its real part",
        )
    tensor = tensor.to(REAL)
    if torch.isnan(tensor).any():
        raise InvalidArgument(
            function,
            parameter,
            required="numbers",
            received=f"NaN in {int(torch.isnan(tensor).sum())} of {tensor.numel()} entries",
            remedy="drop or fill these entries",
        )
    return tensor


def as_real_in(domain: Domain, value: Real, function: str, parameter: str) -> torch.Tensor:
    """Read ``value`` as a float64 tensor, every entry of which lies in ``domain``."""
    tensor = as_real(value, function, parameter)
    if tensor.numel():
        for extreme in torch.aminmax(tensor.detach()):
            domain.check(float(extreme), function, parameter)
    return tensor


def wrong_shape(
    function: str, parameter: str, required: str, received: torch.Tensor, remedy: str = "check its axes"
) -> InvalidArgument:
    """Return the error for a tensor whose shape does not fit."""
    shape = f"of shape {tuple(received.shape)}"
    return InvalidArgument(function, parameter, required=required, received=shape, remedy=remedy)


def on_one_device(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Move all tensors to the accelerator that one of them is on, so that they can be combined with plain numbers."""
    device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), tensors[0].device)
    return [tensor.to(device) for tensor in tensors]


def numpy_in_numpy_out(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it returns NumPy arrays if it is called with arrays and without tensors."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        given = [*args, *kwargs.values()]
        result = function(*args, **kwargs)
        types = {kind for kind in (torch.Tensor, np.ndarray) if any(isinstance(value, kind) for value in given)}
        return cast(R, _to_numpy(result)) if types == {np.ndarray} else result

    return wrapped


def _to_numpy(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return result.detach().cpu().numpy()
    if isinstance(result, tuple):
        converted = [_to_numpy(part) for part in result]
        return type(result)(*converted) if hasattr(result, "_fields") else tuple(converted)
    return result
