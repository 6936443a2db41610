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
from joma.errors import InvalidArgument, cause_of

REAL = torch.float64

Real = torch.Tensor | np.ndarray | Sequence[Any] | float
"""Arguments of theory functions: tensors, arrays, nested lists or floats, all of real numbers."""

P = ParamSpec("P")
R = TypeVar("R")

MOST_AXES = 32
"""More axes than any function here gives a meaning; torch and NumPy stop at 64."""


def as_tensor(value: Any, function: str, parameter: str, required: str = "numbers") -> torch.Tensor:
    """Read a tensor, an array, a nested list or a number as a dense tensor that holds its numbers.

    Args:
        value: of at most ``MOST_AXES`` axes; an array is shared, not copied, where torch can share it.
        function, parameter, required: for the message.

    Raises:
        InvalidArgument: anything else, such as ``None``, text, ragged lists, and sparse, nested, quantised or meta
            tensors.
    """
    try:  # through NumPy, because torch reads Python floats in single precision
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(_array(value))
    except Exception as error:
        raise InvalidArgument(
            function,
            parameter,
            required=required,
            received=f"of type {type(value).__name__} ({cause_of(error)[:200]})",
            remedy="pass a float tensor, a NumPy array or a list of floats",
        ) from error
    if type(tensor).__name__ == "FakeTensor" or tensor.is_meta:
        odd, remedy = "a meta tensor, which holds no numbers", "load or compute its numbers first"
    elif tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else "sparse"
        odd, remedy = f"a {kind} tensor", f"pass {parameter}.{'dequantize' if kind == 'quantised' else 'to_dense'}()"
    elif tensor.ndim > MOST_AXES:
        odd, remedy = f"a tensor of {tensor.ndim} axes", f"flatten it to at most {MOST_AXES} axes"
    else:
        return tensor
    raise InvalidArgument(function, parameter, required=f"{required}, dense", received=odd, remedy=remedy)


def _array(value: Any) -> np.ndarray:
    """An array that torch can share: contiguous, writable, and of the machine's byte order."""
    array = np.asarray(value, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.flags.writeable else array.copy()


def as_float_tensor(value: Any, function: str, parameter: str) -> torch.Tensor:
    """Read a dense tensor of real floating-point numbers, in the dtype and on the device that it has.

    Raises:
        InvalidArgument: as ``as_tensor``, and complex, boolean and integer numbers.
    """
    tensor = as_tensor(value, function, parameter, "real floating-point numbers")
    if not tensor.is_floating_point():
        raise InvalidArgument(
            function,
            parameter,
            required="a tensor of real floating-point numbers",
            received=f"a tensor of dtype {str(tensor.dtype).removeprefix('torch.')}",
            remedy="pass its real part" if tensor.is_complex() else f"pass {parameter}.double()",
        )
    return tensor


def as_real(value: Real, function: str, parameter: str) -> torch.Tensor:
    """Read ``value`` as a float64 tensor on its own device.

    Raises:
        InvalidArgument: complex, boolean, text or integer tensors, or NaN. (Python integers are accepted; an integer
            *tensor* is refused, because it would silently stop gradients.)
    """
    tensor = as_tensor(value, function, parameter, "real numbers")
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if isinstance(value, torch.Tensor | np.ndarray) or not whole:
        tensor = as_float_tensor(tensor, function, parameter)
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


def check_broadcast(function: str, **tensors: torch.Tensor) -> None:
    """Raise ``InvalidArgument`` unless these arguments broadcast against one another."""
    shape: torch.Size = torch.Size()
    for name, tensor in tensors.items():
        try:
            shape = torch.broadcast_shapes(shape, tensor.shape)
        except RuntimeError as error:
            required = f"of a shape that broadcasts against {tuple(shape)}, that of the arguments before it"
            raise wrong_shape(function, name, required, tensor, "give axes the same length, or length 1") from error


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
