"""Build a model of transformers from a configuration and tensors, in float32 and without running foreign code."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from joma.errors import BadInput, cause_of
from joma.measure.models.families import kind_of, known_configuration, setting
from joma.saved.reading import not_finite

_HEADS = ("lm_head.weight", "embed_out.weight")
"""Tensors that are only needed for predictions."""

_UNUSED = "pooler"
"""Part of the names of weights after the last layer, which attention does not depend on."""

_OF_A_LAYER = re.compile(r"\.\d+\.(?!.*(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids)$)")
"""Names of weights of numbered layers, except the masks, angles and counters that older versions saved too."""


_MODULES_PER_TENSOR, _FREE_MODULES = 64, 4096
_BYTES_PER_ENTRY, _FREE_BYTES = 16, 1 << 28
"""Bounds of a model, by its tensors and their entries: a head may be missing, and masks are computed."""


class Build(Protocol):
    """Builds a model from a configuration and tensors by name, in evaluation mode; ``built`` is one."""

    def __call__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
        """Return the model; it predicts the next token if ``with_head``."""
        ...


def configuration(config: Mapping[str, Any]) -> Any:
    """Return the contents of ``config.json`` as a configuration of transformers.

    Raises:
        BadInput: a kind of model that transformers does not include, or settings that it refuses.
    """
    from transformers import CONFIG_MAPPING

    kind = kind_of(config)
    if kind == "joma":
        raise BadInput(
            "transformers cannot build the network of a run of joma",
            expected="`build=joma.train.saved_runs.saved_decoder` in the plan",
            remedy="pass that, or measure only its weights",
        )
    if kind not in CONFIG_MAPPING:
        raise BadInput(
            f"a model of the kind {kind!r} cannot be run",
            expected="a model that transformers includes; code from a repository is never run",
            remedy="measure only weights: set `measures` to weights",
        )
    return known_configuration(config)


def longest_context(config: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens of an input; ``None`` if the configuration does not state it."""
    found = setting(configuration(config).get_text_config(), "max_position_embeddings")
    return found if isinstance(found, int) else None


def needed_names(tensors: Mapping[str, Any], *, with_head: bool) -> list[str]:
    """Return the names of the tensors that the model needs.

    Args:
        tensors: by name, each with a ``shape``.
        with_head: whether the model predicts the next token.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    # Of a head and the embedding that it is tied to, only the head may have been saved.
    num_alike = Counter(shapes.values())
    return [name for name in tensors if with_head or not name.endswith(_HEADS) or num_alike[shapes[name]] < 2]


def built(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
    """Build the model in float32 and in evaluation mode.

    Args:
        config: contents of ``config.json``.
        tensors: by name, as saved, in any dtype.
        with_head: whether the model predicts the next token.

    Raises:
        BadInput: weights that are NaN, missing, of another shape or of layers that the configuration does not have, or
            a model that transformers cannot build.
    """
    import transformers

    require_finite(tensors)
    config = configuration(config)
    mapping: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING if with_head else transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise BadInput(
            f"a {config.model_type!r} model does not predict the next token" if with_head else "there is no such model",
            expected="a decoder",
            remedy="leave val_loss_nats out",
        )
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    raised = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        with _quiet(), _no_larger_than(raised):
            model, info = mapping[type(config)].from_pretrained(
                None,
                config=config,
                state_dict=raised,
                dtype=torch.float32,
                attn_implementation="eager" if capped else None,  # sdpa ignores caps in older versions of transformers
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below by name
            )
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"transformers cannot build this {config.model_type!r} ({cause_of(error)})",
            expected="weights and a configuration of the same model",
            remedy="check config.json, or measure only weights: set `measures` to weights",
        ) from error
    _require_fit(info, config.model_type)
    return model.eval()


def _require_fit(info: Mapping[str, Any], kind: str) -> None:
    """Raise ``BadInput`` unless the model uses all weights and has no others."""
    missing = sorted(name for name in info["missing_keys"] if _UNUSED not in name)
    unused = sorted(name for name in info["unexpected_keys"] if _OF_A_LAYER.search(name))
    for names, problem in ((missing, "missing"), (unused, f"not part of a {kind!r} with this configuration")):
        if names:
            more = f", and so are {len(names) - 1} more" if names[1:] else ""
            raise BadInput(
                f"{names[0]} is {problem}{more}",
                expected=f"all weights of a {kind!r} and the configuration saved with them",
                remedy="check config.json, and that the step is complete: joma scan --verify",
            )
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise BadInput(
            f"{name} has the shape {tuple(found)} and not {tuple(wanted)}",
            expected="weights and a configuration of the same model",
            remedy="check config.json, or measure only weights: set `measures` to weights",
        )


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``BadInput`` with the name of the first tensor that has a NaN or an infinity."""
    if (problem := not_finite(tensors)) is not None:
        raise BadInput(problem, expected="finite weights", remedy="leave out this step and the later ones")


@contextlib.contextmanager
def _no_larger_than(tensors: Mapping[str, Tensor]) -> Generator[None]:
    """Raise ``BadInput`` as soon as a model that is being built is far larger than its weights.

    Transformers builds models without memory for their weights first, so that nothing has been allocated by then.
    """
    most_modules = _MODULES_PER_TENSOR * len(tensors) + _FREE_MODULES
    most_bytes = _BYTES_PER_ENTRY * sum(tensor.numel() for tensor in tensors.values()) + _FREE_BYTES
    modules = num_bytes = 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal modules, num_bytes
        modules += isinstance(part, nn.Module)
        num_bytes += part.numel() * part.element_size() if isinstance(part, Tensor) else 0
        if modules > most_modules or num_bytes > most_bytes:
            raise BadInput(
                f"config.json describes a model that is far larger than the {len(tensors)} tensors that are there",
                expected="weights and a configuration of the same model",
                remedy="check config.json, or measure only weights: set `measures` to weights",
            )

    hooks = torch.nn.modules.module
    handles = [
        hooks.register_module_module_registration_hook(count),
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silence transformers' own reports, which are replaced by one error message."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
