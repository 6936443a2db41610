"""Check whether weights in the order of their steps lie on a path: find steps out of order, and jumps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

SAME_SIDE = 0.6
"""Cosine above which two neighbours lie on the same side: above the 1/2 of noise around one point."""

JUMP = 10.0
"""An interval is a jump if it is this many times longer than the speed in the neighbouring intervals allows."""

JUMP_IF_UNRELATED = 4.0
"""The same number if the weights at the two ends are unrelated."""

NEARER = 0.8
"""A step counts as nearer to another one than to its neighbours below this fraction of their distance."""

UNRELATED = 0.2
"""Cosine of two weight vectors below which they count as unrelated."""

SAME = 1e-6
"""Relative distance that rounding of inner products in float64 does not reach."""

KEPT = 0.4
"""Share of the old weights in the new ones above which training moved them, however far; by chance it is 0."""


@dataclass(frozen=True)
class Outlier:
    """A step that does not fit into the path.

    Args:
        step: its number.
        evidence: what was found, with numbers.
        may_be_training: whether the weights before it are contained in its weights, and it is not nearer to another
            step: training that leaves its course, as with a large learning rate, does this too.
        exchanged_with: the step whose weights it has, if that has its own.
    """

    step: int
    evidence: str
    may_be_training: bool = False
    exchanged_with: int | None = None


@dataclass(frozen=True)
class Path:
    """Points in the order of their steps, given by their inner products.

    Args:
        steps: ascending.
        products: (n, n) inner products of all pairs.
    """

    steps: tuple[int, ...]
    products: Tensor

    @classmethod
    def through(cls, samples: Mapping[int, Tensor]) -> Path:
        """Return the path through samples by step, each (d,)."""
        steps = tuple(sorted(samples))
        points = torch.stack([samples[step] for step in steps]) if steps else torch.zeros(0, 1)
        return cls(steps, points @ points.T)

    def distance(self, one: int, other: int) -> float:
        """Return the distance between two points, given by their indices; 0 below the rounding of products."""
        P = self.products
        square = float(P[one, one] + P[other, other] - 2 * P[one, other])
        return square**0.5 if square > SAME**2 * float(P[one, one]) else 0.0

    def cosine(self, one: int, other: int) -> float:
        """Return the cosine of two points as vectors."""
        P = self.products
        return float(P[one, other] / (P[one, one] * P[other, other]).sqrt().clamp_min(1e-300))

    def kept(self, old: int, new: int) -> float:
        """Return the share of the old weights in the new ones: 1 if what was added is orthogonal to the old."""
        return float(self.products[old, new] / self.products[old, old].clamp_min(1e-300))

    def without(self, steps: Collection[int]) -> Path:
        """Return the path without some steps."""
        places = [place for place, step in enumerate(self.steps) if step not in steps]
        return Path(tuple(self.steps[place] for place in places), self.products[places][:, places])

    def seen_from(self, centre: int, one: int, other: int) -> float:
        """Return the cosine of the directions from ``centre`` to two points; 0 if one of them equals ``centre``."""
        P = self.products
        inner = float(P[one, other] - P[one, centre] - P[centre, other] + P[centre, centre])
        scale = self.distance(centre, one) * self.distance(centre, other)
        return inner / scale if scale > 0 else 0.0


def out_of_line(path: Path) -> Iterator[Outlier]:
    """Yield two exchanged steps, or else the steps without which all others lie between their neighbours."""
    order = list(range(len(path.steps)))
    while _bends(path, order) > 0:
        if (pair := _exchanged(path, order)) is not None:
            for step, other in (pair, pair[::-1]):
                yield Outlier(
                    path.steps[step],
                    f"{_where(path, order, step)[0]}; with steps {path.steps[pair[0]]} and {path.steps[pair[1]]} "
                    f"exchanged, every step lies between its neighbours (this one is step {path.steps[other]}'s)",
                    exchanged_with=path.steps[other],
                )
            return
        rests = {place: [other for other in order if other != place] for place in order}
        culprit = min(order, key=lambda place: (_bends(path, rests[place]), _length(path, rests[place])))
        evidence, is_nearer = _where(path, order, culprit)
        yield Outlier(path.steps[culprit], evidence, not is_nearer and _continues(path, order, culprit))
        order.remove(culprit)


def _exchanged(path: Path, order: Sequence[int]) -> tuple[int, int] | None:
    """Return the two points whose exchange gives the shortest path without bends and jumps; ``None`` if none does."""
    bent = {
        place
        for triple in zip(order, order[1:], order[2:], strict=False)
        if path.seen_from(triple[1], triple[0], triple[2]) > SAME_SIDE
        for place in triple
    }
    found = []
    for one in sorted(bent):
        for other in order:
            swap = {one: other, other: one}
            swapped = [swap.get(place, place) for place in order]
            if one != other and _bends(path, swapped) == 0:
                there = torch.tensor(swapped)
                steps = tuple(path.steps[place] for place in order)
                if not any(jumps(Path(steps, path.products[there][:, there]), JUMP_IF_UNRELATED / 2)):
                    found.append((_length(path, swapped), min(one, other), max(one, other)))
    return min(found)[1:] if found else None


def jumps(path: Path, if_unrelated: float = JUMP_IF_UNRELATED) -> Iterator[Outlier]:
    """Yield the steps at jumps: at intervals much longer than the speed in the neighbouring intervals allows.

    Args:
        path: without steps out of order.
        if_unrelated: how many times longer an interval between unrelated weights must be.
    """
    steps, last = path.steps, len(path.steps) - 1
    for place in range(last):
        near = [other for other in (place - 1, place + 1) if 0 <= other < last]
        length = path.distance(place, place + 1)
        reach = max((_reach(path, other, steps[place + 1] - steps[place]) for other in near), default=length)
        ratio = length / reach if reach > 0 else 1.0
        cosine = path.cosine(place, place + 1)
        if ratio > JUMP or (ratio > if_unrelated and cosine < UNRELATED):
            culprit = place if place == 0 and last > 1 else place + 1
            kept = path.kept(place, place + 1)
            yield Outlier(
                steps[culprit],
                f"from step {steps[place]} to {steps[place + 1]} the weights move {ratio:.1f} times as far as the "
                f"neighbouring intervals allow (cosine of the two: {cosine:.2f}; share of the old weights in the new: "
                f"{kept:.2f})",
                kept > KEPT,
            )


def rightful(path: Path, group: Sequence[int], usual: Path | None = None) -> int:
    """Return to which of several points with equal weights, given by their indices, these belong.

    It is the one nearest to a neighbour outside the group, or the last without neighbours. Points between the same
    neighbours differ in the shares of the way that lie before and after them.

    Args:
        path: of the weights.
        group: indices of the points.
        usual: a path on which the shares of the way are known; in proportion to the numbers of steps if ``None``.
    """
    others = [place for place in range(len(path.steps)) if place not in group]
    if not others:
        return group[-1]

    def misfit(place: int) -> tuple[float, float]:
        before, after = [other for other in others if other < place][-1:], [other for other in others if other > place]
        neighbours = [*before, *after[:1]]
        lengths = [path.distance(place, other) for other in neighbours]
        expected = [
            usual.distance(place, other) if usual else abs(path.steps[place] - path.steps[other])
            for other in neighbours
        ]
        shares = [part[0] / max(sum(part), 1e-300) for part in (lengths, expected)]
        return float(f"{min(lengths):.5g}"), abs(shares[0] - shares[1])

    return min(group, key=misfit)


def _reach(path: Path, place: int, num_steps: int) -> float:
    """Return the length of an interval, scaled up in proportion if ``num_steps`` is more than its own number."""
    own = path.steps[place + 1] - path.steps[place]
    return path.distance(place, place + 1) * max(1.0, num_steps / own)


def _continues(path: Path, order: Sequence[int], culprit: int) -> bool:
    """Return whether the weights of the step before a point, or else of the point itself, are in the next ones."""
    at = order.index(culprit)
    pairs = [order[start : start + 2] for start in (at - 1, at) if start >= 0 and start + 2 <= len(order)]
    return path.kept(*pairs[0]) > KEPT


def _bends(path: Path, order: Sequence[int]) -> float:
    """Return by how much neighbours lie on the same side, summed over all points."""
    triples = zip(order, order[1:], order[2:], strict=False)
    return sum(max(0.0, path.seen_from(centre, one, other) - SAME_SIDE) for one, centre, other in triples)


def _length(path: Path, order: Sequence[int]) -> float:
    return sum(path.distance(one, other) for one, other in pairwise(order))


def _where(path: Path, order: Sequence[int], culprit: int) -> tuple[str, bool]:
    """Describe why a point does not fit at its place, and whether it is nearer to a point that is not next to it."""
    at = order.index(culprit)
    neighbours = [order[other] for other in (at - 1, at + 1) if 0 <= other < len(order)]
    if len(neighbours) == 2:
        names = " and ".join(str(path.steps[other]) for other in neighbours)
        cosine = path.seen_from(culprit, *neighbours)
        evidence = f"steps {names} lie on the same side of it (cosine {cosine:.2f}; 0 or less on a path, 0.5 in noise)"
    else:
        evidence = f"with it, step {path.steps[neighbours[0]]} has both neighbours on the same side"
    nearest = min((other for other in order if other != culprit), key=lambda other: path.distance(culprit, other))
    share = path.distance(culprit, nearest) / max(min(path.distance(culprit, other) for other in neighbours), 1e-300)
    if share > NEARER:
        return f"{evidence}; it is not nearer to any other step", False
    near = f"it is nearest to step {path.steps[nearest]}, at {share:.2f} times the distance to these"
    return f"{evidence}; {near}", True
