"""Files of measurements in progress: one JSON line per result, with a checksum.

    {"step": 100, "rows": {"layer": [0, …], "metric": ["attention_entropy_nats", …], "value": [2.31, …]}, "crc32": …}

Lines are appended and flushed. A line is read only if it is complete and its checksum is right, so that neither a
killed process nor a damaged disk can produce a wrong measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from joma.records import Row
from joma.serialization import decoded, sealed, shaped, unsealed

_TYPES = {name: set(get_args(kind)) or {kind} for name, kind in get_type_hints(Row).items()} | {"value": {float, int}}
"""The types of each column of rows."""


class Line(NamedTuple):
    """A line of a journal.

    Args:
        body: the content; ``None`` if the line is damaged.
        end: bytes of the file up to the end of this line.
    """

    body: dict[str, Any] | None
    end: int


def line_of(body: Mapping[str, Any]) -> bytes:
    """Encode a result as a line; NaN and infinity raise ``ValueError``, because JSON has neither."""
    return json.dumps(sealed(body)).encode() + b"\n"


def append_line(path: Path, line: bytes) -> None:
    """Append a line and pass it to the operating system, so that it is kept if this process is killed."""
    with path.open("ab") as file:
        file.write(line)


def lines_of(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, also damaged ones, but not an incomplete last one; a missing file has none."""
    end = 0
    for line in (path.read_bytes() if path.exists() else b"").splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        try:
            body = unsealed(decoded(line))
        except ValueError:
            body = None
        yield Line(body, end)


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Convert rows to columns, without columns that are empty."""
    columns = dict(zip(Row._fields, map(list, zip(*rows, strict=True)), strict=False))
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def rows_of(columns: Any) -> tuple[Row, ...]:
    """Rebuild the rows from ``columns_of``; raise ``ValueError`` for other data."""
    given = shaped(columns, dict[str, list])
    if unknown := set(given) - set(Row._fields):
        raise ValueError(f"unknown columns {', '.join(sorted(unknown))}")
    num = max(map(len, given.values()), default=0)
    complete = {name: given.get(name, [None] * num) for name in Row._fields}
    for name, values in complete.items():
        if not set(map(type, values)) <= _TYPES[name]:
            raise ValueError(f"column {name} holds other types")
    shaped(complete["value"], list[float])  # which are finite
    return tuple(map(Row._make, zip(*complete.values(), strict=True)))


@dataclass(frozen=True)
class Journal:
    """The probes of one network in a file.

    Args:
        probes: step and rows of each line, up to the first damaged one.
        num_bytes: size of these lines.
        damage: the problem with the next line; empty if there is none. An incomplete last line, as a killed process
            leaves it, is not damage.
    """

    probes: tuple[tuple[int, tuple[Row, ...]], ...] = ()
    num_bytes: int = 0
    damage: str = ""

    @property
    def last_step(self) -> int:
        """The last step measured; −1 if there is none."""
        return self.probes[-1][0] if self.probes else -1


class _Probe(NamedTuple):
    """A line of a journal of probes; ``rows`` as ``columns_of`` returns them."""

    step: int
    rows: dict[str, Any]


def probe_line(step: int, rows: Sequence[Row]) -> bytes:
    """Encode one probe as a line."""
    return line_of({"step": step, "rows": columns_of(rows)})


def read_journal(path: Path, steps: Sequence[int] | None = None) -> Journal:
    """Read the probes in a file of measurements.

    Args:
        path: the file; a missing file has no probes.
        steps: the planned steps, in order; a line of another step is damage. ``None`` if they are not known: then steps
            only have to increase.
    """
    probes: list[tuple[int, tuple[Row, ...]]] = []
    num_bytes = 0
    for number, line in enumerate(lines_of(path), start=1):
        probe = _probe(line.body)
        if probe is None or not _may_follow(probe[0], probes, steps):
            return Journal(tuple(probes), num_bytes, f"line {number} of {path} is damaged")
        probes.append(probe)
        num_bytes = line.end
    return Journal(tuple(probes), num_bytes)


def _probe(body: dict[str, Any] | None) -> tuple[int, tuple[Row, ...]] | None:
    """The step and rows of a line, or ``None`` for other content."""
    try:
        probe = shaped(body, _Probe)
        return probe.step, rows_of(probe.rows)
    except ValueError:
        return None


def _may_follow(step: int, probes: Sequence[tuple[int, Any]], steps: Sequence[int] | None) -> bool:
    if steps is None:
        return not probes or step > probes[-1][0]
    return len(probes) < len(steps) and step == steps[len(probes)]
