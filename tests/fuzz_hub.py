"""Answers of a hub that are not what was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub.constants
import hypothesis.strategies as st
from hub_server import LocalHub, _Answer, local_hub

from fuzz_arguments import Case
from fuzz_kinds import made, mutations, read_everything
from joma.saved import hub

Change = Callable[[HTTPStatus, bytes, dict[str, str]], tuple[HTTPStatus, bytes, dict[str, str]]]

CHANGES: dict[str, Change] = {
    "whole": lambda _, body, head: (HTTPStatus.OK, body, head),
    "empty": lambda status, _, head: (status, b"", head),
    "half": lambda status, body, head: (status, body[: len(body) // 2], head),
    "twice": lambda status, body, head: (status, 2 * body, head),
    "a megabyte": lambda status, body, head: (status, body + bytes(2**20), head),
    "another range": lambda status, body, head: (status, body[::-1], head | {"Content-Range": "bytes 0-0/1"}),
    "no range": lambda status, body, head: (status, body, {k: v for k, v in head.items() if k != "Content-Range"}),
    "huge sizes": lambda status, body, head: (status, body.replace(b'"size": ', b'"size": 9999999'), head),
    "null": lambda status, _, head: (status, b"null", head),
    "a list": lambda status, _, head: (status, b"[[]]", head),
    "deep": lambda status, _, head: (status, b"[" * 50_000, head),
    "a page": lambda _, __, head: (HTTPStatus.OK, b"<html>sign in</html>", head | {"Content-Type": "text/html"}),
    "gone": lambda _, body, head: (HTTPStatus.GONE, body, head),
    "overloaded": lambda _, body, head: (HTTPStatus.SERVICE_UNAVAILABLE, body, head),
    "moved": lambda _, body, head: (HTTPStatus.FOUND, body, head | {"Location": "/nowhere"}),
    "odd words": lambda status, body, head: (status, body.replace(b"step1", b"step\\u202e1"), head),
}


class _Spoilt(_Answer):
    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        part, change = self.server.spoilt  # ty: ignore[unresolved-attribute]
        if part in self.path:
            status, body, headers = change(status, body, headers)
        super()._send(status, body, headers)


@contextmanager
def spoilt_hub(part: str, change: Change) -> Iterator[LocalHub]:
    """Serve a series; answers to requests for paths with ``part`` are changed."""
    folder = _served()
    with ExitStack() as stack:
        server = stack.enter_context(local_hub(folder))
        server.RequestHandlerClass = _Spoilt
        server.spoilt = part, change  # ty: ignore[unresolved-attribute]
        constants = huggingface_hub.constants
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for place, name, value in (
            (constants, "ENDPOINT", server.endpoint),
            (constants, "HUGGINGFACE_CO_URL_TEMPLATE", template),
            (constants, "HF_HUB_OFFLINE", False),
            (hub, "WAITS_S", (0.01,) * 2),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        yield server


@cache
def _served() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="joma-fuzz-"))
    for branch in ("tiny", "tiny@step1"):
        target = folder / "models" / "someone" / branch
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(made("safetensors") / "step1")
    return folder


@st.composite
def answers(draw: Any) -> Case:
    """Draw which answers of a hub are wrong, and how."""
    part = draw(st.sampled_from(["refs", "revision", "config.json", "model.safetensors"]))
    how = draw(st.sampled_from([*CHANGES, "bytes", "bytes"]))
    change = CHANGES.get(how)
    if change is None:
        spoilt = draw(mutations(b'{"tags": [], "branches": [{"name": "step1", "ref": "refs/heads/step1"}], "size": 1}'))
        change = lambda status, _, head: (status, spoilt, head)  # noqa: E731

    def run() -> None:
        with spoilt_hub(part, change):
            read_everything("someone/tiny")

    return Case(f"hub: {part}", how, run)
