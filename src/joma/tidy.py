"""The one table of measurements: tidy, with the same columns and types wherever it comes from."""

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
"""Every column with its pandas type. Layers and heads are integers or null."""

OPTIONAL = ("group", "reason", "suspect")
"""Columns that are left out where they would be empty."""


def frame_of(measurements: Iterable[Measurement]) -> pandas.DataFrame:
    """Put measurements into a table, one row per number.

    Args:
        measurements: the rows.

    Returns:
        Columns ``run``, ``step``, ``layer``, ``head``, ``projection``, ``metric``, ``value``, and ``group`` where some
        row has one, typed as in ``TYPES``.
    """
    import pandas

    columns = list(Measurement._fields)
    frame = pandas.DataFrame.from_records(list(measurements), columns=columns)
    return typed(frame)


def typed(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The same table with the types of ``TYPES``, its columns in that order, without optional ones that are empty."""
    kept = [name for name in TYPES if name in frame and (name not in OPTIONAL or bool(frame[name].notna().any()))]
    return frame[kept].astype({name: TYPES[name] for name in kept})


def write_frame(frame: pandas.DataFrame, path: Path) -> Path:
    """Write a table as Parquet, whole or not at all; ``pandas.read_parquet`` gives back the same types.

    Raises:
        OSError: the file cannot be written; what stood there before is unchanged.
    """
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")
    return path
