"""Work for processes of tests."""

import os
import signal

from joma.progress import Progress


def square_unless_negative(number: int, progress: Progress) -> int:
    """Square a number; a negative one kills the process."""
    progress("", 0, 1)
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number
