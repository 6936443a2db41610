"""Progress of a command on standard error: a live line with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from joma.terminal import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from joma.claims.evaluation import Outcome

SLOW_SECONDS = 2.0
"""Work that takes less time shows no progress."""

QUIET_SECONDS = 10.0
"""The least time between two lines without a terminal."""


class Display:
    """The progress display of a command; call it as a ``Progress``."""

    def __init__(self, console: Console, progress: Progress, num_claims: int) -> None:
        self._console, self._progress = console, progress
        self._all = progress.add_task("claims", total=num_claims, visible=num_claims > 0)
        self._step = progress.add_task("", total=None, visible=False)
        self._what, self._since, self._first = "", 0.0, 0.0
        self._next_line = time.monotonic() + SLOW_SECONDS

    def __call__(self, what: str, done: float, total: float) -> None:
        """Show the progress of a step that takes longer than ``SLOW_SECONDS``."""
        now = time.monotonic()
        if what != self._what:  # the pace of an earlier step does not predict the time left
            self._progress.reset(self._step)
            self._what, self._since, self._first = what, now, done
        is_shown = done < total and now - self._since > SLOW_SECONDS
        self._progress.update(self._step, description=what, completed=done, total=total, visible=is_shown)
        new = done - self._first
        is_worth_a_line = done < total and (new > 0 or done == 0)  # the time left is known only after some work
        if not self._console.is_terminal and is_worth_a_line and now > self._next_line:
            self._next_line = now + QUIET_SECONDS
            left = f", about {(now - self._since) / new * (total - done):.0f} s left" if new > 0 else ""
            self._console.print(f"{what}: {done / total:.0%}{left}")

    def finished(self, id: str, outcome: Outcome) -> None:
        """Print the verdict of a finished claim."""
        from joma.report.drawing.words import verdict_text

        self._progress.advance(self._all)
        self._progress.update(self._step, visible=False)
        verdict = verdict_text(outcome) + (f": {outcome.reason}" if outcome.reason else "")
        when = "kept from an earlier run" if outcome.remembered else f"{outcome.seconds:.1f} s"
        self._console.print(f"{id}: {verdict} ({when})")


@contextmanager
def shown(num_claims: int = 0) -> Generator[Display]:
    """Show progress on standard error while the block runs; ``num_claims`` is the number of claims to evaluate."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = console(sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
        yield Display(screen, progress, num_claims)
