"""Parts of pictures: where each occurs, sorted into those that make the label and the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from joma.train.images.pictures import Part

FEWEST_WITH = 40
"""The fewest subjects with a part, and without it, for which it is looked for: a fifth of them, eight, are unseen."""


class Occurrence(NamedTuple):
    """A part of a subject.

    Args:
        name: of the part.
        of_label: whether it belongs to what makes the label.
        depth: number of named parts that it is within; ``None`` if there is no tree.
    """

    name: str
    of_label: bool
    depth: int | None = None


def sorted_parts(
    subjects: Sequence[Sequence[Occurrence]], fewest: int = FEWEST_WITH
) -> tuple[tuple[Part, ...], Tensor]:
    """Return the parts that enough subjects have, each by its kind, and their presence.

    Args:
        subjects: the parts of each.
        fewest: the fewest subjects with a part, and without it.

    Returns:
        the parts, and int8 (N, P): 1 where a subject has a part in this kind, 0 where it does not have it at all, and
        −1 where it has it in another kind only.
    """
    owners, depths = defaultdict[tuple[str, bool], set[int]](set), defaultdict[tuple[str, bool], list[int]](list)
    for place, occurrences in enumerate(subjects):
        for name, of_label, depth in occurrences:
            owners[name, of_label].add(place)
            depths[name, of_label] += [] if depth is None else [depth]
    parts, columns = [], []
    for (name, of_label), here in sorted(owners.items()):
        elsewhere = owners.get((name, not of_label), set()) - here
        if min(len(here), len(subjects) - len(here) - len(elsewhere)) < fewest:
            continue
        known, in_labels = depths[name, of_label], (name, True) in owners
        depth = sum(known) / len(known) if known else None
        parts.append(Part(name, "label" if of_label else "elsewhere" if in_labels else "other", depth))
        column = torch.zeros(len(subjects), dtype=torch.int8)
        column[list(elsewhere)], column[list(here)] = -1, 1
        columns.append(column)
    presence = torch.stack(columns, dim=1) if columns else torch.zeros(len(subjects), 0, dtype=torch.int8)
    return tuple(parts), presence
