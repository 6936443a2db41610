"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done and out of how much, as often as one likes.

What it raises stops the work; work that can be continued keeps its state first.
"""


def silent(what: str, done: float, total: float) -> None:
    """Ignore all progress."""


def part_of(progress: Progress, what: str, before: float, size: float, total: float) -> Progress:
    """Progress of one part of larger work.

    Args:
        progress: of the whole.
        what: the whole is called.
        before: how much of the whole was done before this part.
        size: how much of the whole this part is.
        total: the whole.
    """

    def report(_: str, done: float, out_of: float) -> None:
        progress(what, before + size * done / out_of, total)

    return report
