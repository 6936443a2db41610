"""Measure every family that transformers builds from a small random configuration, and compare with its own weights.

    PYTHONPATH=tests python tests/measure/swept_families.py [FAMILY ...]

prints the results of the named families, or writes those of all to docs/families.md (20 minutes).
"""

from __future__ import annotations

import copy
import math
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.measure.capture.outputs import agree
from joma.measure.watch.probing import AttentionProbe
from tolerances import TOLERANCES

SIDES = ("no", "right", "left")
"""Where the texts of a batch are padded."""

MOST_PARAMETERS = 20_000_000
_LENGTH, _LENGTHS = 12, (12, 8, 5)

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
_PAGE = """# Families

What `joma.watch` measures of each family that transformers {version} builds from a small random configuration, compared
with the attention weights that the same model returns with eager attention, in float64: mean entropies of every head,
over queries that are not padding. Texts are padded nowhere, on the right, or on the left; models of images have no
padding. Results: right (to 1e-5 nats; float32 for families that do not run in float64), refused (with the reason in the
last column), or – (nothing to compare with). Of {num} families, {counts}.

This page is written by `PYTHONPATH=tests python tests/measure/swept_families.py`. A test compares it with what it
finds: `pytest -m slow tests/measure/capture/test_swept_families.py`.

| family | no padding | right | left | reason, or what was compared |
|---|---|---|---|---|
"""
_LEFT_OUT = """These {num} are not compared: they are not built from such a configuration, or read neither texts nor
plain images:
"""

_SMALL: tuple[tuple[str, Any], ...] = (
    (r"pad_token_id", 0),
    (r"(bos|cls|decoder_start)_token_id", 1),
    (r"(eos|sep)_token_id", 2),
    (r"type_vocab_size", 2),
    (r".*vocab_size", 512),
    (r".*(intermediate_size|ffn_dim|d_ff|feedforward(_dim)?|mlp_dim|n_inner|d_inner|ff_dim)", 64),
    (r".*(num_key_value_heads|num_kv_heads|n_kv_heads)", 2),
    (r"index_n_heads", 2),
    (r".*(heads?|n_head)", 4),
    (r"qk_rope_head_dim|rotary_dim", 4),
    (r".*(head_dim|head_size|d_kv|qk_nope_head_dim|kv_channels)", 8),
    (r".*lora_rank", 16),
    (r".*(hidden_size|d_model|n_embd|embed_dim|hidden_dim|embedding_size|emb_dim|projection_dim|^dim)", 32),
    (r".*(hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|depth|num_blocks)", 2),
    (r"(num_local_experts|n_routed_experts|num_experts|moe_num_experts)", 4),
    (r"(num_experts_per_tok|moe_topk|moe_top_k|top_k_experts)", 2),
    (r"(n_group|topk_group)", 1),
    (r"first_k_dense_replace", 1),
    (r"index_topk", 4),
    (r".*(sliding_window(_size)?|local_attention)", 5),
    (r"max_window_layers", 1),
    (r"(?!.*(2d|relative)).*(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_(source|target)_positions)", 64),
    (r"image_size", 32),
    (r"patch_size", 8),
)
"""Small values by patterns of the names of settings, for those whose default is larger; the first that fits counts."""


_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512},
    {"num_hidden_layers": 4},
    {"hidden_size": 64, "head_dim": 16},
    {"num_hidden_layers": 6, "num_key_value_heads": 4},
    {"head_dim": 8, "num_key_value_heads": 2, "rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}},
    {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    {**_MAMBA, "layer_types": ["mamba", "attention"], "attn_layer_indices": [1]},
    {"layer_types": ["conv", "full_attention"]},
    {"layer_types": ["linear_attention", "full_attention"]},
    {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    {"vocab_size": 512, "pad_token_id": 0, "mask_token_id": 4},
    {"default_language": "en_XX"},
)
"""Settings to try one after another, until a model can be built and run."""


_OTHER_WEIGHTS = {
    "granite_swa": "the weights that it returns leave out its sinks",
    "granitemoe_swa": "the weights that it returns leave out its sinks",
    "t5gemma2": "it returns the weights of one softmax in two parts",
}
"""Families whose returned weights are not those that attend, with the reason."""


class NotBuilt(Exception):
    """A family that is not built small, or does not run on a batch."""


class Found(NamedTuple):
    """What was measured of one family on one batch.

    Args:
        result: ``right``, ``refused``, ``different``, or ``–`` if there is nothing to compare with.
        reason: of the result, unless it is ``right``.
    """

    result: str
    reason: str = ""


def kinds() -> list[str]:
    """Return the types of all models of transformers."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(kind for kind in CONFIG_MAPPING_NAMES if CONFIG_MAPPING[kind] in MODEL_MAPPING)


def sweep(kind: str) -> dict[str, Found]:
    """Measure a family on texts that are padded nowhere, on the right and on the left, or on images.

    Raises:
        NotBuilt: with the reason.
    """
    model, batches = _built(kind)
    eager = _with_eager(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {side: _compared(model, eager, batch) for side, batch in batches.items()}


def _built(kind: str) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """Return a small random model in float64, and its batches."""
    from transformers import CONFIG_MAPPING

    problems = []
    for variant in _VARIANTS:
        for dtype in (torch.float64, torch.float32):  # some models compute partly in float32
            try:
                model = _random_model(CONFIG_MAPPING[kind](**_settings(CONFIG_MAPPING[kind], variant)), dtype)
            except Exception as error:  # noqa: BLE001 (any error of transformers is a reason)
                problems.append(cause_of(error))
                break
            for batches in _batches(model):
                try:
                    with torch.no_grad():
                        model(**batches["no"])
                except Exception as error:  # noqa: BLE001
                    problems.append(cause_of(error))
                else:
                    return model, batches
    raise NotBuilt(problems[0] if problems else "no batch is known for it")


def _settings(kind: Any, variant: dict[str, Any]) -> dict[str, Any]:
    """Return small values for the settings of a class of configurations and of those nested in it."""
    from transformers import PreTrainedConfig

    found: dict[str, Any] = {}
    num_special = 300
    defaults = kind.default_config_fields()
    for name, default in defaults.items():
        if isinstance(default, int) and not isinstance(default, bool):
            value = next((value for pattern, value in _SMALL if re.fullmatch(pattern, name)), None)
            if value is not None and (default > value or name.endswith("token_id")):
                found[name] = value
            elif re.search(r"token_(id|index)$", name):
                found[name] = num_special = num_special + 1
    for name, spec in kind.sub_configs_defaults.items():
        is_auto = not issubclass(spec.config_class, PreTrainedConfig)
        inner = spec.get_config_class(spec.model_type) if is_auto else spec.config_class
        found[name] = _settings(inner, variant) | ({"model_type": spec.model_type} if is_auto else {})
    return found | {name: value for name, value in variant.items() if name in kind.__dataclass_fields__}


def _random_model(config: Any, dtype: torch.dtype) -> Any:
    """Build a model without dropout, with weights so large that attention is far from uniform."""
    from transformers import AutoModel

    with torch.device("meta"):
        num_parameters = sum(part.numel() for part in AutoModel.from_config(config).parameters())
    if num_parameters > MOST_PARAMETERS:
        raise ValueError(f"{num_parameters:.1g} parameters even with small settings")
    torch.manual_seed(0)
    model = AutoModel.from_config(config, experts_implementation="eager").eval().to(dtype)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def _with_eager(model: Any) -> Any:
    """Return the same model with eager attention, chosen when it is built: some choose what they compute there."""
    from transformers import AutoModel

    config = copy.deepcopy(model.config)
    eager = AutoModel.from_config(config, attn_implementation="eager", experts_implementation="eager")
    eager.to(model.dtype).load_state_dict(model.state_dict())
    return eager.eval()


def _batches(model: Any) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Yield batches that the model may be able to read, by the side of padding."""
    generator = torch.Generator().manual_seed(1)
    vision = getattr(model.config, "vision_config", model.config)
    if isinstance(size := getattr(vision, "image_size", None), int):
        shape = (len(_LENGTHS), getattr(vision, "num_channels", 3), size, size)
        images = {"pixel_values": torch.randn(shape, generator=generator).to(model.dtype)}
    else:
        images = {}
    if model.main_input_name == "pixel_values" and images:
        yield {"no": images}
    if model.main_input_name == "input_ids":
        texts = _texts(model.config.is_encoder_decoder, generator)
        yield texts
        if images:
            yield {side: {**text, **images} for side, text in texts.items()}


def _texts(is_encoder_decoder: bool, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    tokens, texts = torch.randint(3, 99, (len(_LENGTHS), _LENGTH), generator=generator), {}
    for side in SIDES:
        lengths = torch.tensor(_LENGTHS if side != "no" else [_LENGTH] * len(_LENGTHS))[:, None]
        place = torch.arange(_LENGTH)
        mask = place < lengths if side != "left" else place >= _LENGTH - lengths
        texts[side] = {"input_ids": tokens.where(mask, 0), "attention_mask": mask.long()}
        if is_encoder_decoder:
            texts[side] |= {f"decoder_{name}": value for name, value in texts[side].items()}
    return texts


class _FiniteScores(TorchFunctionMode):
    """Raises hidden scores to the lowest number of float32, in which eager attention takes its softmax.

    The lowest number of float64 becomes −inf there, and a query without a key NaN.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.softmax, torch.nn.functional.softmax, Tensor.softmax):
            args = (args[0].clamp_min(torch.finfo(torch.float32).min), *args[1:])
        return func(*args, **(kwargs or {}))


def _compared(model: Any, eager: Any, batch: dict[str, Tensor]) -> Found:
    """Measure a model on a batch, and compare mean entropies with those of eager's weights."""
    try:
        with _FiniteScores():
            rows = AttentionProbe(model, batch).rows()
    except (BadInput, InvalidArgument) as error:
        return Found("refused", error.problem)
    except Exception as error:  # noqa: BLE001 (a failure without a reason is a result)
        return Found("different", f"it fails ({cause_of(error)})")
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.metric == "attention_entropy_nats":
            found.setdefault(row.layer, []).append(row.value)
    measured = [torch.tensor(values).double() for values in found.values()]
    expected, joined = _expected(eager, batch)
    if not expected or model.config.model_type in _OTHER_WEIGHTS:
        return Found("–", _OTHER_WEIGHTS.get(model.config.model_type, "it returns no attention weights"))
    allowed = TOLERANCES["attention.entropy" if model.dtype == torch.float64 else "sweep.single"].bound
    num_returned = sum(map(len, expected))
    if not agree_in_order(measured, expected, allowed):
        if agree_in_order(measured, joined, allowed):
            return Found("right", f"{len(measured)} modules attend {num_returned} times")
        with torch.no_grad():
            is_same = agree(model(**batch), eager(**batch), _kept(batch))
        if model is eager or is_same:
            return Found("different", _difference(measured, [layer for layers in expected for layer in layers]))
        return _compared(eager, eager, batch)._replace(reason="with eager attention: sdpa computes something else")
    return Found("right", f"{len(measured)} of {num_returned} layers" if len(measured) < num_returned else "")


def _kept(batch: dict[str, Tensor]) -> Tensor | None:
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    return None if mask is None else mask.bool()


def agree_in_order(measured: list[Tensor], expected: list[list[Tensor]], allowed: float) -> bool:
    """Whether measured layers are those that a model returns, in the order of each part of the model.

    Some layers may not be observed, and a model may not return the weights of a layer that pools.
    """
    left = [(part, place, layer) for part, layers in enumerate(expected) for place, layer in enumerate(layers)]
    num_matched, reached = 0, [-1] * len(expected)
    for ours in measured:
        for part, place, theirs in left:
            if place > reached[part] and _distance(ours, theirs) <= allowed:
                num_matched, reached[part] = num_matched + 1, place
                break
    return num_matched == min(len(measured), len(left))


def _distance(ours: Tensor, theirs: Tensor) -> float:
    return (ours - theirs).abs().max().item() if ours.shape == theirs.shape else math.inf


def _difference(measured: list[Tensor], expected: list[Tensor]) -> str:
    if len(measured) != len(expected):
        return f"{len(measured)} layers measured, {len(expected)} returned"
    return f"{max(map(_distance, measured, expected)):.2g} nats"


@torch.no_grad()
def _expected(eager: Any, batch: dict[str, Tensor]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Return mean entropies (H,) over queries that are not padding, for each part of a model.

    Returns:
        Those of each returned layer, and those of each module, as means over its calls.
    """
    owners: dict[
        int, tuple[Any, nn.Module]
    ] = {}  # what a module returns first, and the module, by the id of the former
    with ExitStack() as stack:
        for module in eager.modules():

            def record(module: nn.Module, _: Any, output: Any) -> None:
                outputs = output if isinstance(output, tuple) else ()
                for each in outputs:
                    owners.setdefault(id(each), (each, module))

            stack.callback(module.register_forward_hook(record).remove)
        stack.enter_context(_FiniteScores())
        output = eager(**batch, output_attentions=True)
    mask, decoder_mask = (batch.get(f"{of}attention_mask") for of in ("", "decoder_"))
    expected, joined = [], []
    for part in _parts(output):
        for name in ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions"):
            is_decoder = name.startswith(("decoder", "cross")) and decoder_mask is not None
            layers = [layer for layer in part.get(name) or () if isinstance(layer, Tensor) and layer.dim() == 4]
            values = [_mean_entropies(layer, decoder_mask if is_decoder else mask) for layer in layers]
            of_modules: dict[int, list[Tensor]] = {}
            for layer, value in zip(layers, values, strict=True):
                of_modules.setdefault(id(owners.get(id(layer), (layer, layer))[1]), []).append(value)
            if values:
                expected.append(values)
                joined.append([torch.stack(calls).mean(0) for calls in of_modules.values()])
    return expected, joined


def _parts(output: Any) -> Iterator[Any]:
    """Yield an output and all those nested in it."""
    yield output
    for value in output.values():
        if isinstance(value, dict):
            yield from _parts(value)


def _mean_entropies(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Return (H,) mean entropies; a missing share of a query's weights is that of a sink."""
    weights = weights.double()
    sink = 1 - weights.sum(-1)
    entropies = torch.special.entr(weights).sum(-1) + torch.special.entr(sink.where(sink > 1e-5, 0))
    is_of_texts = mask is not None and weights[:, 0, :, 0].shape == mask.shape
    counted = mask[:, None] if is_of_texts else torch.ones(len(weights), 1, weights.shape[2])
    return (entropies * counted).nan_to_num(0).sum((0, 2)) / counted.sum()


def row_of(kind: str, results: dict[str, Found]) -> str:
    """Return the row of a family in the table."""
    reason = "; ".join(dict.fromkeys(found.reason for found in results.values() if found.reason))
    cells = (results[side].result if side in results else "" for side in SIDES)
    return f"| `{kind}` | {' | '.join(cells)} | {reason} |"


def main(chosen: list[str]) -> None:
    """Print the rows of some families, or write the page with those of all."""
    import transformers

    transformers.logging.set_verbosity_error()
    rows, left_out = [], {}
    for kind in chosen or kinds():
        try:
            rows.append(row_of(kind, sweep(kind)))
            print(rows[-1], flush=True)
        except NotBuilt as error:
            left_out[kind] = str(error)
            print(f"{kind}: {error}", flush=True)
    if not chosen:
        counts = ", ".join(f"{sum(f'| {name} |' in row for row in rows)} {name}" for name in ("right", "refused"))
        page = _PAGE.format(version=transformers.__version__, num=len(rows), counts=counts)
        page += "\n".join([*rows, "", _LEFT_OUT.format(num=len(left_out)), ", ".join(f"`{kind}`" for kind in left_out)])
        PAGE.write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
