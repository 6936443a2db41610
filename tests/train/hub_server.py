"""A hub on the loopback interface for the real clients, which serves the repositories in a folder.

It supports only downloads: listings of repositories, and files or ranges of them. The main branch of a repository is
the folder ``name``, other branches are folders ``name@branch``. ``Fault`` makes requests fail as those of real hubs do.
"""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_REVISION = hashlib.sha1(b"main").hexdigest()
_LARGE = (".safetensors", ".bin", ".gguf")
_KINDS = ("datasets", "models")
_ABOUT = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(?:/(.*))?)?)?")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Fault:
    """A fault in the next requests of some path.

    Args:
        path: a part of the paths of these requests.
        times: number of requests that fail.
        status: the status of the response; 200 for the real content.
        sent: bytes of the content after which the connection breaks; ``None`` for all.
        body: sent instead of the content.
        headers: sent in addition or instead.
    """

    path: str
    times: int = 1
    status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE
    sent: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class LocalHub(ThreadingHTTPServer):
    """Serves ``<folder>/datasets/<owner>/<name>`` and ``<folder>/models/<owner>/<name>``, and records requests."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.gated: set[str] = set()
        self.connections: set[socket.socket] = set()

    @property
    def endpoint(self) -> str:
        """The value for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self.server_port}"

    def place(self, kind: str, name: str, revision: str | None) -> Path | None:
        """The folder of a revision, by its name or commit; ``None`` if it does not exist."""
        repository = self.folder / kind / name
        places = {"main": repository, _REVISION: repository}
        for branch in repository.parent.glob(f"{repository.name}@*"):
            places |= {_branch(branch): branch, commit_of(branch): branch}
        return places.get(revision or "main")

    def hang_up(self) -> None:
        """Close the connections that clients keep open for later requests."""
        for connection in list(self.connections):
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def fault(self, path: str) -> Fault | None:
        """The fault of this request; ``None`` if it succeeds."""
        for fault in self.faults:
            if fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None


@contextmanager
def local_hub(folder: Path) -> Iterator[LocalHub]:
    """Run a hub during a block."""
    hub = LocalHub(folder)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
        hub.hang_up()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LocalHub
    fault: Fault | None = None

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self._answer(body.get("paths", []))

    def log_message(self, format: str, *args: object) -> None:
        self.server.requests.append(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}")

    def _answer(self, paths: list[str] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        self.fault = self.server.fault(path)
        about, file = _ABOUT.fullmatch(path), _FILE.fullmatch(path)
        if self.fault is not None and self.fault.status != HTTPStatus.OK:
            self._refuse("Overloaded", self.fault.status)
        elif about:
            kind, name, question, revision, below = about.groups()
            self._send_listing(kind, name, question, revision, below or "", paths)
        elif file:
            kind, name, revision, inside = file.groups()
            place = self._place(kind or "models", name, revision)
            if place is not None and (place / inside).is_file():
                self._send_file(place, inside)
            elif place is not None:
                self._refuse("EntryNotFound")
        else:
            self._refuse("NotKnownHere")

    def _place(self, kind: str, name: str, revision: str | None) -> Path | None:
        """The folder of a revision; sends an error and returns ``None`` if it does not exist or is gated."""
        there = self.server.place(kind, name, revision)
        if not (self.server.folder / kind / name).is_dir():
            self._refuse("RepoNotFound", HTTPStatus.UNAUTHORIZED)
        elif name in self.server.gated:
            self._refuse("GatedRepo", HTTPStatus.FORBIDDEN)
        elif there is None:
            self._refuse("RevisionNotFound")
        else:
            return there
        return None

    def _send_listing(
        self, kind: str, name: str, question: str, revision: str, below: str, paths: list[str] | None
    ) -> None:
        place = self._place(kind, name, revision)
        if place is None:
            return
        if question == "refs":
            self._send_json(_refs(self.server.folder / kind / name))
        elif question == "tree" and not (place / below).is_dir():
            self._refuse("EntryNotFound")
        elif question in ("tree", "paths-info"):
            folder, wanted = place / below, "**/*" if "recursive=true" in self.path.lower() else "*"
            entries = folder.glob(wanted) if paths is None else map(place.joinpath, paths)
            self._send_json([_entry(entry, place) for entry in sorted(entries) if entry.exists()])
        else:
            self._send_json(_summary(place, name, with_files="blobs=true" in self.path.lower()))

    def _send_json(self, content: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send_file(self, place: Path, inside: str) -> None:
        content = (place / inside).read_bytes()
        etag = hashlib.sha256(content).hexdigest() if inside.endswith(_LARGE) else _oid(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(place), "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._send(HTTPStatus.OK, content, headers)
            return
        start, stop = int(span[1]), min(int(span[2] or len(content)), len(content) - 1) + 1
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, content[start:stop], headers)

    def _refuse(self, code: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self._send(status, b'{"error": "not here"}', {"X-Error-Code": code, "X-Error-Message": "not here"})

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        if self.fault is not None:
            body = body if self.fault.body is None else self.fault.body
            headers = headers | self.fault.headers
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        sent = None if self.fault is None else self.fault.sent
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
        self.close_connection = self.close_connection or sent is not None


def _refs(repository: Path) -> dict[str, object]:
    places = [repository, *sorted(repository.parent.glob(f"{repository.name}@*"))]
    branches = [
        {"name": _branch(place), "ref": f"refs/heads/{_branch(place)}", "targetCommit": commit_of(place)}
        for place in places
    ]
    return {"branches": branches, "tags": [], "converts": []}


def _branch(place: Path) -> str:
    return place.name.partition("@")[2] or "main"


def commit_of(place: Path) -> str:
    """The commit of the branch in a folder."""
    branch = _branch(place)
    return _REVISION if branch == "main" else hashlib.sha1(branch.encode()).hexdigest()


def _summary(repository: Path, name: str, with_files: bool) -> dict[str, object]:
    files = sorted(path for path in repository.rglob("*") if path.is_file())
    siblings = [{"rfilename": path.relative_to(repository).as_posix()} for path in files]
    if with_files:
        for sibling, path in zip(siblings, files, strict=True):
            entry = _entry(path, repository)
            sibling |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 134}
    return {
        "id": name,
        "sha": commit_of(repository),
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": siblings,
    }


def _entry(path: Path, repository: Path) -> dict[str, Any]:
    place = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": place, "oid": _oid(place.encode()), "size": 0}
    content = path.read_bytes()
    entry = {"type": "file", "path": place, "oid": _oid(content), "size": len(content)}
    if place.endswith(_LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
