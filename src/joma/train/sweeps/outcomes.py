"""What became of the runs of a sweep: one line for each time that one ended, in a file that can be read at any time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from joma.journal import lines_of
from joma.serialization import shaped

Status = Literal["finished", "failed", "unfinished"]

OUTCOMES = "outcomes.jsonl"
"""The name of the file, in the folder of the sweep."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Args:
        run: its name.
        status: ``unfinished`` if the sweep was interrupted before its end.
        reason: why it failed, and what to do; empty if it did not.
        seconds: wall-clock time of training in the process that trained it last; ``None`` if it was not trained.
        from_step: the step from which that process trained.
    """

    run: str
    status: Status
    reason: str = ""
    seconds: float | None = None
    from_step: int | None = None


def read_outcomes(path: Path) -> tuple[dict[str, Outcome], int]:
    """Return the last outcome of each run, without damaged lines, and where the last whole line ends, in bytes."""
    lines, found = list(lines_of(path)), {}
    for line in lines:
        with suppress(ValueError):
            outcome = shaped(line.body, Outcome)
            found[outcome.run] = outcome
    return found, lines[-1].end if lines else 0
