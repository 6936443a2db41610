"""Where the commands below ``joma tree`` write, and how they print JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from joma.errors import BadInput


def folder_of(out: str | None) -> Path | None:
    """The folder that ``--out`` names, not made yet.

    Raises:
        BadInput: it is a file.
    """
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file", expected="a folder", remedy="give another name")
    return folder


def print_json(record: Any) -> None:
    """Print strict JSON."""
    print(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
