"""Atomic writing of files: a file is written completely or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path next to ``path``, and move the file written there to ``path`` at the end of the block.

    After an exception ``path`` is unchanged and the temporary file is removed. The content is flushed to disk before it
    gets its name, so that a crash leaves the old or the new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as indented JSON, atomically; NaN and infinity raise ``ValueError``, because JSON has neither."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
