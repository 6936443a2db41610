"""The way down a combinatorial hierarchy, for a batch of samples at once: only what lies below a class takes part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from joma.arrays import REAL
from joma.problem.draws import left_padded, random_events, random_places

Members = tuple[int, ...]
"""A set of members of the level below, rising."""

Level = tuple[tuple[Members, ...], ...]
"""For each latent, its alternative sets."""


class Paths(NamedTuple):
    """What lies below each of C classes: at most W latents of each level.

    Args:
        latents: for the classes themselves and each level below, the highest first, (C, W) numbers of latents plus 1;
            0 where a class has fewer.
        children: (rows, c) columns of the next level's ``latents`` (of ``tokens`` at the end) plus 1, or 0: a row for
            each alternative of each latent below each class.
        first_rows: (C, sum of W) the row of each latent's first alternative.
        num_alternatives: (C, sum of W), or ``None`` where every latent has one.
        tokens: (C, W), with padding where a class has fewer.
        level_sizes: of the levels of latents, the highest first.
        padding: the token that fills sequences in front.
    """

    latents: tuple[Tensor, ...]
    children: Tensor
    first_rows: Tensor
    num_alternatives: Tensor | None
    tokens: Tensor
    level_sizes: tuple[int, ...]
    padding: int


@lru_cache(maxsize=32)
def paths_below(members: tuple[Level, ...], padding: int, device: torch.device) -> Paths:
    """Return the paths below each class, kept for the next call.

    Args:
        members: of each level, that just above the tokens first and the classes last.
        padding: the token that fills sequences in front.
        device: where the tables live.
    """
    above = [[label] for label in range(len(members[-1]))]
    latents, first_rows, counts, children = [], [], [], [[0]]
    for level in reversed(members):
        below = [sorted({child for latent in row for chosen in level[latent] for child in chosen}) for row in above]
        firsts = torch.zeros(len(above), max(map(len, above)), dtype=torch.int64)  # row 0 has no children
        for label, (row, found) in enumerate(zip(above, below, strict=True)):
            place = {child: idx for idx, child in enumerate(found, 1)}
            for column, latent in enumerate(row):
                firsts[label, column] = len(children)
                children += [[place[child] for child in chosen] for chosen in level[latent]]
        latents.append(_padded([[latent + 1 for latent in row] for row in above], 0).to(device))
        counts.append(_padded([[len(level[latent]) for latent in row] for row in above], 1))
        first_rows.append(firsts)
        above = below
    num_alternatives = torch.cat(counts, 1)
    return Paths(
        tuple(latents),
        _padded(children, 0).to(device),
        torch.cat(first_rows, 1).to(device),
        num_alternatives.to(device) if int(num_alternatives.max()) > 1 else None,
        _padded(above, padding).to(device),
        tuple(len(level) for level in reversed(members[:-1])),
        padding,
    )


def walk(
    paths: Paths, labels: Int[Tensor, " B"], length: int, show_probability: float, generator: torch.Generator
) -> tuple[Int[Tensor, "B L"], tuple[Bool[Tensor, "B n"], ...]]:
    """Walk from the classes down, and return tokens and the presence of every level of latents, the lowest first.

    Args:
        paths: on the generator's device, like the labels.
        labels: the class of each sample.
        length: L.
        show_probability: with which a latent that is there shows each of its members.
        generator: where randomness comes from.
    """
    num = len(labels)
    shown = _shown(paths, labels, show_probability, generator)
    presence: list[Tensor] = []
    # The classes are there. Present is 0 or 1 in int64, as columns are: other kinds would be converted each time.
    present = torch.ones(num, 1, dtype=torch.int64, device=labels.device)
    below = [*paths.latents[1:], paths.tokens]
    sizes = [*paths.level_sizes, None]
    widths = [latents.shape[1] for latents in paths.latents]
    for shown_here, under, size in zip(shown.split(widths, 1), below, sizes, strict=True):
        columns = (shown_here * present[:, :, None]).flatten(1)
        present = columns.new_zeros(num, under.shape[1] + 1).scatter_(1, columns, 1)[:, 1:]  # column 0: nothing
        if size is not None:
            everywhere = torch.zeros(num, size + 1, dtype=torch.bool, device=labels.device)
            everywhere.scatter_(1, under.index_select(0, labels) * present, True)
            presence.append(everywhere[:, 1:].contiguous())
    tokens = left_padded(present, paths.tokens.index_select(0, labels), length, paths.padding)
    return tokens, tuple(reversed(presence))


def _shown(paths: Paths, labels: Tensor, show_probability: float, generator: torch.Generator) -> Int[Tensor, "B W c"]:
    """The columns that each latent shows if it is there itself, drawn once for each; 0 for none."""
    if paths.num_alternatives is None:
        columns = paths.children[paths.first_rows].index_select(0, labels)
    else:
        chosen = random_places(paths.num_alternatives.index_select(0, labels), generator)
        rows = chosen.add_(paths.first_rows.index_select(0, labels))
        columns = paths.children.index_select(0, rows.flatten()).view(*rows.shape, -1)
    if show_probability == 1:
        return columns
    probability = torch.tensor(show_probability, dtype=REAL, device=generator.device)
    return columns * random_events(probability, columns.shape, generator).long()


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
