"""The families of models: names of the tensors that hold a layer's projections, and their layouts.

A projection is found by the end of its tensor's name in a state dict, with any prefix (``gpt_neox.``, ``model.``,
``module.``, none), so that single tensors of a checkpoint can be read without building the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import Tensor

from joma.errors import BadInput, cause_of
from joma.measure.models.experts import expert_projections
from joma.measure.models.projections import (
    HEAD_ROLES,
    Family,
    Heads,
    Places,
    Projection,
    half,
    interleaved,
    key_rows,
    output_columns,
    query_rows,
    stacked,
    transposed,
    whole,
)


def projections(config: Any, names: Collection[str]) -> tuple[Projection, ...]:
    """Find the projections of a model, one per layer and role, from its configuration and its tensors' names.

    Args:
        config: a configuration of transformers, or the contents of ``config.json``, also of a run of joma.
        names: of a state dict.

    Returns:
        Projections ordered by layer. A model of an unknown kind is read like the family whose tensor names it uses,
        without MLPs if only its attention matches; families with fused tensors are excluded, because names do not
        determine the layout of these. Experts have names of their own (``joma.measure.models.experts``).

    Raises:
        BadInput: no family matches, or layers lack a tensor.
    """
    model_type, heads = kind_of(config), heads_of(config)
    described = [family for family in FAMILIES if model_type in family.model_types]
    is_known = bool(described)
    if not is_known:
        separate = [family for family in FAMILIES if not family.is_fused]
        candidates = (*separate, *(family.attention for family in separate))
        described = [family for family in candidates if family.fits(names)]
    experts = () if is_known else expert_projections(model_type, setting(config, "hidden_size"), names, heads)
    if described and model_type not in ("joma", "torch"):
        heads = _with_sizes(config, heads, is_known=is_known)
    for family in described:
        if found := (family.attention if experts else family).projections(names, heads, of_known_kind=is_known):
            return tuple(sorted((*found, *experts), key=lambda one: one.layer))
    if experts:  # with attention of another kind
        return experts
    known = sorted({kind for family in FAMILIES for kind in family.model_types})
    near = get_close_matches(model_type, known, n=3, cutoff=0.4)
    raise BadInput(
        f"the tensors of a model of the kind {model_type!r} are not named as in any known family "
        f"(such as {', '.join(sorted(names)[:3]) or 'none at all'})",
        expected=f"one of {', '.join(known)}" + (f" (nearest: {', '.join(near)})" if near else ""),
        remedy="measure only attention, or a model of a known family",
    )


def kind_of(config: Any) -> str:
    """Return a model's ``model_type`` (``gpt_neox``); ``joma`` for a run of joma.

    Raises:
        BadInput: the configuration does not state it.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else getattr(config, "model_type", None)
    if kind and isinstance(kind, str):
        return kind
    if isinstance(config, Mapping) and "recipe" in config:
        return "joma"
    raise BadInput(
        "there is no config.json, or it has no model_type",
        expected="a model_type, as in config.json of transformers",
        remedy="keep config.json next to the weights",
    )


def heads_of(config: Any) -> Heads:
    """Return a model's numbers of heads; missing settings get the defaults of transformers for this kind of model.

    Raises:
        BadInput: a configuration without heads, such as that of a network that is not a Transformer.
    """
    if isinstance(config, Mapping) and kind_of(config) == "joma":
        return _heads_of_run(config)
    queries, keys = setting(config, "num_attention_heads"), setting(config, "num_key_value_heads")
    if queries is None or keys is None:
        config = _completed(config)
        queries = queries or setting(config, "num_attention_heads")
        keys = keys or setting(config, "num_key_value_heads") or queries
    if queries is None:
        raise BadInput(
            f"a {kind_of(config)!r} model is not a Transformer: its configuration has no attention heads",
            expected="a Transformer",
            remedy="name a series of one",
        )
    if not isinstance(queries, int) or not isinstance(keys, int) or queries < 1 or keys < 1 or queries % keys:
        raise BadInput(
            f"a {kind_of(config)!r} configuration has {queries} attention heads and {keys} key heads",
            expected="a Transformer with the same number of heads in all layers",
            remedy="check config.json",
        )
    return Heads(queries, keys)


def _heads_of_run(config: Mapping[str, Any]) -> Heads:
    try:
        num_heads = config["recipe"]["decoder"]["num_heads"]
    except (KeyError, TypeError) as error:
        raise BadInput(
            "a recipe has no number of heads of a decoder",
            expected="config.json of a run of joma, or one that names a model_type",
            remedy="check config.json",
        ) from error
    return Heads(num_heads, num_heads)


def _with_sizes(config: Any, heads: Heads, *, is_known: bool) -> Heads:
    """Add the dimension of a head and, for a known kind, the width, as stated or with the defaults of transformers."""
    dim, width = setting(config, "head_dim"), setting(config, "hidden_size")
    if dim is None:  # which is not always the width by the number of heads
        config = _completed(config)
        dim, width = setting(config, "head_dim"), setting(config, "hidden_size")
    if dim is None and width is None:
        raise BadInput(
            f"a {kind_of(config)!r} configuration, of an unknown kind, has no size of heads",
            expected="head_dim or hidden_size, to check tensors that are identified only by their names",
            remedy="complete config.json, or measure only attention",
        )
    return heads._replace(dim=width // heads.query if dim is None else dim, width=width if is_known else None)


def known_configuration(config: Mapping[str, Any]) -> Any:
    """Return the contents of ``config.json``, of a kind that transformers includes, as its configuration.

    Raises:
        BadInput: settings that transformers refuses.
    """
    from transformers import AutoConfig

    kind = kind_of(config)
    settings = {name: value for name, value in config.items() if name not in ("model_type", "quantization_config")}
    try:
        return AutoConfig.for_model(kind, **_settings(settings))
    except Exception as error:
        raise BadInput(
            f"config.json of this {kind!r} is refused ({cause_of(error)})",
            expected="a configuration as transformers writes it",
            remedy="check config.json",
        ) from error


_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
"""Numbers that JSON does not have, as transformers writes them: ``{"__float__": "Infinity"}``."""

_COUNTED = re.compile(r"layer|block|depth|stage|expert|head|label", re.IGNORECASE)
_MOST_COUNTED = 1_000_000
"""Largest number of parts of a model, such as layers, for which transformers makes lists."""


def _settings(value: Any, name: str = "") -> Any:
    """Return the contents of ``config.json`` with the numbers that JSON does not have.

    Raises:
        ValueError: a number of parts that no model has.
    """
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"} and value["__float__"] in _FLOATS:
            return _FLOATS[value["__float__"]]
        return {inner: _settings(of, str(inner)) for inner, of in value.items()}
    if isinstance(value, list):
        return [_settings(entry, name) for entry in value]
    if isinstance(value, int | float) and value > _MOST_COUNTED and _COUNTED.search(name):
        raise ValueError(f"{name} is larger than {_MOST_COUNTED:,}")
    return value


_SPELLINGS = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "hidden_size": ("n_embd", "d_model"),
    "max_position_embeddings": ("n_positions", "max_seq_len"),
}
"""Other names of settings in configurations, by their usual name."""


def setting(config: Any, name: str) -> Any:
    """Return a setting of a configuration under any of its names; ``None`` if it is not set.

    Raises:
        BadInput: a setting that varies across layers.
    """
    names = (name, *_SPELLINGS.get(name, ()))
    try:
        values = (config.get(name) if isinstance(config, Mapping) else getattr(config, name, None) for name in names)
        return next((value for value in values if value is not None), None)
    except RuntimeError as error:  # of transformers, for configurations with settings of single layers
        raise BadInput(
            f"{name} varies across the layers of a {kind_of(config)!r} model",
            expected="a Transformer with the same number of heads in all layers",
            remedy="measure only attention: set `measures` to attention",
        ) from error


def num_layers_of(config: Any) -> int | None:
    """Return the number of layers that a configuration states; ``None`` if it does not."""
    found = setting(config, "num_hidden_layers")
    return found if isinstance(found, int) else None


def _completed(config: Any) -> Any:
    """Fill in the defaults of transformers that a ``config.json`` omits."""
    if not isinstance(config, Mapping):
        return config.get_text_config() if hasattr(config, "get_text_config") else config
    from transformers import CONFIG_MAPPING

    return _completed(known_configuration(config)) if kind_of(config) in CONFIG_MAPPING else config


def _separate(pattern: str, query: str, key: str, value: str, output: str) -> Places:
    """Return the places of attention with one tensor per projection; ``pattern`` has ``{}`` where names differ."""
    names, cuts = (query, key, value, output), (query_rows, key_rows, key_rows, output_columns)
    return {role: (pattern.format(name), cut) for role, name, cut in zip(HEAD_ROLES, names, cuts, strict=True)}


def _fused(tensor: str, output: str, cut: Callable[..., Tensor]) -> Places:
    """Return the places of attention with one tensor for query, key and value, of which ``cut`` takes one ``part``."""
    parts: Places = {role: (tensor, partial(cut, part=part)) for part, role in enumerate(HEAD_ROLES[:3])}
    return {**parts, "output": (output, output_columns)}


def _mlp(lower: str, upper: str) -> Places:
    return {"mlp_lower": (lower, whole), "mlp_upper": (upper, whole)}


_LLAMA = _separate("self_attn.{}.weight", "q_proj", "k_proj", "v_proj", "o_proj")
_OUT_PROJ = _separate("self_attn.{}.weight", "q_proj", "k_proj", "v_proj", "out_proj")
_UP_DOWN = _mlp("mlp.up_proj.weight", "mlp.down_proj.weight")
_GATE_UP: Places = {
    "mlp_lower": ("mlp.gate_up_proj.weight", partial(half, part=1)),
    "mlp_gate": ("mlp.gate_up_proj.weight", partial(half, part=0)),
    "mlp_upper": ("mlp.down_proj.weight", whole),
}
_FC = _mlp("mlp.fc1.weight", "mlp.fc2.weight")
_BERT_MLP = _mlp("intermediate.dense.weight", "output.dense.weight")
_GPT2 = _fused("attn.c_attn.weight", "attn.c_proj.weight", stacked) | _mlp("mlp.c_fc.weight", "mlp.c_proj.weight")

FAMILIES: tuple[Family, ...] = (
    Family(
        "GPT-NeoX",
        ("gpt_neox",),
        "layers",
        _fused("attention.query_key_value.weight", "attention.dense.weight", interleaved)
        | _mlp("mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"),
    ),
    Family(
        "GPT-2", ("gpt2",), "h", {role: (name, partial(transposed, cut=cut)) for role, (name, cut) in _GPT2.items()}
    ),
    Family(
        "Llama",
        (
            *("llama", "mistral", "qwen2", "qwen3", "olmo", "olmo2", "olmo3"),
            *("gemma", "gemma2", "gemma3_text", "smollm3", "granite", "stablelm", "cohere"),
        ),
        "layers",
        {**_LLAMA, **_UP_DOWN, "mlp_gate": ("mlp.gate_proj.weight", whole)},
    ),
    Family("StarCoder 2", ("starcoder2",), "layers", _LLAMA | _mlp("mlp.c_fc.weight", "mlp.c_proj.weight")),
    Family(
        "MPT",
        ("mpt",),
        "blocks",
        _fused("attn.Wqkv.weight", "attn.out_proj.weight", stacked)
        | _mlp("ffn.up_proj.weight", "ffn.down_proj.weight"),
    ),
    Family(
        "Phi-3", ("phi3",), "layers", _fused("self_attn.qkv_proj.weight", "self_attn.o_proj.weight", stacked) | _GATE_UP
    ),
    Family("GLM-4", ("glm", "glm4"), "layers", _LLAMA | _GATE_UP),
    Family("Nemotron", ("nemotron", "arcee"), "layers", _LLAMA | _UP_DOWN),
    Family("Phi", ("phi",), "layers", _separate("self_attn.{}.weight", "q_proj", "k_proj", "v_proj", "dense") | _FC),
    Family(
        "CLIP",
        ("clip_text_model", "clip_vision_model", "siglip_text_model", "siglip_vision_model"),
        "layers",
        _OUT_PROJ | _FC,
    ),
    Family("OPT", ("opt",), "layers", _OUT_PROJ | _mlp("fc1.weight", "fc2.weight")),
    Family(
        "BERT",
        ("bert", "roberta", "xlm-roberta", "camembert", "electra"),
        "encoder.layer",
        _separate("attention.{}.weight", "self.query", "self.key", "self.value", "output.dense") | _BERT_MLP,
    ),
    Family(
        "ViT",
        ("vit", "deit"),
        "layers",
        _separate("attention.{}.weight", "q_proj", "k_proj", "v_proj", "o_proj") | _FC,
    ),
    Family(
        "ViT as stored before transformers 5",
        ("vit", "deit"),
        "encoder.layer",
        _separate("attention.{}.weight", "attention.query", "attention.key", "attention.value", "output.dense")
        | _BERT_MLP,
    ),
    Family(
        "torch's encoder layers",
        ("torch",),
        "layers",
        _fused("self_attn.in_proj_weight", "self_attn.out_proj.weight", stacked)
        | _mlp("linear1.weight", "linear2.weight"),
    ),
    Family(
        "ours",
        ("joma",),
        "blocks",
        {
            "query": ("query_key.weight", partial(half, part=0, cut=query_rows)),
            "key": ("query_key.weight", partial(half, part=1, cut=query_rows)),
            "value": ("value.weight", key_rows),
            "output": ("attention_output.weight", output_columns),
            **_mlp("mlp_lower.weight", "mlp_upper.weight"),
        },
    ),
)
"""All known families."""
