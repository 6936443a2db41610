"""Reading a user's table as a pandas table, before anything is known about its columns.

Nothing is unpickled, and what a file would need in memory is known before it is read.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas

from joma.errors import BadInput, cause_of
from joma.files import expanded
from joma.tables.decimals import with_numbers

MOST_CELLS = 200_000_000
"""Rows times columns: 1.6 GB of numbers."""

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".npy", ".npz")

SEPARATORS = (",", ";", "\t")
"""Of the columns in .csv files; where it is the semicolon, numbers may have a comma before their decimals."""

_LONGEST = 10_000_000  # characters of the first two lines
_CHUNK = 100_000  # rows of a text file that are read at once

Source = str | os.PathLike[str] | pandas.DataFrame | np.ndarray
"""A file, a pandas table, or an array with one row per row of the table."""


def read_frame(source: Source, *, most_cells: int = MOST_CELLS, texts: Sequence[str] = ()) -> pandas.DataFrame:
    """Return a user's table as it is, with text for column names, all of them different.

    Args:
        source: a file with one of ``SUFFIXES``, a pandas table, or an array of one or two axes or with named fields.
        most_cells: rows times columns above which it is refused, before it is in memory where that is possible.
        texts: names of columns whose values are read from files of text as they stand there: 01 is not 1.

    Raises:
        BadInput: no such file, another kind of file, one that cannot be read, is empty or too large, or in which two
            columns have the same name.
    """
    if isinstance(source, pandas.DataFrame):
        frame, name = source, "the table"
    elif isinstance(source, np.ndarray):
        frame, name = _of_array(source, "the array"), "the array"
    elif isinstance(source, str | os.PathLike):
        path = expanded(source)
        frame, name = _of_file(path, most_cells, texts), str(path)
    else:
        raise BadInput(
            f"a table of type {type(source).__name__} cannot be read",
            expected="a file name, a pandas table or a NumPy array",
            remedy="make a pandas table of it",
        )
    require_size(*frame.shape, name, most_cells)
    if not len(frame) or not len(frame.columns):
        raise BadInput(f"{name} has no {'columns' if len(frame) else 'rows'}", expected="a table", remedy="fill it")
    frame = frame.rename(columns=str)
    if twice := frame.columns[frame.columns.duplicated()].unique().tolist():
        raise BadInput(
            f"{name} has two columns of the name {twice[0]!r}",
            expected="different names",
            remedy="rename or drop one of them",
        )
    return frame


def require_size(num_rows: int, num_columns: int, name: str, most_cells: int = MOST_CELLS) -> None:
    """Raise ``BadInput`` for a table of more than ``most_cells`` cells."""
    if num_rows * num_columns > most_cells:
        raise BadInput(
            f"{name} has {num_rows:,} rows of {num_columns:,} columns or more",
            expected=f"at most {most_cells:,} cells",
            remedy="take a part of its rows or columns",
        )


def _of_file(path: Path, most_cells: int, texts: Sequence[str]) -> pandas.DataFrame:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None or not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is of an unknown kind"
        raise BadInput(f"{path} {what}", expected=f"a table, {', '.join(SUFFIXES)}", remedy="name one")
    readers: dict[str, Callable[[Path, int], pandas.DataFrame]] = {
        ".parquet": _of_parquet,
        ".npy": _of_npy,
        ".npz": _of_npz,
    }
    try:
        return readers[suffix](path, most_cells) if suffix in readers else _of_text(path, most_cells, texts)
    except BadInput:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        csv.Error,
        zipfile.BadZipFile,
        zlib.error,
        pandas.errors.ParserWarning,
    ) as error:
        raise BadInput(
            f"{path} cannot be read ({cause_of(error)})",
            expected=f"a whole {suffix.lstrip('.')} file" + ("" if suffix in readers else " of UTF-8 text"),
            remedy="write it again, or check that the suffix fits the content",
        ) from error


def _of_text(path: Path, most_cells: int, texts: Sequence[str]) -> pandas.DataFrame:
    """A table of text, its first line the names of the columns; read in parts, so that a huge one is noticed."""
    separator, skipped = _layout(path)
    names = pandas.read_csv(
        path, sep=separator, header=None, skiprows=skipped, nrows=1, dtype=str, keep_default_na=False
    ).iloc[0]
    if _are_numbers(names) and list(names) != [str(place) for place in range(len(names))]:
        raise BadInput(
            f"the first line of {path} holds only numbers",
            expected="the names of the columns there",
            remedy="add a line of names at the top",
        )
    wanted = {place for place, name in enumerate(names) if name in texts}
    as_text = set(range(len(names))) if separator == ";" else wanted  # a comma may stand before decimals

    def parts() -> Iterator[pandas.DataFrame]:
        kinds: dict[Hashable, Any] = dict.fromkeys(as_text, str)
        reader = pandas.read_csv(path, sep=separator, header=None, names=range(len(names)), skiprows=skipped + 1,
                                 chunksize=_CHUNK, index_col=False, low_memory=False, dtype=kinds,
                                 keep_default_na=False, na_values=[""])  # fmt: skip
        num_rows = 0
        with warnings.catch_warnings(), reader:
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # longer lines, which would be cut
            for part in reader:
                num_rows += len(part)
                require_size(num_rows, len(names), str(path), most_cells)
                yield part

    frames = list(parts())
    if mixed := {place for place in range(len(names)) if len({_is_text(part[place]) for part in frames}) > 1}:
        as_text = as_text | mixed  # 01 would be 1 where a part has only such, and 01 in another one
        frames = list(parts())
    frame = pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=range(len(names)))
    columns = {place: frame[place] for place in range(len(names))}
    read = {place: column for place, column in columns.items() if place not in wanted and _is_text(column)}
    return pandas.DataFrame(columns | with_numbers(read, commas=separator == ";")).set_axis(names.tolist(), axis=1)


def _is_text(column: pandas.Series) -> bool:
    return pandas.api.types.is_object_dtype(column) or pandas.api.types.is_string_dtype(column)


def _layout(path: Path) -> tuple[str, int]:
    """What separates the columns, and how many lines come before their names: empty ones, and Excel's ``sep=;``.

    In a .csv file it is the one of comma, semicolon and tab that the line of names has; of several the one that the
    next line has as often.
    """
    with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rt", encoding="utf-8-sig") as file:
        head = re.sub(r'"[^"]*"', '""', file.read(_LONGEST))
    filled = ((number, line.strip(" \r\n")) for number, line in enumerate(io.StringIO(head)) if line.strip())
    (skipped, first), *after = [*itertools.islice(filled, 2)] or [(0, "")]
    if "\0" in first:  # where pandas cuts a name
        raise ValueError("it holds zero bytes")
    if re.fullmatch("sep=.", first, re.IGNORECASE):
        return first[-1], after[0][0] if after else skipped + 1
    if ".tsv" in path.name.lower():
        return "\t", skipped
    there = [separator for separator in SEPARATORS if separator in first]
    if len(there) > 1 and after:
        there = [separator for separator in there if first.count(separator) == after[0][1].count(separator)]
        if len(there) != 1:
            raise BadInput(
                f"the columns of {path} may be separated by {' or '.join(map(repr, there or SEPARATORS))}",
                expected="one of them in the line of names, or as often in the next line as there",
                remedy="write sep=; as the first line, with the separator in place of the semicolon",
            )
    return there[0] if there else ",", skipped


def _are_numbers(names: Sequence[str] | pandas.Series) -> bool:
    try:
        return bool([float(name) for name in names])
    except ValueError:
        return False


def _of_parquet(path: Path, most_cells: int) -> pandas.DataFrame:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        require_size(file.metadata.num_rows, len(file.schema_arrow.names), str(path), most_cells)
        return file.read().to_pandas()


def _of_npy(path: Path, most_cells: int) -> pandas.DataFrame:
    with path.open("rb") as file:
        _check_header(file, str(path), most_cells)
    return _of_array(np.load(path, allow_pickle=False), str(path))


def _of_npz(path: Path, most_cells: int) -> pandas.DataFrame:
    """One array of two axes, or several of one axis and equal length, each of which is a column."""
    with zipfile.ZipFile(path) as members:
        for member in members.namelist():
            with members.open(member) as file:
                _check_header(file, f"{member} in {path}", most_cells)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if len(arrays) == 1:
        return _of_array(next(iter(arrays.values())), str(path))
    lengths = {array.shape for array in arrays.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:5])
        raise BadInput(
            f"{path} holds {shapes or 'no array'}",
            expected="one array of rows, or one array of one axis for each column, all equally long",
            remedy="save the array of the table alone",
        )
    return pandas.DataFrame(arrays)


def _check_header(file: IO[bytes], name: str, most_cells: int) -> None:
    """Refuse arrays that are too large, or of Python objects, by what their header says."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    per_row = int(np.prod(shape[1:], dtype=object)) * len(dtype.fields or "1")
    require_size(shape[0] if shape else 1, per_row, name, most_cells)
    if dtype.hasobject:
        raise BadInput(
            f"{name} is an array of Python objects, which would have to be unpickled",
            expected="an array of numbers, or with named fields",
            remedy="write the table as CSV or Parquet",
        )


def _of_array(array: Any, name: str) -> pandas.DataFrame:
    if array.ndim not in (1, 2) or (array.dtype.fields and array.ndim != 1):
        raise BadInput(
            f"{name} has {array.ndim} axes", expected="two: rows and columns", remedy="reshape it, one row each"
        )
    return pandas.DataFrame(np.ascontiguousarray(array))
