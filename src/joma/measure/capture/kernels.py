"""Observe the inputs of attention kernels in a running model: queries, keys, and what changes or hides scores.

Three kinds of attention are hooked while a model runs:

    transformers                models that attend through its registered functions (module ``transformers`` here)
    nn.MultiheadAttention       also in nn.TransformerEncoderLayer, whose fused inference path is switched off
    torch's kernel              ``scaled_dot_product_attention``, called by any other module

Measurements are defined by the inputs of these kernels, so that no list of models is needed.
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
from torch.nn.functional import linear, multi_head_attention_forward, pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from joma.errors import BadInput, InvalidArgument
from joma.measure.attention.visibility import FAR, is_causal_bias
from joma.measure.capture.calls import AttentionCall, CallCollector, Output
from joma.measure.capture.padding import Marks, marked_models
from joma.measure.capture.sharded import require_runnable
from joma.measure.capture.transformers import observing_transformers


@contextmanager
def observing(
    model: nn.Module,
    on_call: Callable[[AttentionCall], None],
    *,
    substitute: bool = False,
    with_outputs: bool = False,
    takes_any: bool = False,
) -> Generator[nn.Module]:
    """Report every attention kernel call of ``model`` inside the block; outputs and gradients stay bit-identical.

    Do not copy the model inside the block: the copy would keep the hooks, although it would compute the same numbers.

    Args:
        model: a module; wrappers for data parallelism and compilation are removed.
        on_call: called in the order of kernel calls, without gradients, during forward passes of ``model``. It must not
            change the tensors.
        substitute: use ``sdpa`` in a transformers model whose own attention function hides its masks (flash, flex).
            Outputs then differ in the last digits.
        with_outputs: report the kernels' values and outputs too, without a check of the outputs.
        takes_any: report such functions instead of substituting them; their calls have no masks.

    Yields:
        The module inside the wrappers, to be run. Compiled modules run uncompiled, and fused encoder layers of torch
        run without fusion.

    Raises:
        InvalidArgument: ``model`` is not a module.
        BadInput: attention that cannot be observed, or parameters that are sharded in an unknown way.
    """
    model = unwrapped(model)
    collector = CallCollector(model, on_call, with_outputs=with_outputs, takes_any=takes_any)
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(collector.start_pass, with_kwargs=True).remove)
        for inner in marked_models(model):
            stack.callback(inner.register_forward_pre_hook(collector.start_inner_pass, with_kwargs=True).remove)
        stack.callback(model.register_forward_hook(collector.end_pass, always_call=True).remove)
        stack.enter_context(observing_transformers(model, collector, substitute=substitute))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_Kernels(collector))
        yield model


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside wrappers for data parallelism and compilation.

    Raises:
        InvalidArgument: ``model`` is not a module.
        BadInput: parameters are sharded in an unknown way, or a part is scripted, so that Python does not run it.
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
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise BadInput(
            "this model is scripted or traced (TorchScript), so that its attention cannot be observed",
            expected="a module that Python runs",
            remedy="watch the module from which it was made",
        )
    require_runnable(model)
    return model


class _Kernels(TorchFunctionMode):
    """Collects calls of torch's attention functions, with and without projections, outside of transformers' hook."""

    def __init__(self, collector: CallCollector) -> None:
        super().__init__()
        self._collector = collector

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._collector.num_running and not self._collector.is_inside:
            if func is scaled_dot_product_attention:
                self._collect(*args, result=result, **kwargs)
            if func is multi_head_attention_forward:
                with torch.no_grad():
                    found = _projected(*args, **kwargs)
                    if self._collector.with_outputs:
                        found["output"] = _output(result[0], *args, **kwargs)
                    self._collector.collect(None, **found)
        return result

    def _collect(
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
        result: Tensor,
    ) -> None:
        if not 3 <= query.dim() <= 4:
            raise BadInput(
                f"an attention kernel was called with queries of shape {tuple(query.shape)}",
                expected="(batch, heads, queries, head dim), or without heads",
                remedy="measure it yourself with joma.attention_statistics",
            )
        if query.dim() == 3:
            query, key, value, result = (part[:, None] for part in (query, key, value, result))
            is_plain = attn_mask is not None and not is_causal_bias(attn_mask)
            attn_mask = attn_mask[:, None] if is_plain and attn_mask.dim() == 3 else attn_mask
        settings: dict[str, Any] = {"scale": scale, "is_causal": is_causal, "attn_mask": attn_mask, "is_guess": True}
        if self._collector.with_outputs:
            settings["output"] = Output(value, result)
        self._collector.collect(None, query, key, **settings)


def _projected(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the kernel inputs that nn.MultiheadAttention computes.

    With ``is_causal``, and if neither weights are returned nor keys are padding, it takes no notice of the mask.
    """
    given = signature(multi_head_attention_forward).bind(*args, **kwargs).arguments
    query, key = given["query"], given["key"]
    is_cross = not torch.equal(query, key)
    attn_mask, key_padding_mask = given.get("attn_mask"), given.get("key_padding_mask")
    is_causal = bool(given.get("is_causal")) and key_padding_mask is None and not given.get("need_weights", True)
    attn_mask = None if is_causal else attn_mask
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
    found = {"q": q, "k": k, "is_causal": is_causal, "attn_mask": _joined([attn_mask, padding], added, q.dtype)}
    if key_padding_mask is not None and not is_cross:
        is_bool = key_padding_mask.dtype == torch.bool
        is_padding = key_padding_mask if is_bool else key_padding_mask <= key_padding_mask.max() - FAR
        found["marks"] = Marks({"attention_mask": ~is_padding})
    return {**found, "is_cross": is_cross, "is_guess": is_cross}


def _output(result: Tensor, *args: Any, **kwargs: Any) -> Output:
    """Return the values and the projected output of nn.MultiheadAttention."""
    given = signature(multi_head_attention_forward).bind(*args, **kwargs).arguments
    value, bias = given["value"], given["in_proj_bias"]
    if value.dim() == 2:
        value, result = value[:, None], result[:, None]
    is_separate = given.get("use_separate_proj_weight")
    weight: Tensor = given["v_proj_weight"] if is_separate else given["in_proj_weight"].chunk(3)[2]
    v = linear(value.transpose(0, 1), weight, None if bias is None else bias.chunk(3)[2])
    if (added := given["bias_v"]) is not None:
        v = torch.cat([v, added.expand(len(v), -1, -1)], dim=1)
    if given["add_zero_attn"]:
        v = pad(v, (0, 0, 0, 1))
    v = v.unflatten(-1, (given["num_heads"], -1)).transpose(1, 2)
    return Output(v, result.transpose(0, 1), given["out_proj_weight"], given["out_proj_bias"])


def _joined(masks: list[Tensor | None], num_added: int, dtype: torch.dtype) -> Tensor | None:
    """Return the sum of masks (True hides) as an additive mask; keys that the module itself adds are not hidden."""
    total = None
    for mask in masks:
        if mask is not None:
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
            total = mask if total is None else total + mask
    return total if total is None else pad(total, (0, num_added))
