"""Counts of the hierarchies that a decoder can express, among all small ones and in the paper's grid.

``python -m joma.expressive.counts`` prints the tables of docs/expressiveness.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product
from typing import NamedTuple

import numpy as np

from joma.expressive.separable import Sets, accidents, inseparable, one_layer_fewer, table_of
from joma.expressive.weights import needs
from joma.problem.combinatorial import ambiguous_labels, random_hierarchy


class Count(NamedTuple):
    """Numbers of hierarchies of one shape.

    Args:
        shape: numbers of tokens, of latents of each level from below, and of classes.
        hierarchies: all hierarchies, up to the order of latents and of classes.
        ambiguous: those in which two classes have the same tokens; they are not counted below.
        accidents: those in which all members of some latent are present without it in some class.
        front_layer: those in which a latent of level 0 cannot be a unit of the first layer.
        one_fewer: those in which every latent can be one layer lower; ``None`` if no layer would be left.
    """

    shape: str
    hierarchies: int
    ambiguous: int
    accidents: int
    front_layer: int
    one_fewer: int | None


SHAPES = (
    *(((5, 4, 4), 2), ((5, 5, 5), 2), ((5, 5, 6), 2), ((5, 5, 7), 2), ((5, 5, 8), 2)),
    *(((5, 4, 3, 2), 2), ((5, 5, 3, 3), 2), ((5, 4, 4, 4), 2), ((5, 5, 5, 8), 1)),
)
"""Numbers of tokens, of latents of each level and of classes, and tokens per latent; other sets are pairs."""


def count_small(numbers: Sequence[int], lowest_set_size: int = 2) -> Count:
    """Count the hierarchies of ``small_hierarchies`` by their needs."""
    counted = Counter[str]()
    two_levels = len(numbers) > 3
    for members in small_hierarchies(numbers, lowest_set_size):
        seen = table_of(members, numbers[0])
        counted["hierarchies"] += 1
        if len(np.unique(seen.tokens, axis=0)) < len(seen.tokens):
            counted["ambiguous"] += 1
            continue
        below = [seen.tokens, *seen.presence]
        levels = zip(members[:-1], below[:-1], seen.presence, strict=True)
        front = bool(inseparable(seen, 0))
        counted["accidents"] += any(accidents(*level).any() for level in levels)
        counted["front_layer"] += front
        counted["one_fewer"] += two_levels and not front and not inseparable(seen, 1)
    names = Count._fields[1:-1]
    shape = " / ".join(map(str, numbers)) + (" (one token each)" if lowest_set_size == 1 else "")
    return Count(shape, *(counted[name] for name in names), counted["one_fewer"] if two_levels else None)


def small_hierarchies(numbers: Sequence[int], lowest_set_size: int = 2) -> Iterator[tuple[Sets, ...]]:
    """Yield every hierarchy of distinct sets, up to renaming tokens and reordering latents and classes.

    Args:
        numbers: numbers of tokens, of latents of each level from below, and of classes.
        lowest_set_size: tokens per latent of level 0; all other sets are pairs.
    """
    below, *above = numbers
    kept: set[Sets] = set()
    for sets in combinations(combinations(range(below), lowest_set_size), above[0]):
        renamed = min(_renamed(sets, names) for names in permutations(range(below)))
        if renamed not in kept:
            kept.add(renamed)
            for rest in _pairs_above(above):
                yield (sets, *rest)


def _renamed(sets: Sets, names: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted(tuple(sorted(names[member] for member in members)) for members in sets))


def _pairs_above(numbers: Sequence[int]) -> Iterator[tuple[Sets, ...]]:
    below, *above = numbers
    if not above:
        yield ()
        return
    for sets in combinations(combinations(range(below), 2), above[0]):
        for rest in _pairs_above(above):
            yield (sets, *rest)


class GridRow(NamedTuple):
    """The needs of the construction in one cell of the paper's grid.

    Args:
        classes, set_size, latents: the hierarchy.
        width, hidden: the largest values over seeds.
        ambiguous: number of seeds with which classes have the same tokens unless ``distinct_inputs`` is set.
        front_layer: number of seeds with which level 0 needs a front layer, so that there are three layers.
        one_fewer: number of seeds with which every latent can be one layer lower.
    """

    classes: int
    set_size: int
    latents: str
    width: int
    hidden: int
    ambiguous: int
    front_layer: int
    one_fewer: int


def grid_row(num_classes: int, set_size: int, level_sizes: Sequence[int], seeds: Sequence[int] = range(5)) -> GridRow:
    """Evaluate the seeds of one cell of the paper's grid, with classes that have different tokens."""
    drawn = [random_hierarchy(num_classes, level_sizes, set_size, seed=seed) for seed in seeds]
    laws = [random_hierarchy(num_classes, level_sizes, set_size, distinct_inputs=True, seed=seed) for seed in seeds]
    sizes = [needs(law) for law in laws]
    return GridRow(
        num_classes,
        set_size,
        ", ".join(map(str, level_sizes)),
        max(size.width for size in sizes),
        max(size.hidden for size in sizes),
        sum(bool(ambiguous_labels(law)) for law in drawn),
        sum(size.num_front_layers for size in sizes),
        sum(one_layer_fewer(law).possible for law in laws),
    )


def main() -> None:
    """Print both tables."""
    _print_table(Count._fields, [count_small(*shape) for shape in SHAPES])
    print()
    cells = product((20, 30, 50), (2, 3), ((10, 20), (20, 30)))
    _print_table(GridRow._fields, [grid_row(*cell) for cell in cells])


def _print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join('–' if cell is None else str(cell) for cell in cells)} |")


if __name__ == "__main__":
    main()
