"""Tensors with facts about them in safetensors files that are written atomically and verified by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from joma.files import replacing
from joma.serialization import decoded, shaped

_ENTRY = "joma"
"""The single metadata entry, because safetensors writes several in an order that varies between processes."""


def write_tensors(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, by name, with facts that are plain data."""
    kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_ENTRY: json.dumps({**facts, "digest": digest_of(facts, kept)})}
    with replacing(path) as temporary:
        temporary.write_bytes(save(kept, metadata))  # unlike save_file, this raises OSError if the disk is full


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read facts and tensors that ``write_tensors`` wrote.

    Raises:
        ValueError: the file is missing, truncated, altered or another one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = shaped(decoded((file.metadata() or {})[_ENTRY]), dict[str, Any])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    if facts.pop("digest", None) != digest_of(facts, tensors):
        raise ValueError("its digest does not match its content")
    return facts, tensors


def digest_of(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors and facts, which must be plain data: the same in every process and on every machine."""
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
