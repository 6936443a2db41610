"""What a claim works with: its profile and seeds, the text, trained networks, a place to say how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Profile(StrEnum):
    """How much work a claim may do."""

    QUICK = "quick"  # all claims within five minutes on two cores
    FULL = "full"  # the paper's sizes; hours


Progress = Callable[[str, float, float], None]
"""Told (what is being done, how much is done, out of how much), as often as one likes."""


def silent(what: str, done: float, total: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Workspace:
    """Handed to a claim's test.

    Args:
        folder: where trained networks are kept; a network trained for one claim serves the next.
        profile: how much work to do.
        num_seeds: how many repetitions; ``None`` leaves it to the claim.
        progress: told how far a long step is.
    """

    folder: Path
    profile: Profile = Profile.QUICK
    num_seeds: int | None = None
    progress: Progress = field(default=silent, repr=False)

    def seeds(self, default: int) -> range:
        """The seeds to use: 0, 1, … as many as were asked for, or ``default``."""
        return range(default if self.num_seeds is None else self.num_seeds)
