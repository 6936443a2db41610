"""Observe models of transformers where they look up their attention functions.

While a model is observed, every attention function that it looks up is wrapped: the wrapper calls the function with the
same arguments and collects them. The name of the function stays in the configuration, because some models decide by
that name what they compute. Each call is checked: a few queries attend again in plain torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature, unwrap
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.capture.calls import AttentionCall, CallCollector, Output, rounding_of_kernels
from joma.measure.capture.reference import plain_attention

_OBSERVABLE = ("sdpa", "eager")  # their masks are tensors of queries by keys
_OTHER_STATES = ("key_value_states", "encoder_hidden_states", "cross_attention_states")  # arguments of cross-attention
_COLLECTORS: list[CallCollector] = []


@contextmanager
def observing_transformers(model: nn.Module, collector: CallCollector, *, substitute: bool) -> Generator[None]:
    """Collect the attention calls of all transformers models within a module.

    Args:
        model: contains one or more of them.
        collector: receives the calls.
        substitute: use another attention function in a model whose own one cannot be observed.

    Raises:
        BadInput: an attention function that cannot be observed.
    """
    functions = _attention_functions(model)
    others = [(config, own) for config, own in functions if own not in _OBSERVABLE]
    hooks = [
        module.register_forward_pre_hook(_cross_attention_hook(collector), with_kwargs=True)
        for module in (model.modules() if functions else ())
        if not signature(type(module).forward).parameters.keys().isdisjoint(_OTHER_STATES)
    ]
    try:
        for config, own in others if not collector.takes_any else ():
            config._attn_implementation_internal = _substitute(config, own, substitute)
        with _collecting(collector):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for config, own in others:
            config._attn_implementation_internal = own


@contextmanager
def _collecting(collector: CallCollector) -> Generator[None]:
    """Pass the calls of all looked-up attention functions to a collector."""
    if "transformers" not in sys.modules:
        yield
        return
    import transformers

    registry: Any = transformers.AttentionInterface
    if not _COLLECTORS:
        registry.get_interface = _observed(registry.get_interface)
    _COLLECTORS.append(collector)
    try:
        yield
    finally:
        _COLLECTORS.remove(collector)
        if not _COLLECTORS:
            registry.get_interface = unwrap(registry.get_interface)


def is_observable(model: nn.Module) -> bool:
    """Whether all transformers models within a module can be observed with their own attention functions."""
    return all(own in _OBSERVABLE for _, own in _attention_functions(model))


def _cross_attention_hook(collector: CallCollector) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    """Return a hook that records whether a module receives the states of another sequence to attend to."""

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = signature(type(module).forward).bind_partial(module, *args, **kwargs).arguments
        across = any(given.get(name) is not None for name in _OTHER_STATES)
        (collector.across.add if across else collector.across.discard)(id(module))

    return record


def _attention_functions(model: nn.Module) -> list[tuple[Any, str]]:
    """Return the configurations that select an attention function, each with the name of the function."""
    if "transformers" not in sys.modules:
        return []
    from transformers import PreTrainedModel

    found = {
        id(config): (config, config._attn_implementation_internal)
        for part in model.modules()
        if isinstance(part, PreTrainedModel)
        if part._can_set_attn_implementation()  # others may call torch's kernel, which is hooked too
        for config in _configurations(part.config)
        if config._attn_implementation_internal is not None
    }
    return list(found.values())


def _configurations(config: Any) -> Iterator[Any]:
    """Yield a configuration and all those nested in it, each of which selects its own attention function."""
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _configurations(part)


def _substitute(config: Any, own: str, substitute: bool) -> str:
    """Choose an observable attention function; ``sdpa`` does not support soft-capping."""
    if not substitute:
        raise _unobservable(f"a {config.model_type} model", own)
    return "sdpa" if getattr(config.get_text_config(), "attn_logit_softcapping", None) is None else "eager"


def _unobservable(model: str, own: str) -> BadInput:
    return BadInput(
        f"{model} uses the attention function {own!r}, whose masks cannot be observed",
        expected=f"a model that uses {' or '.join(_OBSERVABLE)}",
        remedy='load it with attn_implementation="sdpa"',
    )


def _observed(look_up: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """Return a method of transformers' registry of attention functions that wraps what it finds."""

    @wraps(look_up)
    def looked_up(registry: Any, name: str | None, default: Callable[..., Any]) -> Callable[..., Any]:
        return partial(_attend, name or "eager", look_up(registry, name, default))

    return looked_up


def _attend(
    base: str,
    function: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *args: Any,
    **settings: Any,
) -> Any:
    collectors = [collector for collector in _COLLECTORS if collector.knows(module)]
    if base not in _OBSERVABLE and not all(collector.takes_any for collector in collectors):
        raise _unobservable(type(module).__name__, base)
    inside = [collector.is_inside for collector in collectors]
    for collector in collectors:
        collector.is_inside = True
    try:
        result = function(module, query, key, value, attention_mask, *args, **settings)
    finally:
        for collector, was in zip(collectors, inside, strict=True):
            collector.is_inside = was
    if collectors:
        is_observable = base in _OBSERVABLE
        scores = _scores(base, module, query, key, attention_mask, settings) if is_observable else {}
        checks = not any(collector.with_outputs for collector in collectors)  # otherwise the callback does
        if checks and not module.training and settings.get("dropout", 0.0) == 0:
            _require_explained(module, (query, key, value), scores, result[0], settings)
        for collector in collectors:
            of_heads = result[0].reshape(*result[0].shape[:2], query.shape[1], -1).transpose(1, 2)
            output = {"output": Output(value, of_heads)} if collector.with_outputs else {}
            collector.collect(module, query, key, is_cross=id(module) in collector.across, **scores, **output)
    return result


def _scores(
    base: str, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings from which scores are computed, as fields of ``AttentionCall``."""
    is_causal = settings.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    is_causal = base == "sdpa" and mask is None and bool(is_causal) and query.shape[2] > 1
    if (bias := settings.get("position_bias")) is not None:
        mask, is_causal = _biased(mask, bias, key.shape[2], is_causal), False
    if mask is not None and mask.shape[-1] > key.shape[2]:
        mask = mask[..., : key.shape[2]]
    return {
        "scale": settings.get("scaling"),
        "is_causal": is_causal,
        "attn_mask": mask,
        "softcap": settings.get("softcap"),
        "sinks": settings.get("s_aux"),
    }


def _biased(mask: Tensor | None, bias: Tensor, num_keys: int, is_causal: bool) -> Tensor:
    bias = bias[..., :num_keys]
    if mask is None and is_causal:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
    if mask is None:
        return bias
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask


@torch.no_grad()
def _require_explained(
    module: nn.Module,
    qkv: tuple[Tensor, Tensor, Tensor],
    scores: dict[str, Any],
    given: Tensor,
    settings: dict[str, Any],
) -> None:
    """Compute attention again for a few queries in plain torch, and raise ``BadInput`` if the outputs differ.

    If they do, the function does more than its arguments say, and its attention would be measured wrongly.
    """
    q, k, v = qkv
    rows = torch.linspace(0, q.shape[2] - 1, 4, device=q.device).long()
    expected, seen = plain_attention(AttentionCall(0, "", q, k, **scores), v, rows)
    found = given.detach().reshape(*given.shape[:2], q.shape[1], -1)[:, rows].transpose(1, 2)
    error = ((found - expected).abs().amax(-1) * seen).nan_to_num(0)
    rounding = max(rounding_of_kernels(given), torch.finfo(torch.float32).eps)  # of a softmax, also in float64 models
    allowed = 16 * rounding**0.75 * v.detach().double().abs().amax().clamp_min(1e-6)
    if error.max() > allowed:
        known = sorted(name for name, value in settings.items() if value is not None)
        raise BadInput(
            f"the attention of {type(module).__name__} does not follow from its arguments ({', '.join(known)}): "
            f"outputs differ by {error.max():.2g}",
            expected="the softmax of scaled products of queries and keys, with masks, biases, caps or sinks",
            remedy="pass its queries and keys to joma.attention_statistics yourself, or measure only its weights",
        )
