"""How many threads torch computes with, for the length of a block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def threads(num: int) -> Generator[None]:
    """Compute with ``num`` threads inside the block: the last digits of sums depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
