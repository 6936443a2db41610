"""Check the arguments of attention statistics, raise them to full precision, and combine what hides keys.

Axes: B sequences, H heads, G key heads (H a multiple of G), L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from inspect import signature
from numbers import Integral
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from joma.arrays import as_float_tensor, as_tensor, numpy_in_numpy_out, wrong_shape
from joma.domains import FINITE, check_flag
from joma.errors import InvalidArgument
from joma.measure.attention.visibility import Visibility, is_causal_bias, settled

if TYPE_CHECKING:
    from torch.nn.attention.bias import CausalBias

P = ParamSpec("P")
R = TypeVar("R")

_MOST = 1e200  # far below the largest float64, so that sums over keys and biases stay finite


def of_heads(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of (B, H, L, E) queries and keys take NumPy arrays, and one head of one sequence as (L, E).

    Results are arrays where arrays came in, and (L,) where (L, E) did. Three axes are refused: they may be heads or
    sequences.
    """
    call: Callable[..., R] = function
    name_of_function = getattr(function, "__name__", "")

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature(function).bind(*args, **kwargs).arguments
        for name in ("attn_mask", "sinks", "keys"):
            if given.get(name) is not None and not is_causal_bias(given[name]):
                given[name] = as_tensor(given[name], name_of_function, name)
        for name in ("q", "k"):
            part = given[name] = as_float_tensor(given[name], name_of_function, name)
            if part.dim() not in (2, 4):
                required = "(batch, heads, length, head dim), or (length, head dim) for one head of one sequence"
                remedy = f"pass {name}[None] for heads of one sequence, {name}[:, None] for sequences of one head"
                raise wrong_shape(name_of_function, name, required, part, remedy)
        is_one_head = given["q"].dim() == given["k"].dim() == 2
        given |= {name: given[name][(None,) * (4 - given[name].dim())] for name in ("q", "k")}
        result = call(**given)
        return tree_map_only(Tensor, lambda part: part[0, 0], result) if is_one_head else result

    return numpy_in_numpy_out(wrapped)


def sinks_over_queries(function: str, q: Tensor, sinks: Tensor) -> Tensor:
    """Spread (H,) sink logits over queries."""
    if sinks.shape != q.shape[1:2] or not sinks.is_floating_point():
        raise InvalidArgument(
            function,
            "sinks",
            required=f"a float tensor of shape ({q.shape[1]},), one logit per query head",
            received=f"{str(sinks.dtype).removeprefix('torch.')} of shape {tuple(sinks.shape)}",
            remedy="pass the sink logits of this layer alone",
        )
    most = torch.finfo(q.dtype).max / 4  # an infinite logit of a sink takes everything, or nothing
    return sinks.detach().double().clamp(-most, most).to(q)[:, None].expand(q.shape[:-1])


def require_whole(function: str, name: str, value: int | None, *, remedy: str) -> None:
    """Raise ``InvalidArgument`` unless a value is ``None`` or a whole number of positions."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        required = "a whole number of positions, 1 or more, or None"
        raise InvalidArgument(function, name, required=required, received=f"{value}", remedy=remedy)


def checked(
    function: str, q: Tensor, k: Tensor, scale: float | None, is_causal: bool, attn_mask: Tensor | None
) -> tuple[Tensor, Tensor, Visibility, float]:
    """Return queries and keys in full precision, which keys each query sees, and the scale, made positive.

    Raises:
        InvalidArgument: shapes or a mask that do not fit, a mask together with ``is_causal``, or scores beyond float64.
    """
    if (
        q.dim() != 4
        or k.dim() != 4
        or q.shape[0] != k.shape[0]
        or q.shape[-1] != k.shape[-1]
        or q.shape[1] % max(1, k.shape[1])
    ):
        raise InvalidArgument(
            function,
            "k",
            required="of shape (batch, key heads, keys, head dim); key heads must divide query heads",
            received=f"of shape {tuple(k.shape)}, with q of shape {tuple(q.shape)}",
            remedy="transpose both to (batch, heads, length, head dim)",
        )
    for name, part in (("q", q), ("k", k)):
        if not part.numel():
            required, received = "at least one query and one key", f"empty, of shape {tuple(part.shape)}"
            raise InvalidArgument(function, name, required=required, received=received, remedy="skip empty batches")
    check_flag(is_causal, function, "is_causal")
    if is_causal and attn_mask is not None:
        required = "None if is_causal=True"
        remedy = "fold causality into the mask: attn_mask & torch.ones(L, S, dtype=torch.bool).tril()"
        raise InvalidArgument(function, "attn_mask", required=required, received="a mask", remedy=remedy)
    scale = q.shape[-1] ** -0.5 if scale is None else FINITE.check(scale, function, "scale")
    dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype) else torch.float32
    q, k = q.detach().to(dtype), k.detach().to(dtype)
    _require_finite_scores(function, q, k, scale)
    if scale <= 0:  # torch's causal kernels multiply what they hide, −∞, by the scale
        q, scale = (0 * q if scale == 0 else -q), abs(scale) or 1.0
    visibility = Visibility(num_queries=q.shape[-2], num_keys=k.shape[-2], is_causal=is_causal)
    if is_causal_bias(attn_mask):
        visibility = _causal(function, visibility, attn_mask)
    else:
        mask = _four_axes(function, q, k, attn_mask)
        if mask is not None and mask.dtype != torch.bool:
            mask = settled(mask, scale * float(q.norm(dim=-1).max() * k.norm(dim=-1).max()))
        visibility = visibility._replace(mask=mask)
    return q, k, visibility, scale


def _require_finite_scores(function: str, q: Tensor, k: Tensor, scale: float) -> None:
    """Raise ``InvalidArgument`` if finite queries and keys may have scores, or sums of keys, that float64 has not."""
    sizes = [max(1.0, float(torch.stack(torch.aminmax(part)).abs().max())) for part in (q, k)]
    if all(map(math.isfinite, sizes)) and math.prod([*sizes, max(1.0, abs(scale)), sum(k.shape[-2:])]) > _MOST:
        received = f"{scale:g}, with queries up to {sizes[0]:g} and keys up to {sizes[1]:g}"
        required = f"such that scores are at most {_MOST:g}"
        raise InvalidArgument(function, "scale", required=required, received=received, remedy="check their units")


def _causal(function: str, visibility: Visibility, bias: CausalBias) -> Visibility:
    """Apply torch's ``CausalBias``, a rule whose tensor holds no numbers."""
    size, stated = visibility[:2], (bias.seq_len_q, bias.seq_len_kv)
    if stated != size:
        required = f"a causal bias of {size[0]} queries and {size[1]} keys"
        received, remedy = f"one of {stated[0]} and {stated[1]}", "make it with q.shape[-2] and k.shape[-2]"
        raise InvalidArgument(function, "attn_mask", required=required, received=received, remedy=remedy)
    lead = size[1] - size[0] if bias.variant.name == "LOWER_RIGHT" else 0
    return visibility._replace(is_causal=True, lead=lead)


def _four_axes(function: str, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    if type(mask) not in (Tensor, nn.Parameter):
        raise InvalidArgument(
            function,
            "attn_mask",
            required="a plain tensor, or torch's CausalBias",
            received=f"a {type(mask).__name__}, whose numbers may not show what it hides",
            remedy="write it out as a bool tensor (True = attend)",
        )
    full = (*q.shape[:-1], k.shape[-2])
    fits = mask.dim() <= 4 and all(a in (1, b) for a, b in zip(mask.shape[::-1], full[::-1], strict=False))
    if not fits or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise InvalidArgument(
            function,
            "attn_mask",
            required=f"bool or float, broadcastable to {full}",
            received=f"{str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}",
            remedy="True (or 0.0) lets a query attend, False (or -inf) hides a key",
        )
    return mask.detach()[(None,) * (4 - mask.dim())]
