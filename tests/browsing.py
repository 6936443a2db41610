"""Waiting for pages in a browser."""

import time
from typing import Any


def wait_until(tab: Any, expression: str, arg: Any = None, seconds: float = 30) -> None:
    """Evaluate an expression in a page until it is true.

    Playwright's own ``wait_for_function`` evaluates text in the page from its second try on, which joma's pages forbid.
    """
    end = time.monotonic() + seconds
    while not tab.evaluate(expression, arg):
        assert time.monotonic() < end, f"not true in {seconds} s: {expression}"
        tab.wait_for_timeout(50)


def settle(tab: Any) -> None:
    """Wait until the explorer has written everything that is set into its address and has drawn it."""
    wait_until(tab, "location.hash.slice(1) === State.address()")
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
