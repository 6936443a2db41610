"""Reports of progress from long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float], None]
"""A callback with the name of the work, the amount done and the total.

An exception that it raises stops the work; work that can be continued saves its state first.
"""


def silent(what: str, done: float, total: float) -> None:
    """Ignore progress."""


def part_of(progress: Progress, what: str, before: float, size: float, total: float) -> Progress:
    """Return a callback that reports the progress of a part as progress of the whole.

    Args:
        progress: callback of the whole.
        what: name of the whole.
        before: amount of the whole done before this part.
        size: amount of the whole in this part.
        total: amount of the whole.
    """

    def report(_: str, done: float, out_of: float) -> None:
        progress(what, before + size * done / out_of, total)

    return report
