"""The optimiser steps at which to measure or save: regular ones, or log-spaced ones."""

from __future__ import annotations

import math
from typing import Literal

Every = int | Literal["log"]
"""Steps between probes, or ``log``: 1 to 8, and then four steps in each doubling (8, 10, 11, 13, 16, 19, 23, 27, …)."""

_PER_DOUBLING = 4


def is_due(every: Every, before: int, step: int) -> bool:
    """Return whether a step at which to measure lies after ``before`` and not after ``step``.

    Args:
        every: 1 or more, or ``log``.
        before, step: numbers of finished optimiser steps, 0 or more.
    """
    return _num_due(every, step) > _num_due(every, before)


def _num_due(every: Every, step: int) -> int:
    """Return the number of due steps up to one, up to a constant; log-spaced ones are 2^(n/4), rounded."""
    return math.ceil(_PER_DOUBLING * math.log2(step + 0.5)) if every == "log" else step // every
