"""What goes wrong because of what was asked: each error says what was wrong, what was expected, what to do.

No name in a message can command the terminal on which Python prints it.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from joma.terminal import printable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_OUT_OF_MEMORY = re.compile(r"allocate memory|out of memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
"""How torch says it; on a CPU it has no error of its own for that, and cuBLAS has a status."""


class BadInput(ValueError):
    """Something a person gave cannot be used. Printed as one line; the command line exits with 2.

    >>> import joma
    >>> joma.open_series("missing")
    Traceback (most recent call last):
    joma.errors.BadInput: missing is not a folder; expected a folder with saved steps, or owner/name of a repository ...

    Args:
        problem: what was wrong, with the value received.
        expected: what would have been right.
        remedy: one thing to do next.
    """

    def __init__(self, problem: str, *, expected: str, remedy: str) -> None:
        self.problem, self.expected, self.remedy = problem, expected, remedy
        super().__init__(printable(f"{problem}; expected {expected}; {remedy}"))

    def __reduce__(self) -> tuple:
        """Survive the way back from a worker process."""
        return _rebuild, (type(self), str(self), vars(self))


class InvalidArgument(BadInput):
    """An argument of a library function lies outside its domain.

    >>> import joma
    >>> joma.blow_up_time([1.0], gain=-1.0)
    Traceback (most recent call last):
    joma.errors.InvalidArgument: blow_up_time: `gain` is -1; expected a finite number above 0; pass a positive ...

    Args:
        function: the function that was called.
        parameter: its parameter.
        required: the domain, in words.
        received: the offending value or shape, in words.
        remedy: one way out.
    """

    def __init__(self, function: str, parameter: str, *, required: str, received: str, remedy: str) -> None:
        self.function, self.parameter, self.received = function, parameter, received
        super().__init__(f"{function}: `{parameter}` is {received}", expected=required, remedy=remedy)


class RunFailed(RuntimeError):
    """A run could not go on (NaN loss, disk full, no whole checkpoint); what it had measured is kept.

    >>> import joma
    >>> raise joma.RunFailed("the disk is full", kept="step 100 is there", remedy="make room")
    Traceback (most recent call last):
    joma.errors.RunFailed: the disk is full; step 100 is there; make room

    Args:
        problem: what happened, and at which step.
        kept: what is still there and where.
        remedy: one thing to do next.
    """

    def __init__(self, problem: str, *, kept: str, remedy: str) -> None:
        self.problem, self.kept, self.remedy = problem, kept, remedy
        super().__init__(printable(f"{problem}; {kept}; {remedy}"))

    def __reduce__(self) -> tuple:
        """Survive the way back from a worker process."""
        return _rebuild, (type(self), str(self), vars(self))


class NotInstalled(BadInput):
    """An optional package is missing; the message names the extra that installs it."""


class Unreachable(RunFailed):
    """Something outside this machine could not be asked (no network, a hub that is down); nothing is wrong here."""


class DiskFull(RunFailed):
    """A file could not be written because the disk is full: other runs that write there fail too."""


def cause_of(error: BaseException) -> str:
    """What a foreign exception says in its first line, to be quoted in brackets."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk or a quota is full."""
    while error is not None:
        if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in DISK_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch had too little memory, on a processor or an accelerator."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def _rebuild(kind: type[Exception], message: str, parts: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, message)
    vars(error).update(parts)
    return error
