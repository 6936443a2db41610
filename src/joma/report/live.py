"""A live table of training runs on standard error; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from joma.report.drawing.looks import shortened
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number, format_seconds
from joma.report.progress import QUIET_SECONDS
from joma.terminal import console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_REFRESH_SECONDS = 1.0
_MOST_ROWS, _LONGEST_NAME = 12, 36


class Row(NamedTuple):
    """A run in the table.

    Args:
        run: its name.
        status: in a word.
        step, num_steps: of its last measurement, and of the whole run.
        loss, entropy: in nats; ``None`` before the first measurement.
    """

    run: str
    status: str
    step: int
    num_steps: int
    loss: float | None = None
    entropy: float | None = None


class LiveRuns:
    """The display of many runs; call it as a ``Progress``.

    Args:
        screen: where it is shown.
        live: rich's display; ``None`` for plain lines.
        rows: called for the present state, runs that train first.
    """

    def __init__(self, screen: Console, live: Live | None, rows: Callable[[], Sequence[Row]]) -> None:
        self._screen, self._live, self._rows = screen, live, rows
        self._started = self._next = time.monotonic()
        self._what, self._first = "", 0.0

    def __call__(self, what: str, done: float, total: float) -> None:
        """Show how far the work is."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._first, self._started, self._next = what, done, now, now
        if now < self._next:
            return
        self._next = now + (_REFRESH_SECONDS if self._live else QUIET_SECONDS)
        rows, sentence = self._rows(), self._sentence(what, done, total, now)
        if self._live:
            self._live.update(_picture(rows, sentence), refresh=True)
        else:
            self._screen.print("; ".join([sentence, *map(_in_words, rows[:2])]))

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._screen.print(text)

    def _sentence(self, what: str, done: float, total: float, now: float) -> str:
        new, took = done - self._first, now - self._started
        left = f", about {format_seconds(took / new * (total - done))} left" if new > 0 and took > 5 else ""
        return f"{what}: {done / total:.0%}{left}" if total else what


def _picture(rows: Sequence[Row], sentence: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table = table_of(("run", "", "step", "held-out loss", "attention entropy"), left=("run", ""))
    for row in rows[:_MOST_ROWS]:
        numbers = ("–" if value is None else format_number(value) for value in (row.loss, row.entropy))
        table.add_row(shortened(row.run, _LONGEST_NAME), row.status, f"{row.step:,} of {row.num_steps:,}", *numbers)
    more = f"; {len(rows) - _MOST_ROWS} more runs are not shown" if len(rows) > _MOST_ROWS else ""
    return Group(table, sentence + more) if rows else Text(sentence)


def _in_words(row: Row) -> str:
    loss = "" if row.loss is None else f", loss {format_number(row.loss)}"
    return f"{shortened(row.run, _LONGEST_NAME)} {row.status} at step {row.step:,}{loss}"


@contextmanager
def live_runs(rows: Callable[[], Sequence[Row]]) -> Generator[LiveRuns]:
    """Show runs while the block runs; ``rows`` is called for their present state."""
    from rich.live import Live

    screen = console(sys.stderr)
    if not screen.is_terminal:
        yield LiveRuns(screen, None, rows)
        return
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        yield LiveRuns(screen, live, rows)
