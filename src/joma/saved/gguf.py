"""Find the tensors and the configuration of a GGUF file, and dequantise tensors.

For the architectures listed here, names and the order of rotary pairs are those of transformers. Tensors of other
architectures keep their names.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import torch
from torch import Tensor

from joma.errors import BadInput
from joma.extras import extra
from joma.saved.ranges import RangedFile, TensorPlace, require_shape, require_whole, stream, unreadable

_AT_ONCE = 1 << 18
_NEEDED = "it dequantises GGUF weights"
_MOST_VALUES = 1 << 21
"""Values that are read one by one: a tokenizer's words and merges are a million at most."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SPLIT = "split.count"
_HEADS = " in heads: "
_MOST_AXES = 8
_LONGEST_TEXT = 1 << 24
_UNQUANTISED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}

_CONFIG = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def quantised_places(file: RangedFile, key: str) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
    """Find the tensors of a GGUF file from its header.

    Args:
        file: GGUF of version 2 or 3, little-endian.
        key: the file's name among those of its step.

    Returns:
        The configuration as transformers would have it in ``config.json``, and the tensors' places by name.

    Raises:
        BadInput: damaged, cut off, or without the package ``gguf``.
    """
    content = stream(file, _AT_ONCE)
    try:
        facts, entries = _header(content)
        if (num_splits := facts.get(_SPLIT, 1)) != 1:
            raise BadInput(
                f"{file.name} is one of {num_splits} parts of a model",
                expected="one file",
                remedy="join them: llama-gguf-split --merge",
            )
        alignment = facts.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"an alignment of {alignment}")
        base = -(-content.tell() // alignment) * alignment
        places = {name: _place(file, key, base, *entry) for name, entry in entries.items()}
        config = _config(facts, places)
        if config["model_type"] == "llama":
            places = {name: _in_halves(name, place, config) for name, place in places.items()}
    except BadInput:
        raise
    except (struct.error, ValueError, LookupError, TypeError, ArithmeticError, MemoryError, OSError) as error:
        raise unreadable(file.name, f"its header is malformed ({type(error).__name__}: {error})") from error
    require_whole(file, places)
    if config["model_type"] in _ARCHITECTURES:
        places = {_name(name): place for name, place in places.items()}
    return config, places


def dequantised(content: memoryview, place: TensorPlace) -> Tensor:
    """Return a tensor from its bytes, in float32 if it was quantised."""
    import numpy as np

    kind, _, heads = (place.quantised or "").partition(_HEADS)
    if kind in _UNQUANTISED:
        tensor = torch.frombuffer(content, dtype=torch.uint8).clone().view(place.dtype)
    else:
        gguf = extra("gguf", _NEEDED)
        quantised = np.frombuffer(content, dtype=np.uint8)
        tensor = torch.from_numpy(gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType[kind]).copy())
    tensor = tensor.view(place.shape)
    if not heads:
        return tensor
    # Within a head, llama.cpp interleaves the halves of the rotary pairs; transformers stores one after the other.
    return tensor.view(int(heads), place.shape[0] // int(heads) // 2, 2, -1).transpose(1, 2).reshape(place.shape)


def _header(content: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], int, int]]]:
    """Read the metadata by name, and for each tensor its shape (in torch's order), type and offset."""
    if (magic := content.read(4)) != b"GGUF":
        raise ValueError(f"it begins with {magic!r}")
    version, num_tensors, num_facts = struct.unpack("<IQQ", content.read(20))
    if version not in (2, 3):
        raise ValueError(f"version {version}; 2 and 3 are supported")
    if num_tensors + num_facts > _MOST_VALUES:
        raise ValueError(f"{num_tensors:,} tensors and {num_facts:,} entries")
    facts: dict[str, Any] = {}
    left = _MOST_VALUES
    for _ in range(num_facts):
        name = _string(content)
        if name in facts:
            raise ValueError(f"{name} is stated twice")
        facts[name], left = _value(content, *_numbers(content, "I"), left)
    entries = {}
    for _ in range(num_tensors):
        name = _string(content)
        (num_axes,) = _numbers(content, "I")
        if name in entries or num_axes > _MOST_AXES:
            raise ValueError(f"{name} is there twice or has {num_axes:,} axes")
        *shape, kind, place = _numbers(content, f"{num_axes}QIQ")
        entries[name] = (require_shape(list(reversed(shape))), kind, place)
    return facts, entries


def _numbers(content: BinaryIO, format: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{format}", content.read(struct.calcsize(f"<{format}")))


def _string(content: BinaryIO) -> str:
    (length,) = _numbers(content, "Q")
    if length > _LONGEST_TEXT:
        raise ValueError(f"a text of {length:,} bytes")
    text = content.read(length)
    if len(text) != length:
        raise ValueError("it ends inside a text")
    return text.decode()


def _value(content: BinaryIO, kind: int, left: int) -> tuple[Any, int]:
    """Read a value, and return with it how many more may be read; an array, which is not needed, is ``None``."""
    if left < 1:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    if kind == _STRING:
        return _string(content), left - 1
    if kind != _ARRAY:
        return _numbers(content, _SCALARS[kind])[0], left - 1
    inner, length = _numbers(content, "IQ")
    if inner in _SCALARS:
        content.seek(length * struct.calcsize(_SCALARS[inner]), 1)
    elif inner != _STRING or length > left:
        raise ValueError(f"a list of {length:,} texts or lists")
    else:
        for _ in range(length):
            _string(content)
        left -= length
    return None, left - 1


def _place(file: RangedFile, key: str, base: int, shape: tuple[int, ...], kind: int, at: int) -> TensorPlace:
    gguf = extra("gguf", _NEEDED)
    try:
        name = gguf.GGMLQuantizationType(kind).name
        entries_per_block, bytes_per_block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        raise unreadable(file.name, f"it holds tensors of type {kind}, which the package gguf does not know") from error
    if shape and shape[-1] % entries_per_block:
        raise ValueError(f"rows of {shape[-1]} entries in blocks of {entries_per_block}")
    num_bytes = math.prod(shape) // entries_per_block * bytes_per_block
    dtype = _UNQUANTISED.get(name, torch.float32)
    return TensorPlace(key, dtype, shape, base + at, base + at + num_bytes, quantised=name)


def _config(facts: Mapping[str, Any], places: Mapping[str, TensorPlace]) -> dict[str, Any]:
    architecture = str(facts.get("general.architecture", "unknown"))
    config: dict[str, Any] = {"model_type": architecture}
    for theirs, ours in _CONFIG.items():
        if (name := f"{architecture}.{theirs}") in facts:
            if not isinstance(facts[name], int | float):
                raise ValueError(f"{name} is no number, or another one in each layer")
            config[ours] = facts[name]
    if "token_embd.weight" in places:
        config["vocab_size"] = places["token_embd.weight"].shape[0]
    return config | {"tie_word_embeddings": "output.weight" not in places}


def _name(name: str) -> str:
    if block := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, part, kind = block.groups()
        return f"model.layers.{layer}.{_BLOCK[part]}.{kind}" if part in _BLOCK else name
    part, _, kind = name.rpartition(".")
    return f"{_WHOLE[part]}.{kind}" if part in _WHOLE else name


def _in_halves(name: str, place: TensorPlace, config: Mapping[str, Any]) -> TensorPlace:
    """Record the number of heads of a query or key, whose rows ``dequantised`` has to reorder."""
    if not (rotary := re.search(r"\.attn_([qk])\.", name)):
        return place
    heads = config["num_attention_heads"]
    heads = heads if rotary[1] == "q" else config.get("num_key_value_heads", heads)
    if not heads or place.shape[0] % (2 * heads):
        raise ValueError(f"{name} has {place.shape[0]} rows for {heads} heads")
    return replace(place, quantised=f"{place.quantised}{_HEADS}{heads}")
