"""Saying how far a command is: a live line with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from joma.claims.evaluation import Outcome

SLOW_SECONDS = 2.0
"""What is over sooner needs no progress."""

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
        from joma.report.words import verdict_text

        self._progress.advance(self._all)
        self._progress.update(self._step, visible=False)
        verdict = verdict_text(outcome) + (f": {outcome.reason}" if outcome.reason else "")
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


@contextmanager
def shown_if_slow(what: str) -> Generator[Callable[[float, float], None]]:
    """Give a function to be told (done, all) while the block runs; it shows them once that takes over two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    started = said = time.monotonic()

    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None, visible=False)

        def tell(done: float, total: float) -> None:
            nonlocal said
            now = time.monotonic()
            if now - started < SLOW_SECONDS:
                return
            progress.update(task, completed=done, total=total, visible=True)
            if not console.is_terminal and (said == started or now - said > QUIET_SECONDS):
                said = now
                left = (
                    f"{done / total:.0%}, about {(now - started) / done * (total - done):.0f} s left" if done else "0%"
                )
                console.print(f"{what}: {left}", markup=False)

        yield tell
