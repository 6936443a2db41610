"""Small random models of the families of transformers, and batches that they read."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import cause_of

SIDES = ("no", "right", "left")
"""Where the texts of a batch are padded."""

MOST_PARAMETERS = 20_000_000
_LENGTH, _LENGTHS = 12, (12, 8, 5)

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


class NotBuilt(Exception):
    """A family that is not built small, or does not run on a batch."""


@torch.no_grad()
def built(kind: str) -> tuple[Any, Any, dict[str, dict[str, Tensor]]]:
    """Return a small random model, the same with eager attention, and batches that both can read."""
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
                    model(**batches["no"])
                    (eager := _with_eager(model))(**batches["no"])
                except Exception as error:  # noqa: BLE001
                    problems.append(cause_of(error))
                else:
                    return model, eager, batches
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
    left_out = () if "mrope_section" in (kind.ignore_keys_at_rope_validation or ()) else ("rope_parameters",)
    return found | {name: variant[name] for name in variant if name in kind.__dataclass_fields__.keys() - left_out}


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
