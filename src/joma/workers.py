"""How worker processes behave: they leave Ctrl-C to their parent, and do not outlive it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def deaf_to_interrupts() -> Generator[None]:
    """Processes started here ignore Ctrl-C from birth, so that none dies of it while it is still importing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def obey_parent() -> None:
    """Make this worker ignore Ctrl-C, which the parent hears and tells, and end when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed leaves its workers behind, and a pool would wait for more work for good."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
