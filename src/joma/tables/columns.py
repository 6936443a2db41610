"""The columns of a user's table: numbers or categories, and why others are left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas

from joma.errors import BadInput
from joma.tables.reading import MOST_CELLS, Source, read_frame

MOST_CATEGORIES = 100
"""Different values of a column of text above which it is free text and not a category."""


PLACEHOLDERS = frozenset({99.0, 999.0, 9999.0, 99999.0, 999999.0})
"""Numbers, also negative ones, that are often written for missing values."""


_EXACT = 2**53  # beyond it float64 does not hold every whole number


@dataclass(frozen=True)
class Column:
    """A column that can be used.

    Args:
        name: of the column.
        values: (N,) float64 with NaN where a value is missing; of a category the index of its value in ``categories``.
        categories: the values of a category, sorted; empty for numbers.
    """

    name: str
    values: np.ndarray
    categories: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers."""
        return not self.categories

    def text(self, row: int) -> str:
        """Return the value in a row as text."""
        value = self.values[row]
        if np.isnan(value):
            return "missing"
        return self.categories[int(value)] if self.categories else f"{value:.4g}"


@dataclass(frozen=True)
class Table:
    """A user's table with checked columns.

    Args:
        columns: that can be used, each with at least two different values.
        left_out: name and reason of every other column.
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str]

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.columns[0].values)

    def take(self, rows: np.ndarray) -> Table:
        """Return these rows, whose columns may have fewer different values."""
        columns = tuple(replace(column, values=column.values[rows]) for column in self.columns)
        return Table(columns, self.left_out)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


def read_table(
    source: Source | Table, *, least_columns: int = 2, least_rows: int = 2, most_cells: int = MOST_CELLS
) -> Table:
    """Read a user's table and check its columns; a warning names those that are left out.

    Numbers are columns of numbers, also where they are stored as text; categories are columns of at most
    ``MOST_CATEGORIES`` texts that repeat, of truth values, and pandas categories. Left out are constant and empty
    columns, dates, free text, row numbers, and values that are neither numbers nor text.

    Args:
        source: as ``joma.tables.reading.read_frame`` reads it; a checked table is returned as it is.
        least_columns, least_rows: that must be there in the end.
        most_cells: rows times columns above which the table is refused.

    Raises:
        BadInput: as ``read_frame``, infinite or complex numbers, too few rows, or too few columns that can be used.
    """
    if isinstance(source, Table):
        table = source
    else:
        frame = read_frame(source, most_cells=most_cells)
        checked = {name: _checked(frame[name]) for name in frame.columns}
        columns = tuple(found for found in checked.values() if isinstance(found, Column))
        table = Table(columns, {name: found for name, found in checked.items() if isinstance(found, str)})
        _require_rows(len(frame), least_rows)
    for column in table.columns if table is not source else ():
        if (odd := _placeholder(column)) is not None:
            warnings.warn(odd, stacklevel=3)
    reasons = "; ".join(f"{name!r} {reason}" for name, reason in list(table.left_out.items())[:8])
    more = f"; and {len(table.left_out) - 8} more" if len(table.left_out) > 8 else ""
    if len(table.columns) < least_columns:
        raise BadInput(
            f"the table has {len(table.columns)} of the {least_columns} columns that it takes"
            + (f" (left out: {reasons}{more})" if reasons else ""),
            expected=f"{least_columns} columns of numbers or categories, each with different values",
            remedy="add columns, or write dates and text as numbers or categories",
        )
    _require_rows(table.num_rows, least_rows)
    if reasons and table is not source:
        warnings.warn(f"columns are left out: {reasons}{more}", stacklevel=3)
    return table


def read_like(source: Source, table: Table) -> Table:
    """Read a table with the columns of another one, of the same kinds, whatever values they have; others are ignored.

    Args:
        source: as ``joma.tables.reading.read_frame`` reads it.
        table: whose columns are wanted; one row, constant columns and new categories are as good as any.

    Raises:
        BadInput: a column is missing or is of another kind.
    """
    texts = [column.name for column in table.columns if not set(column.categories) <= _TRUTH]
    frame = read_frame(source, texts=texts)
    if missing := [name for name in table.names if name not in frame]:
        raise BadInput(
            f"the table has no column {missing[0]!r}",
            expected=f"the {len(table.names)} columns of the table that was learned from",
            remedy="give both tables the same columns",
        )
    return Table(tuple(_like(frame[column.name], column) for column in table.columns), {})


def _like(column: pandas.Series, model: Column) -> Column:
    if model.categories:
        if pandas.api.types.is_float_dtype(column) and bool((column.dropna() % 1 == 0).all()):
            column = column.map("{:.0f}".format, na_action="ignore")  # whole numbers that are floats because of gaps
        codes, found = pandas.factorize(_texts(column), sort=True)
        return Column(model.name, np.where(codes < 0, np.nan, codes).astype(float), tuple(found) or model.categories)
    numbers = pandas.to_numeric(column, errors="coerce")
    if odd := column[numbers.isna() & column.notna()].tolist():
        raise BadInput(
            f"column {model.name!r} holds {str(odd[0])[:40]!r}", expected="numbers", remedy="leave other cells empty"
        )
    return Column(model.name, _finite(model.name, numbers))


def _require_rows(num: int, least: int) -> None:
    if num < least:
        raise BadInput(
            f"the table has {num} row{'' if num == 1 else 's'}",
            expected=f"at least {least}, of which relations can be learned",
            remedy="give more rows",
        )


def _checked(column: pandas.Series) -> Column | str:
    """The column, or why it is left out."""
    name, kind = str(column.name), column.dtype
    if isinstance(kind, pandas.CategoricalDtype) or pandas.api.types.is_bool_dtype(kind):
        return _category(name, column)
    if pandas.api.types.is_datetime64_any_dtype(kind) or pandas.api.types.is_timedelta64_dtype(kind):
        return _DATES
    if pandas.api.types.is_numeric_dtype(kind):
        return _number(name, column, column)
    present = column.dropna()
    if not len(present):
        return _EMPTY
    as_numbers = pandas.to_numeric(present, errors="coerce") if not _is_bool(present) else None
    if as_numbers is not None and as_numbers.notna().all():
        return _number(name, pandas.to_numeric(column, errors="coerce"), column)
    if not all(isinstance(value, str | bool) for value in present):
        return "holds neither numbers nor text"
    if _is_date(present):
        return _DATES
    num = present.nunique()
    if num > MOST_CATEGORIES or (num > 0.5 * len(present) and len(present) > 3):
        return f"is free text or an identifier ({num:,} different values in {len(present):,} rows)"
    return _category(name, column)


_TRUTH = {"False", "True"}
_EMPTY = "is empty"
_DATES = "holds dates (write them as numbers, such as days)"


def _is_bool(values: pandas.Series) -> bool:
    return any(isinstance(value, bool) for value in values)


def _is_date(values: pandas.Series) -> bool:
    first = values.iloc[:1000].astype(str)
    if not first.str.contains(r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|^\s*\d{4}-?\d{2}-?\d{2}T").all():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that formats are guessed
        return bool(pandas.to_datetime(first, errors="coerce", format="mixed").notna().all())


def _number(name: str, column: pandas.Series, given: pandas.Series) -> Column | str:
    """The column of numbers, or why it is left out; ``given`` has them as they were written."""
    if pandas.api.types.is_complex_dtype(column.dtype):
        raise BadInput(f"column {name!r} holds complex numbers", expected="real ones", remedy="take its real part")
    values = _finite(name, column)
    present = values[~np.isnan(values)]
    if not len(present):
        return _EMPTY
    if present.min() == present.max():
        if given.nunique() > 1 or abs(present[0]) > _EXACT:
            return f"holds numbers that are all {present[0]:g} in double precision (16 digits)"
        return f"is constant ({present[0]:g} in every row)"
    if len(present) == len(values) > 2 and bool((np.diff(values) == 1).all()):
        return "numbers the rows"
    return Column(name, values)


def _placeholder(column: Column) -> str | None:
    """A warning on a number that is written where one is missing: all nines, and far from all others."""
    values = column.values[~np.isnan(column.values)]
    for odd in (values.min(), values.max()) if column.is_number else ():
        others = values[values != odd]
        gap = np.abs(others - odd).min()
        if float(abs(odd)) in PLACEHOLDERS and len(others) < len(values) - 1 and gap > others.max() - others.min():
            return (
                f"column {column.name!r} is {odd:g} in {len(values) - len(others):,} rows, far from all other values: "
                "leave these cells empty if it stands for a missing value"
            )
    return None


def _finite(name: str, column: pandas.Series) -> np.ndarray:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise BadInput(
            f"column {name!r} holds infinite numbers, in {int(np.isinf(values).sum())} rows",
            expected="finite or missing ones",
            remedy="leave these cells empty, or drop these rows",
        )
    return values


def _texts(column: pandas.Series) -> pandas.Series:
    return column.astype("object").map(str, na_action="ignore")


def _category(name: str, column: pandas.Series) -> Column | str:
    codes, found = pandas.factorize(_texts(column), sort=True)
    if len(found) < 2:
        return f"is constant ({found[0]!r} in every row)" if len(found) else _EMPTY
    if len(found) > MOST_CATEGORIES:
        return f"has {len(found):,} categories, of which at most {MOST_CATEGORIES} are supported"
    return Column(name, np.where(codes < 0, np.nan, codes).astype(np.float64), tuple(map(str, found)))
