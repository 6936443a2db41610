"""The number of threads that torch uses within a block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def threads(num: int) -> Generator[None]:
    """Use ``num`` threads inside the block; the last digits of sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
