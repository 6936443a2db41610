"""The door of transformers' models: their attention goes through functions that are registered by name.

While a model is watched it attends by a name of ours. That function calls the one the model had, with the same
arguments, and tells of them; the same name stands for the same masks (otherwise they would be dropped without a
word). What a function makes of its arguments is checked once: a few queries attend again in plain torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.attention.visibility import hides
from joma.measure.capture.calls import Told, rounding_of_kernels

_OURS = "joma_observing_"
_IN_VIEW = ("sdpa", "eager")  # masks are tensors there, which a query and a key have to themselves
_OF_OTHERS = ("key_value_states", "encoder_hidden_states", "cross_attention_states")  # as attention modules are given
_WATCHED: list[Told] = []


@contextmanager
def telling(model: nn.Module, told: Told, *, substitute: bool) -> Generator[None]:
    """Tell of the attention of all transformers models within a module.

    Args:
        model: holds one or more of them.
        told: is told.
        substitute: let a model whose own way of attending is not in view attend by another meanwhile.

    Raises:
        BadInput: a way of attending that is not in view.
    """
    before = _ways(model)
    _WATCHED.append(told)
    hooks = [
        module.register_forward_pre_hook(_noting(told), with_kwargs=True)
        for module in (model.modules() if before else ())
        if not signature(type(module).forward).parameters.keys().isdisjoint(_OF_OTHERS)
    ]
    try:
        for config, own in before:
            if not own.startswith(_OURS):
                config._attn_implementation_internal = _registered(
                    own if own in _IN_VIEW else _stand_in(config, own, substitute)
                )
        yield
    finally:
        _WATCHED.remove(told)
        for hook in hooks:
            hook.remove()
        for config, own in before:
            config._attn_implementation_internal = own


def is_in_view(model: nn.Module) -> bool:
    """Whether all transformers models within a module attend in a way that can be told of as it is."""
    return all(own in _IN_VIEW or own.startswith(_OURS) for _, own in _ways(model))


def _noting(told: Told) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    """Note of a module whether it is given the states of another sequence to attend to."""

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = signature(type(module).forward).bind_partial(module, *args, **kwargs).arguments
        across = any(given.get(name) is not None for name in _OF_OTHERS)
        (told.across.add if across else told.across.discard)(id(module))

    return note


def _ways(model: nn.Module) -> list[tuple[Any, str]]:
    """Each configuration that says how to attend, and how."""
    if "transformers" not in sys.modules:
        return []
    from transformers import PreTrainedModel

    found = {
        id(config): (config, config._attn_implementation_internal)
        for part in model.modules()
        if isinstance(part, PreTrainedModel)
        if part._can_set_attn_implementation()  # others attend by themselves, and torch's kernel may tell of it
        for config in _configurations(part.config)
        if config._attn_implementation_internal is not None
    }
    return list(found.values())


def _configurations(config: Any) -> Iterator[Any]:
    """Walk through a configuration and those within it, each of which has its own way of attending."""
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _configurations(part)


def _stand_in(config: Any, own: str, substitute: bool) -> str:
    """Choose a way of attending that is in view; soft-capped scores are beyond sdpa."""
    if not substitute:
        raise BadInput(
            f"a {config.model_type} model that attends by {own!r}, which hides its masks from view",
            expected=f"one that attends by {' or '.join(_IN_VIEW)}",
            remedy='load it with attn_implementation="sdpa"',
        )
    return "sdpa" if getattr(config.get_text_config(), "attn_logit_softcapping", None) is None else "eager"


def _registered(base: str) -> str:
    """Register our name for one of transformers' ways of attending, with its masks."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(_OURS + base, partial(_attend, base))
    AttentionMaskInterface.register(_OURS + base, ALL_MASK_ATTENTION_FUNCTIONS[base])
    return _OURS + base


def _attend(
    base: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *args: Any,
    **settings: Any,
) -> Any:
    function = _function(base, module)
    watching = [told for told in _WATCHED if told.knows(module)]
    inside = [told.is_inside for told in watching]
    for told in watching:
        told.is_inside = True
    try:
        result = function(module, query, key, value, attention_mask, *args, **settings)
    finally:
        for told, was in zip(watching, inside, strict=True):
            told.is_inside = was
    if watching:
        scores = _scores(base, module, query, key, attention_mask, settings)
        if not module.training and settings.get("dropout", 0.0) == 0:
            _require_explained(module, (query, key, value), scores, result[0], settings)
        for told in watching:
            told.tell(module, query, key, is_cross=id(module) in told.across, **scores)
    return result


def _function(base: str, module: nn.Module) -> Callable[..., Any]:
    """The registered function, or the eager one that stands beside the attention module's class."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if base in ALL_ATTENTION_FUNCTIONS:
        return ALL_ATTENTION_FUNCTIONS[base]
    for kind in type(module).__mro__:
        function = getattr(sys.modules[kind.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise BadInput(
        f"{type(module).__name__} attends by {base!r}, and it does not say by which function",
        expected="an eager_attention_forward beside it, as in transformers",
        remedy='load the model with attn_implementation="sdpa"',
    )


def _scores(
    base: str, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """All that makes scores of queries and keys, in our words."""
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
    """Let a few queries attend again in plain torch, and refuse attention that comes to something else.

    Whatever a function does beside what its arguments say would be measured wrong otherwise.
    """
    rows = torch.linspace(0, qkv[0].shape[2] - 1, 4, device=qkv[0].device).long()
    q, k, v = (part.detach().double() for part in (qkv[0][:, :, rows], *qkv[1:]))
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    with torch.autocast(q.device.type, enabled=False):
        score = q @ k.mT * (q.shape[-1] ** -0.5 if scores["scale"] is None else scores["scale"])
        if (cap := scores["softcap"]) is not None:
            score = cap * (score / cap).tanh()
        if (mask := scores["attn_mask"]) is not None:
            mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            score = (score if mask.dtype == torch.bool else score + mask).masked_fill(hides(mask), -torch.inf)
        if scores["is_causal"]:
            score = score.masked_fill(torch.arange(k.shape[2], device=q.device) > rows[:, None], -torch.inf)
        seen = (score > -torch.inf).any(-1)
        if (sinks := scores["sinks"]) is not None:
            score = torch.cat([score, sinks.double()[:, None, None].expand(*score.shape[:-1], 1)], dim=-1)
        expected = (score.softmax(-1)[..., : k.shape[2]] @ v).transpose(1, 2)
    found = given.detach().reshape(*given.shape[:2], q.shape[1], -1)[:, rows]
    unlike = ((found - expected).abs().amax(-1) * seen.transpose(1, 2)).nan_to_num(0)
    allowed = 16 * rounding_of_kernels(given) ** 0.75 * v.abs().amax().clamp_min(1e-6)
    if unlike.max() > allowed:
        beside = sorted(name for name, value in settings.items() if value is not None)
        raise BadInput(
            f"{type(module).__name__} attends in a way that its arguments ({', '.join(beside)}) do not tell: "
            f"outputs are off by {unlike.max():.2g}",
            expected="the softmax of scaled products of queries and keys, with masks, biases, caps or sinks",
            remedy='load it with attn_implementation="eager", or measure its weights alone',
        )
