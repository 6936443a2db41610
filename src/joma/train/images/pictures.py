"""Labelled pictures, with the parts that each shows, and the file that holds them.

Axes: N subjects (a character, or one image of a folder), V pictures of each, S pixels a side, P parts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from joma.errors import BadInput, RunFailed
from joma.serialization import shaped
from joma.tensorfiles import digest_of, read_tensors, write_tensors

SUFFIX = ".pictures.safetensors"
"""The end of the name of a file of pictures."""

FEWEST = 20
"""The fewest subjects that can be split into those to learn from and those never seen."""

Kind = Literal["label", "elsewhere", "other"]
"""The kind of a part: in what makes the label; outside of it, though it makes some label; in no label at all."""


@dataclass(frozen=True)
class Part:
    """A part in one of its kinds.

    Args:
        name: of the part; ``言`` in what makes the label and ``言`` elsewhere are two parts.
        kind: whether it belongs to what makes the label.
        depth: mean over subjects of the number of named parts that it is within; ``None`` if there is no tree.
    """

    name: str
    kind: Kind
    depth: float | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures of subjects.

    Args:
        name: of the pictures.
        description: with counts and source.
        pixels: from 0 (paper) to 255 (ink).
        labels: below ``len(classes)``.
        classes: names of the labels.
        parts: that a subject may have; empty if none are known.
        presence: 1 if a subject has a part, 0 if not, −1 if the subject does not count for this part.
    """

    name: str
    description: str
    pixels: UInt8[Tensor, "N V S S"]
    labels: Int[Tensor, " N"]
    classes: tuple[str, ...]
    parts: tuple[Part, ...]
    presence: Int[Tensor, "N P"]

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.pixels.shape[-1]

    @cached_property
    def digest(self) -> str:
        """A hash of pictures, labels and parts, the same in every process and on every machine."""
        return digest_of(_facts(self), _tensors(self))

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return the subjects to learn from, and a fifth that is never seen in training, as ascending indices."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        num = len(order) // 5
        return order[num:].sort().values, order[:num].sort().values

    def batch(self, subjects: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return pictures of random subjects, (num, S, S) from 0 to 1, and their labels, (num,)."""
        chosen = subjects[torch.randint(len(subjects), (num,), generator=generator)]
        views = torch.randint(self.pixels.shape[1], (num,), generator=generator)
        return as_input(self.pixels[chosen, views]), self.labels[chosen]


def as_input(pixels: Tensor) -> Tensor:
    """Return pixels as numbers from 0 to 1."""
    return pixels.float() / 255


def with_permuted_labels(pictures: Pictures, seed: int) -> Pictures:
    """Return a control: the same pictures, each subject with the label of a random one."""
    order = torch.randperm(len(pictures.labels), generator=torch.Generator().manual_seed(seed))
    return replace(pictures, name=f"{pictures.name}, labels permuted", labels=pictures.labels[order])


def require_pictures(pictures: Pictures) -> Pictures:
    """Return the pictures if a network can learn from them.

    Raises:
        BadInput: fewer than ``FEWEST`` subjects, or fewer than two classes.
    """
    num, num_classes = len(pictures.labels), len(pictures.classes)
    if num >= FEWEST and num_classes >= 2:
        return pictures
    raise BadInput(
        f"{pictures.name} has {num} labelled pictures of {num_classes} class{'' if num_classes == 1 else 'es'}",
        expected=f"at least {FEWEST}, of two classes or more",
        remedy="add pictures of another class" if num >= FEWEST else "add pictures",
    )


def save_pictures(pictures: Pictures, path: Path) -> None:
    """Write pictures to a file atomically; its name ends in ``SUFFIX``."""
    write_tensors(path, _facts(pictures), _tensors(pictures))


def load_pictures(path: Path) -> Pictures:
    """Read pictures that ``save_pictures`` wrote.

    Raises:
        RunFailed: the file is missing or damaged.
    """
    try:
        facts, tensors = read_tensors(path)
        known = shaped(facts, _Facts)
        return Pictures(**vars(known), **tensors)
    except (ValueError, TypeError) as error:
        kept, remedy = "no network is lost", "delete the file and run the same again"
        raise RunFailed(f"{path} holds no pictures ({error})", kept=kept, remedy=remedy) from error


@dataclass(frozen=True)
class _Facts:
    """What a file states of its pictures apart from the tensors; see ``Pictures``."""

    name: str
    description: str
    classes: tuple[str, ...]
    parts: tuple[Part, ...]


def _facts(pictures: Pictures) -> dict[str, object]:
    facts = _Facts(pictures.name, pictures.description, pictures.classes, pictures.parts)
    return {**asdict(facts), "classes": list(facts.classes), "parts": [asdict(part) for part in facts.parts]}


def _tensors(pictures: Pictures) -> dict[str, Tensor]:
    return {"pixels": pictures.pixels, "labels": pictures.labels, "presence": pictures.presence}
