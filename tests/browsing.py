"""A browser for tests, and waiting for its pages."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium, and close it in the end; skip the test where there is none."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser on this machine")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()


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
