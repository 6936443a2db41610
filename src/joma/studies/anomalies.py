"""Rows of a user's table that break its relations: what ``joma tree anomalies`` and ``joma.tree_anomalies`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from joma.charts import Chart, Curve
from joma.domains import check_seed, check_whole
from joma.measure.trees.anomalies import Scores, detector_of, scores_with, scores_within
from joma.measure.trees.learning import FEWEST_ROWS
from joma.progress import Progress, silent
from joma.report.drawing.anomalies import OddRow, Part, write_rows
from joma.report.drawing.words import format_number
from joma.report.trees import tree_picture
from joma.studies.result import Result
from joma.tables.columns import Table, read_like, read_table
from joma.tables.reading import Source

MOST_DRAWN = 40
"""Rows in a picture."""

MOST_POINTS = 2000
"""Points of a curve over rows: all of the first half, which stand out, and of later rows evenly spaced ones."""

NUM_PARTS = 3
"""Columns that are named for each row."""

_BARS = (
    "Bars: surprise of a value given all others in its row, −ln of its probability under a tree of the columns, in "
    "nats. Likely: the values that fit the others best."
)
_NAMES = ("row", "surprise_nats", "share_of_normal")


@dataclass(frozen=True)
class Anomalies(Result):
    """Rows by their surprise: ``frame()`` has all, ``verdicts()`` the columns that made the first ones anomalous.

    Args:
        scores: the surprise of each row, with the trees behind it.
        num_explained: rows whose columns are named.
        normal_surprise: of the rows of the normal table, each under a tree learned on others; ``None`` without one.
    """

    scores: Scores = field(repr=False)
    num_explained: int
    normal_surprise: np.ndarray | None = field(repr=False, default=None)

    @cached_property
    def order(self) -> np.ndarray:
        """The rows, the most surprising first."""
        return np.argsort(-self.scores.surprise, kind="stable")

    def frame(self) -> pandas.DataFrame:
        """Return one row per row of the table, the most anomalous first.

        Columns: row (from 0), surprise_nats (−ln of its probability), share_of_normal (the share of normal rows that
        are at least as surprising, itself included; missing without a normal table), columns (the least fitting ones
        of the first rows).
        """
        surprise = self.scores.surprise[self.order]
        share = np.full(len(surprise), np.nan)
        if self.normal_surprise is not None:
            below = np.searchsorted(np.sort(self.normal_surprise), surprise, side="left")
            share = (1 + len(self.normal_surprise) - below) / (1 + len(self.normal_surprise))
        columns: list[str | None] = [", ".join(part.name for part in parts) for parts in self.explained.values()]
        columns += [None] * (len(surprise) - len(columns))
        data = dict(zip(_NAMES, (self.order, surprise, share), strict=True))
        return pandas.DataFrame(data | {"columns": pandas.array(columns, dtype="string")})

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per column that is named: row, column, value, expected, surprise_nats (given the others)."""
        rows = [
            (row, part.name, part.value, part.expected, part.surprise)
            for row, parts in self.explained.items()
            for part in parts
        ]
        return pandas.DataFrame(rows, columns=pandas.Index(["row", "column", "value", "expected", "surprise_nats"]))

    @cached_property
    def explained(self) -> dict[int, Sequence[Part]]:
        """The least fitting columns of the most anomalous rows, by row."""
        return {int(row): self._parts(int(row)) for row in self.order[: self.num_explained]}

    def pictures(self) -> Sequence[Chart]:
        """Return the surprise of all rows, sorted; ``draw`` draws the rows themselves."""
        surprise = self.scores.surprise[self.order]
        shown = _shown(len(surprise))
        curves = [Curve("rows", (shown + 1.0).tolist(), surprise[shown].tolist())]
        if self.normal_surprise is not None:
            normal, shown = np.sort(self.normal_surprise)[::-1], _shown(len(self.normal_surprise))
            places = np.linspace(1, len(surprise), len(normal))[shown].tolist()
            curves.append(
                Curve("normal rows, spread over the same ranks", places, normal[shown].tolist(), role="control")
            )
        caption = "Rows by surprise: anomalies stand out at the left, if there are some."
        return [Chart("surprise", "Surprise of the rows", caption, "rank", "surprise (nats)", tuple(curves))]

    def summary(self) -> str:
        """Return the most anomalous row in a sentence."""
        first = int(self.order[0])
        text = f"{self.scores.table.num_rows:,} rows; the most surprising is row {first} "
        text += f"({format_number(float(self.scores.surprise[first]), 3)} nats"
        text += f", median {format_number(float(np.median(self.scores.surprise)), 3)})"
        parts = self.explained.get(first)
        return text + (f": {parts[0].name} is {parts[0].value}, likely {parts[0].expected}" if parts else "")

    def to_json(self) -> dict[str, Any]:
        """Return all rows and the explanations of the first ones as plain data."""
        frame = self.frame().drop(columns="columns")
        if self.normal_surprise is None:
            frame = frame.drop(columns="share_of_normal")
        explained = [
            {"row": row, "columns": [vars(part) for part in parts]}
            | {"edges": [{"one": one, "other": other, "nats": nats} for one, other, nats in self._relations(row)]}
            for row, parts in self.explained.items()
        ]
        return {"left_out": dict(self.scores.table.left_out), "rows": frame.to_dict("records"), "explained": explained}

    def draw(self, stem: str | Path) -> tuple[Path, Path]:
        """Draw at most ``MOST_DRAWN`` rows as ``<stem>.svg`` and ``<stem>.png``, and return these paths."""
        return write_rows(self._odd_rows()[:MOST_DRAWN], "The most anomalous rows", _BARS, Path(stem))

    def write(self, folder: str | Path, source: str = "a table") -> Path:
        """Write ``report.html`` and the explorer into a folder, and return the path of the first.

        Args:
            folder: made if it is not there.
            source: where the table comes from, in words.
        """
        from joma.report.pages.anomalies import anomalies_page
        from joma.report.pages.document import write_document
        from joma.studies.explorer import write_explorer

        page = anomalies_page(
            self._odd_rows(),
            _BARS,
            tree_picture(self.scores.tree),
            self.pictures(),
            summary=self.summary(),
            about={
                "Table": source,
                "Columns": str(len(self.scores.table.columns)),
                "Left out": "; ".join(f"{name} {reason}" for name, reason in self.scores.table.left_out.items()),
            },
        )
        write_explorer(folder, {})
        return write_document(page, Path(folder) / "report.html")

    def _odd_rows(self) -> list[OddRow]:
        return [
            OddRow(f"row {row} · {self.scores.surprise[row]:.1f} nats", parts, self._relations(row))
            for row, parts in self.explained.items()
        ]

    def _relations(self, row: int) -> list[tuple[str, str, float]]:
        """The edges that add most to the surprise of a row, those that add 0.0 nats or less left out."""
        found = sorted(self.scores.parts(row)[1].items(), key=lambda item: -item[1])
        return [(one, other, nats) for (one, other), nats in found[:NUM_PARTS] if nats >= 0.05]

    def _parts(self, row: int) -> Sequence[Part]:
        values = {column.name: column.text(row) for column in self.scores.table.columns}
        found = sorted(self.scores.columns(row).items(), key=lambda item: -item[1][0])
        return [Part(name, values[name], nats, expected) for name, (nats, expected) in found[:NUM_PARTS] if expected]


def _shown(num: int) -> np.ndarray:
    """The places of a sorted curve of ``num`` points that are drawn, the last one among them."""
    first = min(num, MOST_POINTS // 2)
    return np.unique(np.append(np.arange(first), np.linspace(first - 1, num - 1, MOST_POINTS // 2 + 1).astype(int)))


def tree_anomalies(
    table: Source | Table,
    *,
    normal: Source | Table | None = None,
    num_explained: int = 10,
    num_bins: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Anomalies:
    """Find the rows of a table that break the relations between its columns, and say which columns do.

    A row's surprise is −ln of its probability under a Chow–Liu tree of the columns, numbers in bins, missing values
    summed over. It finds values that do not go together, however usual each is; of single values only those far beyond
    the range of the rows that the tree was learned on (by half of it), and new categories.

    >>> import numpy as np, pandas, joma
    >>> first = np.random.default_rng(0).normal(size=500)
    >>> table = pandas.DataFrame({"a": first, "b": -first, "c": 2 * first})
    >>> table.loc[7, "b"] = table.loc[7, "a"] = table["a"].max() - 0.5  # as usual as any value, but not together
    >>> found = joma.tree_anomalies(table)
    >>> int(found.frame()["row"][0])
    7
    >>> axes = found.plot()

    Args:
        table: a CSV, TSV, Parquet, .npy or .npz file, a pandas table or an array; numbers and categories, with missing
            values. Columns of dates, free text and constants are left out with a warning.
        normal: a table with the same columns to learn from. Without it each fifth of the table is scored by a tree
            learned on the other rows, without the tenth of them that surprises most.
        num_explained: rows whose columns are named.
        num_bins: of numbers; by default up to 8, fewer in tables of fewer than 320 rows.
        seed: of the fifths.
        progress: called with the number of trees learned.

    Raises:
        BadInput: a table that cannot be read, has too few rows or columns, or other columns than ``normal``.

    Source: docs/anomalies.md.
    """
    check_whole(num_explained, "tree_anomalies", "num_explained", low=0, remedy="pass 10")
    if num_bins is not None:
        check_whole(num_bins, "tree_anomalies", "num_bins", low=2, high=100, remedy="leave it out")
    check_seed(seed, "tree_anomalies")
    settings: dict[str, Any] = {"num_bins": num_bins}
    if normal is None:
        read = read_table(table, least_rows=FEWEST_ROWS)
        return Anomalies(scores_within(read, seed=seed, **settings, progress=progress), num_explained)
    of_normal = read_table(normal, least_rows=FEWEST_ROWS)
    given = table if isinstance(table, Table) else read_like(table, of_normal)
    scored = scores_with(detector_of(of_normal, **settings), given)
    alone = scores_within(of_normal, seed=seed, **settings, progress=progress).surprise
    return Anomalies(scored, num_explained, alone)
