"""A model of transformers from a configuration and tensors: in float32, whole, and without code from elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from joma.errors import BadInput, cause_of
from joma.measure.families import kind_of
from joma.measure.reading import first_not_finite

_HEADS = ("lm_head.weight", "embed_out.weight")
"""Tensors that only predictions need."""

_UNUSED = "pooler"
"""Part of a name: attention does not depend on what comes after the last layer."""


class Build(Protocol):
    """Makes a model of a configuration and tensors by name, ready to be read; ``built`` is one."""

    def __call__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
        """The model; ``with_head``: one that predicts the next token."""
        ...


def configuration(config: Mapping[str, Any]) -> Any:
    """The configuration that transformers has for what ``config.json`` holds.

    Raises:
        BadInput: a kind of model that transformers does not know itself, or settings that it refuses.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = kind_of(config)
    if kind == "joma":
        raise BadInput(
            "the network of a run of joma is none of transformers",
            expected="what builds it: `build=joma.train.saved_runs.saved_decoder` in the plan",
            remedy="pass that, or measure its weights alone",
        )
    if kind not in CONFIG_MAPPING:
        raise BadInput(
            f"a model of the kind {kind!r} cannot be run here",
            expected="one that transformers has itself: code from a repository is never run",
            remedy="measure its weights alone: --measure weights",
        )
    settings = {name: value for name, value in config.items() if name not in ("model_type", "quantization_config")}
    try:
        return AutoConfig.for_model(kind, **settings)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadInput(
            f"the configuration of this {kind!r} is refused ({cause_of(error)})",
            expected="config.json as transformers writes it",
            remedy="check config.json",
        ) from error


def longest_context(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model can read at once; ``None`` where it does not say."""
    found = configuration(config).get_text_config()
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(value := getattr(found, name, None), int):
            return value
    return None


def needed_names(tensors: Mapping[str, Any], *, with_head: bool) -> list[str]:
    """Names of the tensors that the model needs; those for predictions only where they are asked for.

    Args:
        tensors: by name, with a ``shape`` each.
        with_head: whether the model is to predict.
    """
    names = list(tensors)
    shapes = [tuple(tensors[name].shape) for name in names]
    # A head that is tied to the embedding may be the only one of the two that was saved.
    return [
        name
        for name, shape in zip(names, shapes, strict=True)
        if with_head or not name.endswith(_HEADS) or shapes.count(shape) < 2
    ]


def built(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
    """Build the model, in float32 whatever its weights are kept in, ready to be read.

    Args:
        config: as ``config.json`` has it.
        tensors: by name, as saved.
        with_head: whether the model is to predict the next token.

    Raises:
        BadInput: NaN weights (named), missing ones, or a model that transformers cannot build.
    """
    import transformers

    require_finite(tensors)
    config = configuration(config)
    mapping: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING if with_head else transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise BadInput(
            f"a {config.model_type!r} does not predict the next token" if with_head else "there is no such model",
            expected="a decoder",
            remedy="leave loss_nats out",
        )
    raised = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        with _quiet():
            model, info = mapping[type(config)].from_pretrained(
                None, config=config, state_dict=raised, dtype=torch.float32, output_loading_info=True
            )
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, OSError) as error:
        raise BadInput(
            f"transformers cannot build this {config.model_type!r} ({cause_of(error)})",
            expected="weights and a configuration of the same model",
            remedy="check config.json, or measure weights alone: --measure weights",
        ) from error
    if missing := sorted(name for name in info["missing_keys"] if _UNUSED not in name):
        raise BadInput(
            f"{missing[0]} is missing" + (f", and {len(missing) - 1} more" if missing[1:] else ""),
            expected=f"all weights of a {config.model_type!r}",
            remedy="check that the step is whole: joma scan --verify",
        )
    return model.eval()


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        BadInput: naming the first such tensor.
    """
    if (name := first_not_finite(tensors)) is not None:
        num = int((~tensors[name].float().isfinite()).sum())
        raise BadInput(
            f"{name} is NaN or infinite in {num:,} of {tensors[name].numel():,} places",
            expected="finite weights",
            remedy="leave this step and what came after it out",
        )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep transformers from reporting on its own what is told here in one line."""
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
