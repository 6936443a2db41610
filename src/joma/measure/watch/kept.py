"""The file of a watch's probes: what an earlier part of the training run left in it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from joma.errors import BadInput, InvalidArgument
from joma.files import replacing
from joma.journal import append_line, probe_line, read_journal
from joma.records import Row


def earlier_probes(path: Path, start: int) -> dict[int, tuple[Row, ...]]:
    """Return the measurements before step ``start`` in a file, and remove the others from it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, b"")
        journal = read_journal(path)
    except OSError as error:
        what = f"{path.parent}, which cannot be written to ({error.strerror})"
        remedy = "name another folder"
        raise InvalidArgument("watch", "out", required="a writable folder", received=what, remedy=remedy) from error
    if journal.damage:
        warnings.warn(f"{journal.damage}; later lines are left out", RuntimeWarning, stacklevel=3)
    kept = {step: rows for step, rows in journal.probes if step < start}
    if journal.probes and not kept:
        raise BadInput(
            f"{path} already holds measurements of steps {journal.probes[0][0]} to {journal.last_step}",
            expected="a new folder, or training that continues after some of them",
            remedy="name another folder, or pass the number of finished optimiser steps as start=",
        )
    if len(kept) < len(journal.probes) or journal.damage:
        rewrite(path, kept)
    return kept


def rewrite(path: Path, probes: Mapping[int, Sequence[Row]]) -> None:
    """Write all probes into a file, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(probe_line(step, rows) for step, rows in probes.items()))
