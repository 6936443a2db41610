"""How many threads a simulation wants."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from joma.problem.one_layer import OneLayer, Parameters

_WORTH_A_SECOND_THREAD = 10_000_000
"""Multiplications in one matrix product: some milliseconds of one core."""


@contextmanager
def one_thread() -> Generator[None]:
    """Compute small things on one thread: waking others takes longer, and on busy cores ten times longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def few_threads(model: OneLayer, start: Parameters) -> AbstractContextManager[None]:
    """Compute small problems on one thread, and leave large ones alone."""
    small = model.context.numel() * start.weights.shape[-2] < _WORTH_A_SECOND_THREAD
    return one_thread() if small else nullcontext()
