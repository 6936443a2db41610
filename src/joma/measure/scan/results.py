"""The results of a scan on disk: one line with a checksum per finished step.

The first line holds the settings of the scan, each other line one step (``joma.journal``). A damaged line is ignored,
so that its step is measured again. If a step has several lines, the last one counts.
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
    """The result of one step.

    Args:
        step: its number.
        rows: its measurements; empty if it failed.
        fingerprint: of its weights; a step whose weights were replaced is measured again.
        seconds: duration of the measurement.
        bytes_read, bytes_stored: bytes read of its files, and their size.
        reason, remedy: why it failed and what to do; empty if it did not fail.
        notes: remarks on the measurements, such as what was left out.
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
        """Whether the step was measured."""
        return not self.reason


def probes_of(results: Iterable[StepResult]) -> dict[int, tuple[Row, ...]]:
    """Return the measurements by step."""
    return {result.step: result.rows for result in results}


def read_results(folder: Path) -> tuple[StepResult, ...]:
    """Return the results in the file of a scan, finished or not, by step; damaged lines are left out."""
    bodies = (line.body for line in lines_of(folder / FILE))
    found = {
        result.step: result for body in bodies if body is not None and "step" in body for result in [_result(body)]
    }
    return tuple(found[step] for step in sorted(found))


def _result(body: dict[str, Any]) -> StepResult:
    rows, notes = rows_of(body.pop("rows")), tuple(body.pop("notes"))
    return StepResult(**body, rows=rows, notes=notes)


class ScanStore:
    """The file of results of one scan.

    Args:
        folder: its folder; created if necessary.
        settings: the settings that results depend on, without the steps.

    Raises:
        BadInput: the folder holds a scan with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.results: dict[int, StepResult] = {}
        lines = list(lines_of(self.path))
        bodies = [line.body for line in lines if line.body is not None]
        kept = next((body["settings"] for body in bodies if "settings" in body), None)
        if kept is not None and kept != (wanted := json.loads(json.dumps(settings))):
            other = next(name for name in wanted | kept if wanted.get(name) != kept.get(name))
            raise BadInput(
                f"{folder} holds another scan ({other}: {_brief(kept.get(other))}, not {_brief(wanted.get(other))})",
                expected="a separate folder for each scan",
                remedy="choose another `out`, or remove this folder",
            )
        for body in bodies if kept is not None else []:
            if "settings" not in body:
                self.results[body["step"]] = _result(body)
        folder.mkdir(parents=True, exist_ok=True)
        if kept is None:
            self.path.write_bytes(line_of({"settings": dict(settings)}))
        elif lines[-1].end < self.path.stat().st_size:  # the last line is incomplete: the scan was killed
            os.truncate(self.path, lines[-1].end)

    def append(self, result: StepResult) -> None:
        """Append a result to the file at once, so that it survives a crash of this process."""
        append_line(self.path, line_of(asdict(replace(result, rows=())) | {"rows": columns_of(result.rows)}))
        self.results[result.step] = result


def _brief(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
