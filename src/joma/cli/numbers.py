"""Lists of numbers as a person gives them: typed with commas, as a range, in a configuration, or in a file."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse

from joma.errors import BadInput, cause_of

Given = str | float | list
"""What an option of numbers may be given as: text on the command line, a number or a list in a YAML file."""

SYNTAX = "numbers such as 3,2,0.5, a range start:stop:count, or a .txt, .csv, .json, .yaml or .npy file"
MOST_OF_A_RANGE = 1_000_000


def allow_negative_lists(parser: jsonargparse.ArgumentParser) -> None:
    """Let ``--mu -1,2`` mean what it says: Python before 3.14 takes only ``-1`` alone for a number, not an option."""
    parser._negative_number_matcher = re.compile(r"-\.?\d")


def numbers(given: Given, option: str) -> list[float]:
    """Return the finite numbers meant by ``given``, at least one.

    Args:
        given: see ``SYNTAX``.
        option: its name, for messages.

    Raises:
        BadInput: no numbers, an infinite one or NaN, or a file that cannot be read.
    """
    read = _typed_or_read(given, option) if isinstance(given, str) else _flat(given, option)
    if not read:
        raise BadInput(f"{option} holds no numbers", expected="at least one", remedy="give one, such as 1.0")
    for place, value in enumerate(read):
        if not math.isfinite(value):
            raise BadInput(
                f"{option} holds {value:g} (number {place + 1} of {len(read)})",
                expected="finite numbers",
                remedy="leave it out or replace it",
            )
    return read


def times(given: Given, option: str = "--t") -> list[float]:
    """Return the times meant by ``given``: at least 0 and increasing.

    Raises:
        BadInput: as ``numbers``, and for times out of order or below 0.
    """
    read = numbers(given, option)
    problem = ""
    if read[0] < 0:
        problem = f"{option} begins at {read[0]:g}"
    for before, after in pairwise(read):
        if after <= before:
            problem = problem or f"{option} has {after:g} after {before:g}"
    if problem:
        raise BadInput(problem, expected="times of at least 0 that increase", remedy="sort them, each once")
    return read


def _typed_or_read(given: str, option: str) -> list[float]:
    if given.count(":") == 2 and not Path(given).is_file():
        return _range(given, option)
    words = [word.strip() for word in given.strip().strip("[]").split(",")]
    values = [_number(word) for word in words]
    if None not in values:
        return [value for value in values if value is not None]
    path = Path(given)
    if path.suffix.lower() in _READERS or path.is_file():
        return _from_file(path, option)
    odd = words[values.index(None)]
    received = f"{odd!r} in {given!r}, which is no number" if odd else f"{given!r}, in which a number is missing"
    raise BadInput(f"{option} has {received}", expected=SYNTAX, remedy="correct it, or check the file's name")


def _range(given: str, option: str) -> list[float]:
    start, stop, count = (_number(part) for part in given.split(":"))
    whole = count is not None and float(count).is_integer() and 1 <= count <= MOST_OF_A_RANGE
    if start is None or stop is None or count is None or not whole or (count == 1 and start != stop):
        raise BadInput(
            f"{option} is {given!r}",
            expected=f"start:stop:count with a count of 2 to {MOST_OF_A_RANGE}",
            remedy="write 0:10:101, for one: 101 values from 0 to 10",
        )
    if count == 1:
        return [start]
    # From both ends, so that the last one is exactly `stop`.
    return [start * (1 - part / (count - 1)) + stop * (part / (count - 1)) for part in range(int(count))]


def _from_file(path: Path, option: str) -> list[float]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(
            f"{option}: {path} ends in {path.suffix or 'nothing'!r}",
            expected=f"a file that ends in {', '.join(_READERS)}",
            remedy="rename it to what it is",
        )
    try:
        content = reader(path)
    except (OSError, UnicodeError, ValueError, EOFError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else cause_of(error)
        raise BadInput(
            f"{option}: {path} cannot be read ({cause})",
            expected="a file of numbers",
            remedy="check its name and content",
        ) from error
    return _flat(content, f"{option}: {path}")


def _flat(content: Any, where: str) -> list[float]:
    """The numbers of a list, or one number."""
    entries = content if isinstance(content, list) else [content]
    values = [_number(entry) for entry in entries]
    if None in values:
        odd = entries[values.index(None)]
        raise BadInput(
            f"{where} has {str(odd)[:40]!r} where a number should be",
            expected="one list of numbers",
            remedy="keep one list: one row or one column, no other text",
        )
    return [value for value in values if value is not None]


def _number(entry: Any) -> float | None:
    """``entry`` as a number, text too (YAML reads 1e-3 as text); nothing if it is none."""
    if isinstance(entry, bool) or not isinstance(entry, int | float | str):
        return None
    try:
        return float(entry)
    except (ValueError, OverflowError):
        return None


def _text(path: Path) -> list[str]:
    lines = [line.partition("#")[0] for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return [word for line in lines for word in line.replace(",", " ").split()]


def _csv(path: Path) -> list[str]:
    """One row or one column; a first line without any number is a header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    if rows and all(_number(cell) is None for cell in rows[0]):
        rows = rows[1:]
    if len(rows) > 1 and any(len(row) != 1 for row in rows):
        raise ValueError(f"it has {len(rows)} rows of {max(map(len, rows))} columns")
    return [cell for row in rows for cell in row]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError("it is not YAML") from error


def _npy(path: Path) -> Sequence[float]:
    import numpy as np

    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim > 1 or array.dtype.kind not in "iuf":
        raise ValueError("it holds something other than one list of real numbers")
    return np.atleast_1d(array).astype(float).tolist()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".txt": _text,
    ".csv": _csv,
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".npy": _npy,
}
