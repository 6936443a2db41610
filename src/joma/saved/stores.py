"""The interface of the stores of saved steps, and the step numbers in names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from joma.errors import BadInput
from joma.saved.ranges import RangedFile

WEIGHTS = {".safetensors": "safetensors", ".bin": "bin", ".pt": "bin", ".pth": "bin", ".gguf": "gguf"}
"""The kind of a weight file, by its suffix."""

_STEP = re.compile(
    r"(?:^|[^a-z])(?:global_?)?(?:step|checkpoint|ckpt|iter)s?[_=-]?(\d+)(k)?(?![a-z0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class StoredFile:
    """A file of a saved step.

    Args:
        name: relative to the step's folder.
        size: in bytes.
        digest: hash of its content as ``kind:hexadecimal``, if it is known without reading the file.
        version: differs once the file is written again: the commit on a hub, the times of its last change in a folder.
    """

    name: str
    size: int
    digest: str | None = None
    version: str = ""


class Store(Protocol):
    """A folder or a repository that holds the steps of a series.

    Args:
        source: its path or name, as the user gave it.
        names: each step's folder, file or revision.
        numbered: whether the names contain step numbers; a single model without one counts as step 0.
    """

    source: str
    names: dict[int, str]
    numbered: bool

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name."""
        ...

    def open(self, step: int, name: str) -> RangedFile:
        """One file of a step."""
        ...


def step_in(name: str) -> int | None:
    """Return the step in a name: ``step1000``, ``checkpoint-500``, ``stage1-step1000-tokens5B``, ``step_20k``."""
    found = _STEP.search(name)
    return None if found is None else int(found[1]) * (1000 if found[2] else 1)


def numbered(source: str, names: Iterable[str], remedy: str) -> dict[int, str]:
    """Return names by the step in them, in ascending order; names without a step are left out.

    Raises:
        BadInput: two names contain the same step.
    """
    found: dict[int, str] = {}
    for name in names:
        step = step_in(name)
        if step is None:
            continue
        if step in found:
            raise BadInput(
                f"{source} has step {step} twice, as {found[step]} and as {name}",
                expected="one place for each step",
                remedy=remedy,
            )
        found[step] = name
    return dict(sorted(found.items()))
