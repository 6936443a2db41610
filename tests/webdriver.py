"""Firefox and WebKit by their own remote control, which takes no package: the commands of the WebDriver standard."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

KEYS = {"Home": "\ue011", "End": "\ue010", "ArrowUp": "\ue013", "ArrowDown": "\ue015"}
START_SECONDS = 60


class Session:
    """A window of a browser.

    Args:
        send: executes a command by its name in Firefox's Marionette, its path in WebDriver, and parameters.
    """

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send

    def open(self, address: str) -> None:
        self._send("Navigate", "url", url=address)

    def reload(self) -> None:
        """Reload as a reader does; Firefox's command for it forgets what forms hold."""
        self.evaluate("document.documentElement.setAttribute('data-old', 'yes') ?? setTimeout(() => location.reload())")
        _until(self._is_new)

    def _is_new(self) -> None:
        """Raise ``OSError`` until the page is loaded again; between the two there is none to ask."""
        if not self.evaluate("document.readyState === 'complete' && !document.documentElement.dataset.old"):
            raise OSError("the page is that of before")

    def evaluate(self, expression: str) -> Any:
        return self._send("ExecuteScript", "execute/sync", script=f"return {expression}", args=[])

    def wait_until(self, expression: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"not true in {seconds} s: {expression}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        value = KEYS.get(key, key)
        self._act("key", {"type": "keyDown", "value": value}, {"type": "keyUp", "value": value})

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y)} for x, y in (start, end)]
        down, up = ({"type": f"pointer{way}", "button": 0} for way in ("Down", "Up"))
        self._act("pointer", moves[0], down, moves[1], up)

    def click(self, selector: str) -> None:
        place = self.middle(selector)
        self.drag(place, place)

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll to the first element of a selector and return its middle."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{found}.scrollIntoView({{ block: 'center', behavior: 'instant' }})")
        box = self.evaluate(f"{found}.getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def _act(self, kind: str, *actions: dict[str, Any]) -> None:
        self._send("PerformActions", "actions", actions=[{"type": kind, "id": kind, "actions": list(actions)}])


@contextmanager
def firefox(folder: Path) -> Iterator[Session]:
    """Start Firefox with a profile in an empty folder; skip the test where there is none."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("no Firefox on this machine")
    (folder / "user.js").write_text('user_pref("marionette.port", 0);')
    with ExitStack() as stack:
        stack.enter_context(_running(executable, "--headless", "--marionette", "--no-remote", "--profile", str(folder)))
        port = int(_until(lambda: (folder / "MarionetteActivePort").read_text()))
        connection = stack.enter_context(_until(lambda: socket.create_connection(("127.0.0.1", port), timeout=60)))
        stream = stack.enter_context(connection.makefile("rb"))

        def received() -> Any:
            length = b"".join(iter(lambda: stream.read(1), b":"))
            return json.loads(stream.read(int(length)))

        def send(name: str, path: str = "", **parameters: Any) -> Any:
            message = json.dumps([0, 1, f"WebDriver:{name}", parameters]).encode()
            connection.sendall(b"%d:%s" % (len(message), message))
            _, _, error, result = received()
            if error is not None:
                raise OSError(error["message"])
            return result.get("value")

        received()  # what it is
        send("NewSession")
        send("SetWindowRect", width=1280, height=900)
        yield Session(send)


@contextmanager
def webkit(folder: Path) -> Iterator[Session]:
    """Start WebKitGTK's own small browser on a screen of its own; skip the test where there is none."""
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    browser = next(Path("/usr").glob("lib*/**/webkit2gtk-4*/MiniBrowser"), None)
    if driver is None or browser is None:
        pytest.skip("no WebKit with WebDriver on this machine")
    if screen is None:
        pytest.skip("no Xvfb on this machine, which WebKit needs")
    with ExitStack() as stack:
        numbers = folder / "screen"
        with numbers.open("w") as file:
            arguments = ("-displayfd", str(file.fileno()), "-screen", "0", "1400x1000x24")
            stack.enter_context(_running(screen, *arguments, pass_fds=(file.fileno(),)))
        display = _until(lambda: int(numbers.read_text()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        stack.enter_context(_running(driver, f"--port={port}", env=os.environ | {"DISPLAY": f":{display}"}))
        _until(lambda: socket.create_connection(("127.0.0.1", port))).close()

        def request(method: str, path: str, parameters: dict[str, Any] | None) -> Any:
            data = None if parameters is None else json.dumps(parameters).encode()
            address = f"http://127.0.0.1:{port}/session{path}"
            with urllib.request.urlopen(urllib.request.Request(address, data, method=method), timeout=60) as answer:
                return json.load(answer)["value"]

        options = {"binary": str(browser), "args": ["--automation"]}
        made = request("POST", "", {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}})
        session = f"/{made['sessionId']}"
        stack.callback(request, "DELETE", session, None)
        request("POST", f"{session}/window/rect", {"x": 0, "y": 0, "width": 1280, "height": 960})
        yield Session(lambda name, path, **parameters: request("POST", f"{session}/{path}", parameters))


@contextmanager
def _running(*command: str, **options: Any) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _until(attempt: Callable[[], Any]) -> Any:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return attempt()
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
