"""The measurements of a run, one JSON line per probe, appended and flushed as they are taken.

    {"step": 100, "rows": [[0, 0, "attention_entropy_nats", 2.31], …], "crc32": 2774253791}

A line counts only if it is whole: what a killed process left of one, or a disk has altered, is told apart from
what was measured.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joma.train.probes import Row


@dataclass(frozen=True)
class Journal:
    """What stands in a file of measurements.

    Args:
        probes: step and rows of each whole line, up to the first that is not.
        num_bytes: how much of the file they take.
        damage: what is wrong after them; empty where nothing is. A last line cut short is no damage but what a
            killed process leaves behind.
    """

    probes: tuple[tuple[int, tuple[Row, ...]], ...] = ()
    num_bytes: int = 0
    damage: str = ""

    @property
    def last_step(self) -> int:
        """The last step measured; −1 where none was."""
        return self.probes[-1][0] if self.probes else -1


def line_of(step: int, rows: Sequence[Row]) -> str:
    """One probe as a line."""
    body: dict[str, Any] = {"step": step, "rows": [list(row) for row in rows]}
    return json.dumps({**body, "crc32": _checksum(body)}) + "\n"


def append_line(path: Path, line: str) -> None:
    """Append a line and hand it to the operating system, so that it survives the end of this process."""
    with path.open("ab") as file:
        file.write(line.encode())


def read_journal(path: Path, steps: Sequence[int]) -> Journal:
    """Read the whole lines of a file of measurements.

    Args:
        path: the file; one that is not there holds nothing.
        steps: when the run was to be measured, in order: a line of another step is damage.
    """
    content = path.read_bytes() if path.exists() else b""
    probes: list[tuple[int, tuple[Row, ...]]] = []
    num_bytes = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # cut short by a kill
        try:
            data = json.loads(line)
            checksum = data.pop("crc32")
            rows = tuple((layer, head, metric, value) for layer, head, metric, value in data["rows"])
            whole = checksum == _checksum(data) and len(probes) < len(steps) and data["step"] == steps[len(probes)]
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            return Journal(tuple(probes), num_bytes, f"line {number} of {path} is damaged")
        probes.append((data["step"], rows))
        num_bytes += len(line)
    return Journal(tuple(probes), num_bytes)


def _checksum(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())
