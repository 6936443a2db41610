"""Tidy tables of measurements, with the same columns and types from every source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from joma.files import replacing
from joma.records import Measurement

if TYPE_CHECKING:
    import pandas

CONFIGURATION = {
    "learning_rate": "float64",
    "num_layers": "Int64",
    "width": "Int64",
    "batch_size": "Int64",
    "num_steps": "Int64",
    "num_epochs": "float64",
    "seed": "Int64",
}
"""Columns with the settings of a run, the same in all its rows, with their pandas types."""

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
    "status": "string",
    **CONFIGURATION,
}
"""Every column with its pandas type; layers and heads are integers or null."""

OPTIONAL = ("group", "reason", "suspect", "status", *CONFIGURATION)
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


def read_frame(path: Path, most_rows: int) -> tuple[pandas.DataFrame, int]:
    """Read a Parquet table; of one with more rows, all rows of as many steps as that allows.

    Args:
        path: the file.
        most_rows: to read, about.

    Returns:
        The table as it is stored, and the number of steps that were left out.

    Raises:
        OSError, ValueError: no such file, or no Parquet file.
    """
    import pandas
    import pyarrow
    from pyarrow import parquet
    from pyarrow.compute import field

    with parquet.ParquetFile(path) as file:
        num_rows = file.metadata.num_rows
        if num_rows <= most_rows or "step" not in file.schema_arrow.names:
            return pandas.read_parquet(path), 0
        groups = range(file.num_row_groups)
        of_groups = [file.read_row_group(at, columns=["step"])["step"].unique().to_numpy() for at in groups]
        steps = np.unique(np.concatenate(of_groups))
        chosen = steps[early_and_even(len(steps), len(steps) * most_rows // num_rows)]
        wanted = [at for at, found in zip(groups, of_groups, strict=True) if np.isin(found, chosen).any()]
        is_chosen = field("step").isin(chosen)
        kept = [file.read_row_group(at).filter(is_chosen) for at in wanted]
    return pyarrow.concat_tables(kept).to_pandas(), len(steps) - len(chosen)


def early_and_even(num: int, most: int) -> np.ndarray:
    """Return up to ``most`` (at least 2) of the indices 0 to ``num`` − 1, ascending, with the first and the last.

    Half of them are spread evenly and half on a logarithmic axis, as most happens early in training.
    """
    if num <= most:
        return np.arange(num)
    half = max(most // 2, 2)
    places = [np.linspace(0, num - 1, half), np.geomspace(1, num, half) - 1]
    return np.unique(np.concatenate(places).round().astype(int))
