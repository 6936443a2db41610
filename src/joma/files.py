"""Files that are written completely or not at all, and JSON files of a declared shape."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from joma.errors import BadInput, cause_of
from joma.serialization import decoded, shaped

T = TypeVar("T")


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path next to ``path``, and move the file written there to ``path`` at the end of the block.

    After an exception ``path`` is unchanged and the temporary file is removed. The content is flushed to disk before it
    gets its name, so that a crash leaves the old or the new file. Temporary files in the folder whose process was
    killed are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` replaced by the home folder; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises an error then


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as indented JSON, atomically; NaN and infinity raise ``ValueError``, because JSON has neither."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        # Bytes of a file name that are no valid text become the escapes that JSON has for them.
        temporary.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, shape: type[T], *, expected: str, remedy: str) -> T:
    """Read a JSON file of a shape (``joma.serialization.shaped``).

    Raises:
        BadInput: it cannot be read or has another shape; with what was ``expected`` and the ``remedy``.
    """
    try:
        return shaped(decoded(path.read_bytes()), shape)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({cause_of(error)})", expected=expected, remedy=remedy) from error


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files whose process does not run any more; other machines may write in the folder too."""
    if sys.platform == "win32":  # where asking for a process would end it
        return
    for path in folder.glob(f".*.{socket.gethostname()}.*.part"):
        pid = path.name.split(".")[-2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):  # no file of ``replacing``, or another user's process
            continue
