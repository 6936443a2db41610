"""A hub on the loopback interface, for the real clients: it serves repositories that lie in a folder.

Only what a client asks to download is answered: what a repository holds, and its files, whole or in part.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_REVISION = hashlib.sha1(b"the only revision").hexdigest()
_KINDS = ("datasets", "models")
_ABOUT = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class LocalHub(ThreadingHTTPServer):
    """Serves ``<folder>/datasets/<owner>/<name>`` and ``<folder>/models/<owner>/<name>``; remembers the requests."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        """What ``HF_ENDPOINT`` has to be."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def local_hub(folder: Path) -> Iterator[LocalHub]:
    """Run a hub for the length of a block."""
    hub = LocalHub(folder)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LocalHub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self._answer(asked.get("paths", []))

    def log_message(self, format: str, *args: object) -> None:
        self.server.requests.append(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}")

    def _answer(self, paths: list[str] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        if about := _ABOUT.fullmatch(path):
            kind, name, question, _, below = about.groups()
            repository = self.server.folder / kind / name
            if not repository.is_dir():
                self._refuse("RepoNotFound", HTTPStatus.UNAUTHORIZED)
            elif question == "tree" and not (repository / (below or "")).is_dir():
                self._refuse("EntryNotFound")
            elif question in ("tree", "paths-info"):
                folder, wanted = repository / (below or ""), "**/*" if "recursive=true" in self.path.lower() else "*"
                entries = folder.glob(wanted) if paths is None else map(repository.joinpath, paths)
                self._send_json([_entry(entry, repository) for entry in sorted(entries) if entry.exists()])
            else:
                self._send_json(_summary(repository, name))
        elif file := _FILE.fullmatch(path):
            kind, name, _, inside = file.groups()
            repository = self.server.folder / (kind or "models") / name
            if not repository.is_dir():
                self._refuse("RepoNotFound", HTTPStatus.UNAUTHORIZED)
            elif not (repository / inside).is_file():
                self._refuse("EntryNotFound")
            else:
                self._send_file((repository / inside).read_bytes())
        else:
            self._refuse("NotKnownHere")

    def _send_json(self, content: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send_file(self, content: bytes) -> None:
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": _REVISION, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(HTTPStatus.OK, content, headers)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1) + 1
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, content[start:stop], headers)

    def _refuse(self, code: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self._send(status, b'{"error": "not here"}', {"X-Error-Code": code, "X-Error-Message": "not here"})

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _summary(repository: Path, name: str) -> dict[str, object]:
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    return {
        "id": name,
        "sha": _REVISION,
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": path.relative_to(repository).as_posix()} for path in files],
    }


def _entry(path: Path, repository: Path) -> dict[str, object]:
    place = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": place, "oid": _oid(place.encode()), "size": 0}
    content = path.read_bytes()
    return {"type": "file", "path": place, "oid": _oid(content), "size": len(content)}


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
