"""Columns of numbers and categories as codes: small whole numbers of which pairs can be counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from joma.errors import BadInput
from joma.tables.columns import Column, Table

Codes = Int[np.ndarray, "rows columns"]
"""For each value its code, −1 where it is missing."""

MOST_BINS, FEWEST_PER_CELL = 8, 5

BEYOND = 0.5
"""How far beyond the range a number is new, as a share of the range: somewhat further out belongs to the last bin."""


@dataclass(frozen=True)
class ColumnCoding:
    """The code of every value of a column.

    Args:
        name: of the column.
        categories: the code of each is its place; empty for numbers.
        cuts: where the bins of numbers meet, increasing; a number at a cut belongs above it.
        low, high: the smallest and largest number that was there; numbers ``BEYOND`` of their distance further out have
            the last code.
        spans: the smallest and the largest number that was there in each bin; empty for categories.
    """

    name: str
    categories: tuple[str, ...]
    cuts: np.ndarray
    low: float
    high: float
    spans: tuple[tuple[float, float], ...] = ()

    @property
    def size(self) -> int:
        """The number of codes; the last one is for values that were not there: beyond the range, other categories."""
        return (len(self.categories) or len(self.cuts) + 1) + 1

    def codes(self, column: Column) -> np.ndarray:
        """Return the codes of a column, −1 where it is missing."""
        values, unseen = column.values, self.size - 1
        if self.categories:
            place = {text: code for code, text in enumerate(self.categories)}
            of_category = np.array([place.get(text, unseen) for text in column.categories] or [unseen])
            found = of_category[np.nan_to_num(values).astype(int)]
            return np.where(np.isnan(values), -1, found)
        margin = BEYOND * (self.high - self.low)
        above = np.nextafter(self.high + margin, np.inf)
        num_above = np.zeros(len(values), dtype=np.int16)  # ends of bins above each value; counted faster than searched
        for end in (self.low - margin, *self.cuts, above, np.inf):
            num_above += values < end
        return np.array([-1, unseen, *reversed(range(unseen)), unseen]).take(num_above)  # no end is above NaN

    def text(self, code: int) -> str:
        """Return the values of a code in words."""
        if code == self.size - 1:
            return "a value that was not there"
        if self.categories:
            return self.categories[code]
        first, last = (f"{end:.4g}" for end in self.spans[code])
        return first if first == last else f"{first} to {last}"


@dataclass(frozen=True)
class Coding:
    """The coding of every column of a table."""

    columns: tuple[ColumnCoding, ...]

    @property
    def sizes(self) -> np.ndarray:
        """The number of codes of each column."""
        return np.array([column.size for column in self.columns])

    def codes(self, table: Table) -> Codes:
        """Return the codes of a table with the same columns, in any order; others are ignored.

        Raises:
            BadInput: a column is missing, or holds categories in one table and numbers in the other.
        """
        given = {column.name: column for column in table.columns}
        for coding in self.columns:
            column = given.get(coding.name)
            if column is None or bool(column.categories) != bool(coding.categories):
                kind = "categories" if coding.categories else "numbers"
                raise BadInput(
                    f"the table has no column {coding.name!r} of {kind}" + _reason(table, coding.name),
                    expected="the columns that the tree was learned on",
                    remedy="give both tables the same columns, or learn on this one",
                )
        return np.stack([coding.codes(given[coding.name]) for coding in self.columns]).T  # each column in one piece


def starts_of(sizes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the number of each column's first code if the codes of all columns are numbered one after the other."""
    return np.cumsum(sizes) - sizes


def coding_of(table: Table, num_bins: int | None = None) -> Coding:
    """Return the coding of a table: categories as they are, numbers in bins that hold about equally many rows.

    Args:
        table: of which the bins are taken.
        num_bins: of numbers with as many different values; by default at most ``MOST_BINS``, and so few that a cell of
            two columns holds ``FEWEST_PER_CELL`` rows on average.
    """
    fitting = int(math.sqrt(table.num_rows / FEWEST_PER_CELL))
    num = min(max(fitting, 2), MOST_BINS) if num_bins is None else num_bins
    return Coding(tuple(_coding(column, num) for column in table.columns))


def _coding(column: Column, num_bins: int) -> ColumnCoding:
    if column.categories:
        return ColumnCoding(column.name, column.categories, np.empty(0), 0.0, 0.0)
    present = column.values[~np.isnan(column.values)]
    if not len(present):  # of a part of a table: one bin for any number
        return ColumnCoding(column.name, (), np.empty(0), -np.inf, np.inf, ((-np.inf, np.inf),))
    low, high = float(present.min()), float(present.max())
    different = np.unique(present)
    if len(different) <= num_bins:
        cuts = different[1:]
    else:
        cuts = np.unique(np.quantile(present, np.linspace(0, 1, num_bins + 1)[1:-1], method="higher"))
        cuts = cuts[cuts > low] if bool((cuts > low).any()) else different[1:2]
    bins = np.searchsorted(cuts, present, side="right")
    spans = tuple(
        (float(part.min()), float(part.max())) for part in (present[bins == at] for at in range(len(cuts) + 1))
    )
    return ColumnCoding(column.name, (), cuts, low, high, spans)


def _reason(table: Table, name: str) -> str:
    return f": it {table.left_out[name]}" if name in table.left_out else ""
