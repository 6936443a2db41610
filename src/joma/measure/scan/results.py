"""The results of a scan on disk: one line per finished step, appended as they come, each with its checksum.

    {"settings": {...}, "crc32": ...}
    {"step": 100, "rows": {"layer": [0, …], …, "value": [2.31, …]}, …, "crc32": 2774253791}

A line counts only if it is whole and unaltered: any other one is left out, and its step is measured again. Of
several lines for one step the last counts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from joma.errors import BadInput

FILE = "scan.jsonl"


class Row(NamedTuple):
    """One number.

    Args:
        layer, head: 0-based; ``None`` where the measure has none.
        projection: of which it was read, ``None`` for attention and loss.
        group: of probe sequences, ``None`` for weights.
        measure: its name.
        value: finite.
    """

    layer: int | None
    head: int | None
    projection: str | None
    group: int | None
    measure: str
    value: float


@dataclass(frozen=True)
class StepResult:
    """What became of one step.

    Args:
        step: which.
        rows: its numbers; none where it failed.
        fingerprint: of its weights, so that a step that was replaced is measured again.
        seconds: how long it took.
        bytes_read, bytes_stored: how much of its files was read, and how large they are.
        reason, remedy: why it failed and what to do; empty where it did not.
        notes: what a reader must know of the numbers.
    """

    step: int
    rows: tuple[Row, ...]
    fingerprint: str
    seconds: float
    bytes_read: int
    bytes_stored: int
    reason: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are numbers."""
        return not self.reason


class ScanStore:
    """The file of results of one scan.

    Args:
        folder: where it is; made if need be.
        settings: what the numbers depend on beside the steps themselves.

    Raises:
        BadInput: the folder holds a scan with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.results: dict[int, StepResult] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a last line may have been cut short by a kill
        bodies = [body for line in whole.splitlines() if (body := _body(line)) is not None]
        kept = next((body["settings"] for body in bodies if "settings" in body), None)
        if kept is not None and kept != (asked := json.loads(json.dumps(settings))):
            other = next(name for name in asked | kept if asked.get(name) != kept.get(name))
            raise BadInput(
                f"{folder} holds another scan ({other}: {_brief(kept.get(other))}, not {_brief(asked.get(other))})",
                expected="a folder of its own for each scan",
                remedy="give another --out, or remove that one",
            )
        for body in bodies if kept is not None else []:
            if "settings" not in body:
                result = _result(body)
                self.results[result.step] = result
        folder.mkdir(parents=True, exist_ok=True)
        if kept is None:
            self.path.write_bytes(_line({"settings": dict(settings)}))
        elif len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def append(self, result: StepResult) -> None:
        """Keep a result; handed to the operating system at once, so that it survives the end of this process."""
        columns = {name: [getattr(row, name) for row in result.rows] for name in Row._fields}
        with self.path.open("ab") as file:
            file.write(_line(asdict(replace(result, rows=())) | {"rows": columns}))
        self.results[result.step] = result


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps({**body, "crc32": _checksum(body)}, allow_nan=False).encode() + b"\n"


def _checksum(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())


def _body(line: bytes) -> dict[str, Any] | None:
    """What a line holds, or ``None`` where it was altered."""
    try:
        body = json.loads(line)
        return body if isinstance(body, dict) and body.pop("crc32", None) == _checksum(body) else None
    except ValueError:
        return None


def _result(body: dict[str, Any]) -> StepResult:
    columns = body.pop("rows")
    rows = tuple(map(Row._make, zip(*(columns[name] for name in Row._fields), strict=True)))
    notes = tuple(body.pop("notes"))
    return StepResult(**body, rows=rows, notes=notes)


def _brief(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
