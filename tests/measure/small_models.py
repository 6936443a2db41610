"""Small random models of every known family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GROUPED = {**_SIZES, **_TEXT, "num_key_value_heads": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt_neox": {**_SIZES, **_TEXT},
    "opt": {
        **{key: value for key, value in _SIZES.items() if key != "intermediate_size"},
        **{"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64, **_TEXT},
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **_TEXT},
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 5},
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {**_GROUPED, "head_dim": 16},
    "olmo2": _GROUPED,
    "gemma2": {
        **{**_GROUPED, "head_dim": 16, "sliding_window": 5, "attn_logit_softcapping": 0.5},
        "attn_implementation": "eager",  # older versions of transformers load it with sdpa, which ignores the cap
    },
    "phi3": _GROUPED,
    "phi": {**_SIZES, **_TEXT},
    "starcoder2": {**_GROUPED, "max_position_embeddings": 64, "sliding_window": None},
    "glm4": {**_GROUPED, "head_dim": 8},
    "nemotron": {**_GROUPED, "head_dim": 8},
    "clip_text_model": {**_SIZES, **_TEXT, "max_position_embeddings": 64, "initializer_factor": 4.0},
    "bert": {**_SIZES, **_TEXT, "max_position_embeddings": 64},
    "roberta": {**_SIZES, **_TEXT, "max_position_embeddings": 64},
    "vit": {**_SIZES, "image_size": 32, "patch_size": 8},
}
"""Settings by model type. Windows and caps are tight enough to change results."""

FEW_KEYS = {
    **{**_GROUPED, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "v_head_dim": 12},
    **{"qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"n_group": 1, "topk_group": 1, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 8},
    **{"moe_intermediate_size": 16, "initializer_range": 0.3},
}
"""Settings of DeepSeek V3.2, each query of which sees four keys that the model chooses."""


def small_model(kind: str, head: str = "AutoModel", **settings: Any) -> Any:
    """Build a model without dropout, with weights so large that attention is far from uniform."""
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**CONFIGS[kind], "initializer_range": 0.3, **settings})
    return getattr(transformers, head).from_config(config).eval()


def small_batch(kind: str, *, padded: bool = False) -> dict[str, Tensor]:
    """Draw two images or three texts of 12 tokens; if ``padded``, the last two texts are shorter."""
    generator = torch.Generator().manual_seed(1)
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)}
    batch = {"input_ids": torch.randint(3, 99, (3, 12), generator=generator)}
    mask = torch.ones(3, 12, dtype=torch.long)
    if padded:
        mask[1, 8:] = mask[2, 5:] = 0
    return {**batch, "attention_mask": mask}
