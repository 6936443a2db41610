"""A fault that verification found in a step of a series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "unreadable",
    "unreachable",
    "tensors",
    "config",
    "tokenizer",
    "gap",
    "not_compared",
    "not_finite",
    "damaged",
    "identical",
    "part",
    "scaled",
    "not_initialisation",
    "out_of_place",
    "jump",
]
"""What is wrong; docs/verification.md explains each."""


@dataclass(frozen=True)
class Suspect:
    """A fault of a step.

    Args:
        step: its number.
        kind: of the fault.
        evidence: what was found, with numbers.
        severity: ``error`` if a curve through this step would be wrong, ``warning`` if it may be.
        remedy: one thing to do.
    """

    step: int
    kind: Kind
    evidence: str
    severity: Literal["error", "warning"]
    remedy: str


def listed(names: list[str], most: int = 2) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
