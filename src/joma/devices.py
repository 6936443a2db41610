"""The device that a choice such as ``auto`` means."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from joma.domains import choose


def device_of(choice: str, function: str) -> torch.device:
    """Return the device: ``cpu``, or for ``auto`` the first CUDA device where there is one.

    Raises:
        InvalidArgument: another choice.
    """
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choose(choice, {"cpu": "cpu", "auto": accelerator}, function, "device"))


def moved(record: Any, device: torch.device | str) -> Any:
    """Return a tensor, or a dataclass or (named) tuple with all its tensors, on another device."""
    if isinstance(record, torch.Tensor):
        return record.to(device)
    if isinstance(record, tuple):
        parts = [moved(part, device) for part in record]
        return type(record)(*parts) if hasattr(record, "_fields") else tuple(parts)
    if is_dataclass(record) and not isinstance(record, type):
        return replace(record, **{part.name: moved(getattr(record, part.name), device) for part in fields(record)})
    return record
