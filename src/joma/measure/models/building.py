"""A model of transformers from a configuration and tensors: in float32, whole, and without code from elsewhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from joma.errors import BadInput, cause_of
from joma.measure.models.families import kind_of, known_configuration, setting
from joma.saved.reading import not_finite

_HEADS = ("lm_head.weight", "embed_out.weight")
"""Tensors that only predictions need."""

_UNUSED = "pooler"
"""Part of a name: attention does not depend on what comes after the last layer."""

_OF_A_LAYER = re.compile(r"\.\d+\.(?!.*(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids)$)")
"""Names of weights of numbered parts; what follows are masks, angles and counts that older versions saved with them."""


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
    from transformers import CONFIG_MAPPING

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
    return known_configuration(config)


def longest_context(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model can read at once; ``None`` where it does not say."""
    found = setting(configuration(config).get_text_config(), "max_position_embeddings")
    return found if isinstance(found, int) else None


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
        BadInput: NaN weights (named), missing ones, ones of another shape or of layers that the configuration does not
            tell of, or a model that transformers cannot build.
    """
    import transformers

    require_finite(tensors)
    config = configuration(config)
    mapping: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING if with_head else transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise BadInput(
            f"a {config.model_type!r} does not predict the next token" if with_head else "there is no such model",
            expected="a decoder",
            remedy="leave val_loss_nats out",
        )
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    raised = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        with _quiet():
            model, info = mapping[type(config)].from_pretrained(
                None,
                config=config,
                state_dict=raised,
                dtype=torch.float32,
                attn_implementation="eager" if capped else None,  # sdpa drops caps; earlier transformers let it
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, by name
            )
    except Exception as error:
        raise BadInput(
            f"transformers cannot build this {config.model_type!r} ({cause_of(error)})",
            expected="weights and a configuration of the same model",
            remedy="check config.json, or measure weights alone: --measure weights",
        ) from error
    _require_fit(info, config.model_type)
    return model.eval()


def _require_fit(info: Mapping[str, Any], kind: str) -> None:
    """Refuse a model that is not wholly made of the weights, or not of all of them."""
    missing = sorted(name for name in info["missing_keys"] if _UNUSED not in name)
    homeless = sorted(name for name in info["unexpected_keys"] if _OF_A_LAYER.search(name))
    for names, said in ((missing, "missing"), (homeless, f"no part of a {kind!r} of this configuration")):
        if names:
            more = f", and so are {len(names) - 1} more" if names[1:] else ""
            raise BadInput(
                f"{names[0]} is {said}{more}",
                expected=f"all weights of a {kind!r} and the configuration saved with them",
                remedy="check config.json, and that the step is whole: joma scan --verify",
            )
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise BadInput(
            f"{name} is {tuple(found)} and not {tuple(wanted)}",
            expected="weights and a configuration of the same model",
            remedy="check config.json, or measure weights alone: --measure weights",
        )


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        BadInput: naming the first such tensor.
    """
    if (problem := not_finite(tensors)) is not None:
        raise BadInput(problem, expected="finite weights", remedy="leave out this step and the later ones")


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
