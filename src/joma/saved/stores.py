"""What a place with the saved steps of a series offers, wherever it is, and which step a name says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from joma.errors import BadInput
from joma.saved.ranges import RangedFile

WEIGHTS = {".safetensors": "safetensors", ".bin": "bin", ".pt": "bin", ".pth": "bin", ".gguf": "gguf"}
"""What a file of weights is, by its suffix."""

_STEP = re.compile(
    r"(?:^|[^a-z])(?:global_?)?(?:step|checkpoint|ckpt|iter)s?[_=-]?(\d+)(k)?(?![a-z0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class StoredFile:
    """A file of a saved step.

    Args:
        name: relative to the step's folder.
        size: bytes.
        digest: of its content, where it is known without reading: kind and hexadecimal number.
    """

    name: str
    size: int
    digest: str | None = None


class Store(Protocol):
    """Where the steps of a series are.

    Args:
        source: as the person named it.
        names: each step's folder, file or revision.
        numbered: whether steps come from names; a single model without one counts as step 0.
    """

    source: str
    names: dict[int, str]
    numbered: bool

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name."""
        ...

    def open(self, step: int, name: str) -> RangedFile:
        """One of them, to be read in part."""
        ...


def step_in(name: str) -> int | None:
    """The step that a name tells: ``step1000``, ``checkpoint-500``, ``stage1-step1000-tokens5B``, ``step_20k``."""
    found = _STEP.search(name)
    return None if found is None else int(found[1]) * (1000 if found[2] else 1)


def numbered(source: str, names: Iterable[str], remedy: str) -> dict[int, str]:
    """Names by the step they tell, in the order of steps; those that tell none are left out.

    Raises:
        BadInput: two of them tell the same step.
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
