"""The interface of the stores of saved steps, and the step numbers in names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol, get_args

from joma.errors import BadInput
from joma.saved.ranges import RangedFile

WeightKind = Literal["safetensors", "bin", "gguf"]
"""The format of weight files, in order of preference."""

KINDS: tuple[WeightKind, ...] = get_args(WeightKind)
WEIGHTS: dict[str, WeightKind] = {
    ".safetensors": "safetensors",
    ".bin": "bin",
    ".pt": "bin",
    ".pth": "bin",
    ".ckpt": "bin",
    ".gguf": "gguf",
}
"""The kind of a weight file, by its suffix."""

_WORDS = r"(?:^|[^a-z])(?:global_?)?(?:step|checkpoint|ckpt|iteration|iter|ba(?=\d))s?"
_STEP = re.compile(
    rf"{_WORDS}[_=\- ]?(?P<number>\d{{1,15}}(?:,\d{{3}})*(?:\.\d+(?=[km]))?)(?P<unit>[km])?", re.IGNORECASE
)
_REST = re.compile(
    r"(?:[-_. ](?:(?:tokens?|epoch|ep|rank|stage|seed)[-_=]?\d+(?:\.\d+)?[kmbt]?"
    r"|[a-z][a-z\d]*=-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|[a-z]+))*",
    re.IGNORECASE,
)
"""What may follow a step in a name: how many tokens that is, the epoch, a metric (``val_loss=0.25``), words."""

_LIKE_A_STEP = re.compile(rf"{_WORDS}(?![a-z])|(?:^|[^a-z])ep(?:och)?s?[-_= ]?\d|^\d+$", re.IGNORECASE)
_UNITS = {"": 1, "k": 1000, "m": 1_000_000}
_MOST_NAMED = 5


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
        left_out: names that look like those of steps but are not understood.
        numbered: whether the names contain step numbers; a single model without one counts as step 0.
    """

    source: str
    names: dict[int, str]
    left_out: tuple[str, ...]
    numbered: bool

    def listing(self, step: int) -> dict[str, StoredFile]:
        """The files of a step by name."""
        ...

    def open(self, step: int, name: str) -> RangedFile:
        """One file of a step."""
        ...


def step_in(name: str) -> int | None:
    """Return the step in a name: ``step1000``, ``checkpoint-500``, ``stage1-step1000-tokens5B``, ``step_20k``.

    A name is understood as a whole: there is one step in it, and whatever follows is known not to be part of it. There
    is no step in ``checkpoint_7_5500``, ``step_1_000`` and ``checkpoint-2024-05-01``.
    """
    found = list(_STEP.finditer(name))
    if len(found) != 1 or not _REST.fullmatch(name, found[0].end()):
        return None
    step = Fraction(found[0]["number"].replace(",", "")) * _UNITS[(found[0]["unit"] or "").lower()]
    return int(step) if step.denominator == 1 else None


def left_out(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that look like those of steps, but in which no step is understood."""
    return tuple(name for name in names if step_in(name) is None and _LIKE_A_STEP.search(name))


def in_words(names: Sequence[str]) -> str:
    """Return names in a sentence, of many the first ones."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


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


def checked_steps(steps: Sequence[int] | None, store: Store) -> tuple[int, ...]:
    """Return the steps to use: all of a store for ``None``.

    Raises:
        BadInput: a step is missing, or they are not ascending.
    """
    if steps is None:
        return tuple(store.names)
    if missing := [step for step in steps if step not in store.names]:
        raise BadInput(
            f"{store.source} has no step {missing[0]}",
            expected=f"some of its {len(store.names)} steps, from {min(store.names)} to {max(store.names)}",
            remedy=f"take one of the nearest, {nearest_steps(missing[0], store.names)}",
        )
    if not steps or list(steps) != sorted(set(steps)):
        in_order = ",".join(map(str, sorted(set(steps)))) or "no steps at all"
        raise BadInput(
            f"the steps {','.join(map(str, steps)) or '(none)'} are not in order",
            expected="each step once, ascending",
            remedy=f"pass {in_order}" if steps else "leave steps out for all of them",
        )
    return tuple(steps)


def nearest_steps(step: int, steps: Iterable[int]) -> str:
    """Return the numbers of the three steps nearest to one, as text."""
    return ", ".join(map(str, sorted(sorted(steps, key=lambda other: abs(other - step))[:3])))
