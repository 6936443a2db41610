"""Numbers in columns of text: which mark stands before their decimals, a point or a comma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

MISSING = frozenset(
    (
        "NA",
        "N/A",
        "n/a",
        "nan",
        "NaN",
        "-nan",
        "-NaN",
        "NULL",
        "null",
        "None",
        "<NA>",
        "#N/A",
        "#NA",
        "1.#QNAN",
        "1.#IND",
    )
)
"""Words that stand for a missing number in a column of numbers; among texts they are texts."""

_OTHER = {",": ".", ".": ","}
_GROUPED = {mark: rf"[+-]?[1-9]\d{{0,2}}(?:\{mark}\d{{3}})+" for mark in _OTHER}
"""Whole numbers whose thousands a mark may separate; with a single one it may as well stand before decimals."""

_NUMBER = {mark: rf"\s*(?:[+-]?\d*|{_GROUPED[other]})\{mark}\d+(?:[eE][+-]?\d+)?\s*" for mark, other in _OTHER.items()}
"""Numbers with decimals after a mark, thousands perhaps separated by the other."""


def with_numbers(columns: Mapping[Any, pandas.Series], *, commas: bool) -> dict[Any, pandas.Series]:
    """Return the columns of a table, those of numbers, with gaps or words for missing ones, as numbers.

    Where decimals may follow a comma, a mark stands before decimals if it does in some number of the table, and the
    other one does nowhere: then the other separates thousands. 1,234 and 1.234 do not say which they are. Where no
    number of the table says it, or numbers contradict each other, the one mark that a column has stands before its
    decimals; a column with both stays text.

    Args:
        columns: of text.
        commas: whether decimals may follow a comma. Otherwise they follow a point, and numbers with a comma stay text.
    """
    known = {name: column.mask(column.isin(MISSING)) for name, column in columns.items()}
    found = _with_either(known) if commas else {name: _converted(column) for name, column in known.items()}
    return {
        name: column if numbers is None or bool((numbers.notna() != known[name].notna()).any()) else numbers
        for (name, column), numbers in zip(columns.items(), found.values(), strict=True)
    }


def _with_either(known: Mapping[Any, pandas.Series]) -> dict[Any, pandas.Series | None]:
    shown = {mark for mark in _OTHER if any(_shows(column, mark) for column in known.values())}
    decimal = shown.pop() if len(shown) == 1 else None
    return {name: _numbers(column, decimal) for name, column in known.items()}


def _shows(column: pandas.Series, mark: str) -> bool:
    marked = column[_has(column, mark)].str
    return bool((marked.fullmatch(_NUMBER[mark]) & ~marked.fullmatch(_GROUPED[mark])).any())


def _numbers(column: pandas.Series, decimal: str | None) -> pandas.Series | None:
    """Numbers, missing where a text is none; ``None`` for numbers with both marks if that of decimals is unknown."""
    if decimal is None:
        there = [mark for mark in _OTHER if bool(_has(column, mark).any())]
        if len(there) > 1:
            return None
        decimal = there[0] if there else "."
    other = _OTHER[decimal]
    if bool((grouped := _has(column, other)).any()):
        whole = grouped & column.str.fullmatch(rf"{_NUMBER[decimal]}|{_GROUPED[other]}", na=False)
        column = column.mask(whole, column.str.replace(other, "", regex=False))
    return _converted(column if decimal == "." else column.str.replace(decimal, ".", regex=False))


def _converted(column: pandas.Series) -> pandas.Series:
    return pandas.to_numeric(column, errors="coerce")


def _has(column: pandas.Series, mark: str) -> pandas.Series:
    return column.str.contains(mark, regex=False, na=False)
