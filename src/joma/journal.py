"""The measurements of a run: one JSON line per probe while it goes on, one Parquet file when it is done.

    {"step": 100, "rows": [[0, 0, "attention_entropy_nats", 2.31], …], "crc32": 2774253791}

Lines are appended and flushed as probes are taken. A line counts only if it is whole: what a killed process left of
one, or a disk has altered, is told apart from what was measured.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joma.files import replacing
from joma.records import Measurement

Row = tuple[int | None, int | None, str, float]
"""Layer, head, metric, value."""


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


def read_journal(path: Path, steps: Sequence[int] | None = None) -> Journal:
    """Read the whole lines of a file of measurements.

    Args:
        path: the file; one that is not there holds nothing.
        steps: when the run was to be measured, in order: a line of another step is damage. Where nobody knows,
            ``None``: then it is a line of a step that does not come after the one before.
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
            whole = checksum == _checksum(data) and _may_follow(data["step"], probes, steps)
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            return Journal(tuple(probes), num_bytes, f"line {number} of {path} is damaged")
        probes.append((data["step"], rows))
        num_bytes += len(line)
    return Journal(tuple(probes), num_bytes)


def write_metrics(measurements: Iterable[Measurement], path: Path) -> Path:
    """Write ``metrics.parquet``: one row per number, columns run, step, layer, head, metric, value.

    Args:
        measurements: the rows; a layer or head of ``None`` becomes a null.
        path: the file, replaced whole.

    Returns:
        ``path``.

    Raises:
        OSError: the file cannot be written; what stood there before is unchanged.
    """
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            pyarrow.field("run", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), nullable=False),
            pyarrow.field("step", pyarrow.int64(), nullable=False),
            pyarrow.field("layer", pyarrow.int32()),
            pyarrow.field("head", pyarrow.int32()),
            pyarrow.field("metric", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), nullable=False),
            pyarrow.field("value", pyarrow.float64(), nullable=False),
        ]
    )
    rows = list(measurements)
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    table = pyarrow.table(columns, schema=schema)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    return path


def _may_follow(step: int, probes: Sequence[tuple[int, Any]], steps: Sequence[int] | None) -> bool:
    if steps is None:
        return not probes or step > probes[-1][0]
    return len(probes) < len(steps) and step == steps[len(probes)]


def _checksum(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())
