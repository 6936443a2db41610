"""From a running model to what its attention kernels get: queries, keys, and all that moves or hides their scores.

Three doors are watched while a model runs, whatever it is built of:

    transformers                models that attend through its registered functions (``capture_transformers``)
    nn.MultiheadAttention       and so nn.TransformerEncoderLayer, whose fused inference path is off meanwhile
    torch's own kernel          ``scaled_dot_product_attention``, called by anything else: our decoder, yours

What a kernel gets is the definition of what is measured, so no model has to be known by name.
Axes: B sequences, H heads, G key heads, L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import CausalBias
from torch.nn.functional import linear, multi_head_attention_forward, pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from joma.errors import BadInput, InvalidArgument
from joma.measure.capture.calls import AttentionCall, Told
from joma.measure.capture.transformers import telling


@contextmanager
def observing(
    model: nn.Module, on_call: Callable[[AttentionCall], None], *, substitute: bool = False
) -> Generator[nn.Module]:
    """Tell of every attention kernel that ``model`` calls inside the block; outputs and gradients stay bit-identical.

    Copies of the model belong outside: one made inside keeps the hooks, and attends by the name of ours, to the same
    numbers.

    Args:
        model: wrappers for data parallelism and compiled ones are looked through.
        on_call: told in the order of calls, without gradients, while ``model`` is being called. It must not change
            the tensors.
        substitute: let a transformers model attend by ``sdpa`` meanwhile where its own way of attending hides masks
            from view (flash, flex). Outputs then differ in the last digits.

    Yields:
        The module inside the wrappers, to be run; compiled ones run uncompiled meanwhile, in inference torch's fused
        encoder layers layer by layer.

    Raises:
        InvalidArgument: ``model`` is no module.
        BadInput: attention that cannot be looked into, or parameters that are spread over processes.
    """
    model = unwrapped(model)
    told = Told(model, on_call)
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(told.start_pass).remove)
        stack.callback(model.register_forward_hook(told.end_pass, always_call=True).remove)
        kernels = _Kernels(told)
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                stack.callback(module.register_forward_pre_hook(kernels.enter).remove)
                stack.callback(module.register_forward_hook(kernels.leave, always_call=True).remove)
        stack.enter_context(telling(model, told, substitute=substitute))
        stack.enter_context(_fused_layers_apart())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(kernels)
        yield model


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside wrappers for data parallelism and compilation.

    Raises:
        InvalidArgument: no module.
        BadInput: parameters spread over processes.
    """
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            "watch",
            "model",
            required="a torch module",
            received=f"a {type(model).__name__}",
            remedy="pass the network itself, such as trainer.model",
        )
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        inner = model.module if isinstance(model, wrappers) else model._orig_mod
        assert isinstance(inner, nn.Module)
        model = inner
    if _is_spread(model):
        raise BadInput(
            "the parameters of this model are spread over processes (FSDP, tensor parallelism, ZeRO-3), and one "
            "process alone cannot run it",
            expected="a whole model in each process",
            remedy="save checkpoints and measure those: joma scan",
        )
    return model


def _is_spread(model: nn.Module) -> bool:
    """Whether FSDP wraps a module, a parameter is a DTensor, or DeepSpeed's ZeRO-3 has numbered it to take it apart."""
    is_wrapped = any(type(module).__name__.startswith(("FSDP", "FullySharded")) for module in model.modules())
    return is_wrapped or any(hasattr(part, "device_mesh") or hasattr(part, "ds_id") for part in model.parameters())


class _Kernels(TorchFunctionMode):
    """Sees calls of torch's own attention that no other door tells of: of the kernel, and of that with projections."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self._told = told
        self._module: nn.MultiheadAttention | None = None

    def enter(self, module: nn.MultiheadAttention, _: Any) -> None:
        """Know which module will attend."""
        self._module = module

    def leave(self, *_: Any) -> None:
        """Forget it."""
        self._module = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._told.num_running and not self._told.is_inside:
            if func is scaled_dot_product_attention:
                self._tell(*args, **kwargs)
            if func is multi_head_attention_forward:
                with torch.no_grad():
                    self._told.tell(self._module, **_projected(*args, **kwargs))
        return func(*args, **kwargs)

    def _tell(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        if not 3 <= query.dim() <= 4:
            raise BadInput(
                f"an attention kernel that is called with queries of shape {tuple(query.shape)}",
                expected="(batch, heads, queries, head dim), or without heads",
                remedy="measure it yourself with joma.measure.attention.statistics.attention_statistics",
            )
        if query.dim() == 3:
            query, key = query[:, None], key[:, None]
            is_plain = attn_mask is not None and not isinstance(attn_mask, CausalBias)
            attn_mask = attn_mask[:, None] if is_plain and attn_mask.dim() == 3 else attn_mask
        self._told.tell(None, query, key, scale=scale, is_causal=is_causal, attn_mask=attn_mask)


def _projected(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """What nn.MultiheadAttention makes of its inputs; ``is_causal`` only hints at what the mask says anyway."""
    given = signature(multi_head_attention_forward).bind(*args, **kwargs).arguments
    query, key = given["query"], given["key"]
    is_cross = query.data_ptr() != key.data_ptr()
    attn_mask, key_padding_mask = given.get("attn_mask"), given.get("key_padding_mask")
    if query.dim() == 2:
        query, key = query[:, None], key[:, None]
        key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
    weights: Any = (given.get("q_proj_weight"), given.get("k_proj_weight"))
    if not given.get("use_separate_proj_weight"):
        weights = given["in_proj_weight"].chunk(3)[:2]
    biases: Any = (None, None) if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)[:2]
    q, k = (linear(x.transpose(0, 1), *of) for x, *of in zip((query, key), weights, biases, strict=True))
    added = 0
    if (bias := given["bias_k"]) is not None:
        k, added = torch.cat([k, bias.expand(len(k), -1, -1)], dim=1), added + 1
    if given["add_zero_attn"]:
        k, added = pad(k, (0, 0, 0, 1)), added + 1
    q, k = (x.unflatten(-1, (given["num_heads"], -1)).transpose(1, 2) for x in (q, k))
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.unflatten(0, (len(q), given["num_heads"]))
    padding = None if key_padding_mask is None else key_padding_mask[:, None, None]
    return {"q": q, "k": k, "attn_mask": _joined([attn_mask, padding], added, q.dtype), "is_cross": is_cross}


def _joined(masks: list[Tensor | None], num_added: int, dtype: torch.dtype) -> Tensor | None:
    """Sum of masks in which True hides, as one that is added; the keys that a module adds are never hidden."""
    total = None
    for mask in masks:
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
            total = mask if total is None else total + mask
    return total if total is None else pad(total, (0, num_added))


@contextmanager
def _fused_layers_apart() -> Generator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
