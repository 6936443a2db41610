"""Pages that are served on this machine and made again whenever their measurements change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from joma.files import expanded

REFRESH_SECONDS = 10


def newest(paths: Iterable[str | Path]) -> float:
    """Return the time of the last change of a file of measurements in folders; 0 if there is none."""
    files = [
        file
        for path in map(expanded, paths)
        for file in ([path] if path.is_file() else [*path.rglob("*.jsonl"), *path.rglob("*.parquet")])
    ]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def server(pages: Mapping[str, Callable[[], str]], changed: Callable[[], float], port: int = 0) -> ThreadingHTTPServer:
    """Return a server of some pages on the loopback interface; call its ``serve_forever``.

    Args:
        pages: what makes each page, by its path (``/``); a ``ValueError`` is answered with status 503 and its message.
        changed: the time of the last change of what the pages show.
        port: to listen on; 0 for any free one (``server.server_port``).

    Raises:
        OSError: the port is taken, or may not be used.
    """
    lock, made = Lock(), dict[str, tuple[float, bytes]]()  # the newest of each page, with its time of change

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost", ""):
                self.send_error(403)  # another site's name that resolves to this machine
                return
            path = self.path.partition("?")[0]
            if path not in pages:
                self.send_error(404)
                return
            status, body = 200, b""
            with lock:
                at = changed()
                try:
                    if path not in made or made[path][0] != at:
                        made[path] = at, pages[path]().encode(errors="backslashreplace")
                    body = made[path][1]
                except ValueError as error:  # nothing is measured yet, or a file is being written
                    status, body = 503, f"{error}\n".encode()
            self.send_response(status)
            kind = "text/html" if status == 200 else "text/plain"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            if status != 200:
                self.send_header("Refresh", str(REFRESH_SECONDS))
            self.end_headers()
            with suppress(ConnectionError):  # the browser has left
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing for each request."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
