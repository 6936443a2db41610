"""Saying how far a command is: a live line with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from joma.claims.evaluation import Outcome

QUIET_SECONDS = 10.0
"""Without a terminal, a step says something at most this often."""


class Display:
    """What is being done, on standard error. One per command."""

    def __init__(self, console: Console, progress: Progress, num_claims: int) -> None:
        self._console, self._progress = console, progress
        self._all = progress.add_task("claims", total=num_claims)
        self._step = progress.add_task("", total=None, visible=False)
        self._last_said, self._what, self._since = time.monotonic(), "", time.monotonic()

    def tell(self, what: str, done: float, total: float) -> None:
        """Show that ``done`` of ``total`` of a step is done."""
        if what != self._what:
            self._progress.reset(self._step)
            self._what, self._since = what, time.monotonic()
        self._progress.update(self._step, description=what, completed=done, total=total, visible=done < total)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_said > QUIET_SECONDS:
            self._last_said = now
            left = (now - self._since) / done * (total - done) if done else float("nan")
            self._console.print(f"{what}: {done / total:.0%}, about {left:.0f} s left" if done else what)

    def finished(self, id: str, outcome: Outcome) -> None:
        """Show that a claim is done, with its verdict."""
        self._progress.advance(self._all)
        self._progress.update(self._step, visible=False)
        verdict = outcome.agreement.verdict.value if outcome.agreement else f"not evaluated: {outcome.error}"
        when = "kept from an earlier run" if outcome.remembered else f"{outcome.seconds:.1f} s"
        self._console.print(f"{id}: {verdict} ({when})", markup=False)


@contextmanager
def shown(num_claims: int) -> Generator[Display]:
    """Show progress on standard error while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Display(console, progress, num_claims)
