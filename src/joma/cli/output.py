"""What commands print and where they write: strict JSON or tables, then a sentence, then the files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.terminal import console, printable


def folder_of(out: str | None) -> Path | None:
    """The folder that ``--out`` names, not made yet.

    Raises:
        BadInput: it is a file.
    """
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file", expected="a folder", remedy="give another name")
    return folder


def width() -> int:
    """Columns for a table: a terminal's, or ``COLUMNS``; a file has no width to fit into, and gets wide tables."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() or "COLUMNS" in os.environ else 120


def show(record: Any, tables: Sequence[Any], *, as_json: bool) -> None:
    """Print the record as JSON, or the tables."""
    if as_json:
        say(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
        return
    shown = console(sys.stdout, width())
    for table in tables:
        shown.print(table)


def say(text: str, *, as_error: bool = False) -> None:
    """Print text, with control characters escaped, to standard output or standard error."""
    print(printable(text), file=sys.stderr if as_error else sys.stdout)


def conclude(sentence: str, folder: Path | None, files: Sequence[str], *, as_json: bool) -> None:
    """Print what was found and which files of a folder were written; to standard error where JSON is printed."""
    written = "" if folder is None else f"\nWritten to {folder}: {', '.join(files)}."
    if folder is not None and "report.html" in files:
        written += f"\nThe page: {(folder / 'report.html').absolute().as_uri()}"
    say(f"{sentence.rstrip('.')}.{written}", as_error=as_json)
