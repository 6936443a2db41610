"""The results of a scan on disk: one line per finished step, appended as they come, each with its checksum.

The first line holds the settings of the scan, each other one a step (``joma.journal``). An altered line is left out,
and its step is measured again. Of several lines for one step the last counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.journal import append_line, columns_of, line_of, lines_of, rows_of
from joma.records import Row

FILE = "scan.jsonl"


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


def probes_of(results: Iterable[StepResult]) -> dict[int, tuple[Row, ...]]:
    """The numbers of steps, by step."""
    return {result.step: result.rows for result in results}


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
        lines = list(lines_of(self.path))
        bodies = [line.body for line in lines if line.body is not None]
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
                rows, notes = rows_of(body.pop("rows")), tuple(body.pop("notes"))
                self.results[body["step"]] = StepResult(**body, rows=rows, notes=notes)
        folder.mkdir(parents=True, exist_ok=True)
        if kept is None:
            self.path.write_bytes(line_of({"settings": dict(settings)}))
        elif lines[-1].end < self.path.stat().st_size:  # a last line was cut short by a kill
            os.truncate(self.path, lines[-1].end)

    def append(self, result: StepResult) -> None:
        """Keep a result; handed to the operating system at once, so that it survives the end of this process."""
        append_line(self.path, line_of(asdict(replace(result, rows=())) | {"rows": columns_of(result.rows)}))
        self.results[result.step] = result


def _brief(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
