"""Keeps training's shortcuts out of a measurement."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """Measure without gradients, without autocast, and without tf32 or bf16 inside float32 products.

    Args:
        device: on which is measured.

    The settings are the process's; they are put back as they were.
    """
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # ty: ignore[missing-attribute]
    overall, each = _overall_precision(), [product.fp32_precision for product in products]
    try:
        if overall is not None:  # both ways to set it must agree: torch's profiler asks, and fails if they do not
            torch.set_float32_matmul_precision("highest")
        for product in products:
            product.fp32_precision = "ieee"
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if overall is not None:
            torch.set_float32_matmul_precision(overall)
        for product, precision in zip(products, each, strict=True):
            product.fp32_precision = precision


def _overall_precision() -> str | None:
    """The one word for all backends, or ``None`` where they were set one by one, for which torch has no word."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
