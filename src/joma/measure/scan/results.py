"""The results of a scan on disk: one line with a checksum per finished step.

The first line holds the settings of the scan, each other line one step (``joma.journal``). A damaged line is removed
with a warning, so that its step is measured again; without the first line no result can be used, and the file is
refused. If a step has several lines, the last one counts.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.files import replacing
from joma.journal import Line, append_line, columns_of, line_of, lines_of, rows_of
from joma.records import Row
from joma.serialization import shaped

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


class ScanStore:
    """The file of results of one scan.

    Args:
        folder: its folder; created if necessary.
        settings: the settings that results depend on, without the steps.

    Raises:
        BadInput: the folder holds a scan with other settings, or one whose settings are damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.results: dict[int, StepResult] = {}
        wanted = json.loads(json.dumps(settings))
        if self.path.exists() and self.path.stat().st_size:
            self._read(wanted)
        else:
            with replacing(self.path) as temporary:
                temporary.write_bytes(line_of({"settings": wanted}))

    def _read(self, wanted: Mapping[str, Any]) -> None:
        first, *others = [*lines_of(self.path)] or [Line(None, 0)]
        kept = (first.body or {}).get("settings")
        if not isinstance(kept, dict):
            raise BadInput(
                f"line 1 of {self.path} is damaged, so that the settings of its {len(others)} results are not known",
                expected="the settings of the scan",
                remedy="choose another `out`, or remove this file to measure every step again",
            )
        if kept != wanted:
            other = next(name for name in wanted | kept if name not in kept or wanted.get(name, kept) != kept[name])
            raise BadInput(
                f"{self.path.parent} holds another scan "
                f"({other}: {_brief(kept.get(other))}, not {_brief(wanted.get(other))})",
                expected="a separate folder for each scan",
                remedy="choose another `out`, or remove this folder",
            )
        whole, damaged = [line_of({"settings": kept})], []
        for number, line in enumerate(others, start=2):
            try:
                body = shaped(line.body, dict[str, Any])
                result = _result_of(body)
            except ValueError:
                damaged.append(str(number))
            else:
                self.results[result.step] = result
                whole.append(line_of(body))
        if damaged:
            what = f"line{'s' * (len(damaged) > 1)} {', '.join(damaged)} of {self.path}"
            warnings.warn(f"{what}: damaged and removed; the steps are measured again", stacklevel=3)
            with replacing(self.path) as temporary:
                temporary.write_bytes(b"".join(whole))
        elif (end := (others or [first])[-1].end) < self.path.stat().st_size:  # the scan was killed within a line
            os.truncate(self.path, end)

    def append(self, result: StepResult) -> None:
        """Append a result to the file at once, so that it survives a crash of this process."""
        append_line(self.path, line_of(asdict(replace(result, rows=())) | {"rows": columns_of(result.rows)}))
        self.results[result.step] = result


def _result_of(body: dict[str, Any]) -> StepResult:
    """The result in a line; raise ``ValueError`` for other content."""
    return replace(shaped(body | {"rows": ()}, StepResult), rows=rows_of(body.get("rows")))


def _brief(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
