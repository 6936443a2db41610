"""Tidy tables of measurements, with the same columns and types from every source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from joma.files import replacing
from joma.records import Measurement

if TYPE_CHECKING:
    import pandas

TYPES = {
    "run": "string",
    "step": "int64",
    "layer": "Int32",
    "head": "Int32",
    "projection": "string",
    "metric": "string",
    "value": "float64",
    "group": "string",
    "reason": "string",
    "suspect": "string",
}
"""Every column with its pandas type; layers and heads are integers or null."""

OPTIONAL = ("group", "reason", "suspect")
"""Columns that are left out if they are empty."""


def frame_of(measurements: Iterable[Measurement]) -> pandas.DataFrame:
    """Return a table with one row per measurement and the columns and types of ``TYPES``."""
    import pandas

    return typed(pandas.DataFrame.from_records(list(measurements), columns=list(Measurement._fields)))


def typed(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the table with the types and the order of ``TYPES``, without optional columns that are empty."""
    kept = [name for name in TYPES if name in frame and (name not in OPTIONAL or bool(frame[name].notna().any()))]
    return frame[kept].astype({name: TYPES[name] for name in kept})


def write_frame(frame: pandas.DataFrame, path: Path) -> Path:
    """Write a table as Parquet, atomically; ``pandas.read_parquet`` returns the same types.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")
    return path
