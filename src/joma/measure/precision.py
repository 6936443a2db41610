"""Switch off reduced precision during a measurement."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """Measure without gradients, without autocast, and without tf32 or bf16 inside float32 products.

    These settings apply to the whole process; they are restored afterwards.

    Args:
        device: the device of the measurement.
    """
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # ty: ignore[missing-attribute]
    each = [product.fp32_precision for product in products]
    try:
        overall = torch.get_float32_matmul_precision()
    except RuntimeError:  # the backends were set to different precisions
        overall = None
    try:
        if overall is not None:  # torch's profiler fails if the global and the backends' settings disagree
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
