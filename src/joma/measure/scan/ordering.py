"""Whether points in the order of their steps lie on a path: which are out of line, and where it is torn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

SAME_SIDE = 0.6
"""Cosine above which two neighbours lie on the same side: above the 1/2 that noise around one point can reach."""

TORN = 10.0
"""How many times further than its neighbours' speed allows an interval may reach before it is a jump."""

TORN_APART = 4.0
"""The same where the two ends have hardly anything in common."""

NEARER = 0.8
"""A step counts as nearer to another one than to its neighbours below this share of their distance."""

STRANGERS = 0.2
"""Cosine of two weight vectors below which they have hardly anything in common."""


@dataclass(frozen=True)
class Outlier:
    """A step that does not lie where it should, and how that shows."""

    step: int
    evidence: str


@dataclass(frozen=True)
class Path:
    """Points in the order of their steps, by their inner products.

    Args:
        steps: ascending.
        products: (n, n) inner products of all pairs.
    """

    steps: tuple[int, ...]
    products: Tensor

    @classmethod
    def through(cls, samples: Mapping[int, Tensor]) -> Path:
        """The path through samples by step, each (d,)."""
        steps = tuple(sorted(samples))
        points = torch.stack([samples[step] for step in steps]) if steps else torch.zeros(0, 1)
        return cls(steps, points @ points.T)

    def distance(self, one: int, other: int) -> float:
        """Between two points, by their places on the path."""
        P = self.products
        return max(0.0, float(P[one, one] + P[other, other] - 2 * P[one, other])) ** 0.5

    def cosine(self, one: int, other: int) -> float:
        """Of two points seen from the origin."""
        P = self.products
        return float(P[one, other] / (P[one, one] * P[other, other]).sqrt().clamp_min(1e-300))

    def seen_from(self, centre: int, one: int, other: int) -> float:
        """Cosine of the directions in which a point sees two others; 0 where one of them is in the same place."""
        P = self.products
        inner = float(P[one, other] - P[one, centre] - P[centre, other] + P[centre, centre])
        scale = self.distance(centre, one) * self.distance(centre, other)
        return inner / scale if scale > 0 else 0.0


def out_of_line(path: Path) -> Iterator[Outlier]:
    """Steps that were exchanged, or else those without which every other one lies between its neighbours."""
    order = list(range(len(path.steps)))
    while _bends(path, order) > 0:
        if (pair := _exchanged(path, order)) is not None:
            for step, other in (pair, pair[::-1]):
                yield Outlier(
                    path.steps[step],
                    f"{_where(path, order, step)}; with steps {path.steps[pair[0]]} and {path.steps[pair[1]]} "
                    f"exchanged, every step lies between its neighbours (this one is step {path.steps[other]}'s)",
                )
            return
        culprit = min(order, key=lambda place: _rank(path, order, place))
        yield Outlier(path.steps[culprit], _where(path, order, culprit))
        order.remove(culprit)


def _exchanged(path: Path, order: Sequence[int]) -> tuple[int, int] | None:
    """Two points whose exchange leaves nothing out of line nor torn; those that make the shortest path."""
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
                if not any(torn(Path(steps, path.products[there][:, there]), TORN_APART / 2)):
                    found.append((_length(path, swapped), min(one, other), max(one, other)))
    return min(found)[1:] if found else None


def torn(path: Path, strangers_apart: float = TORN_APART) -> Iterator[Outlier]:
    """Steps at a jump: much further than the neighbouring intervals reach, at their speed for its length.

    Args:
        path: in line.
        strangers_apart: how many times as far, for two ends that have hardly anything in common.
    """
    steps, last = path.steps, len(path.steps) - 1
    for place in range(last):
        near = [other for other in (place - 1, place + 1) if 0 <= other < last]
        length = path.distance(place, place + 1)
        reach = max((_reach(path, other, steps[place + 1] - steps[place]) for other in near), default=length)
        ratio = length / reach if reach > 0 else 1.0
        cosine = path.cosine(place, place + 1)
        if ratio > TORN or (ratio > strangers_apart and cosine < STRANGERS):
            culprit = place if place == 0 and last > 1 else place + 1
            yield Outlier(
                steps[culprit],
                f"from step {steps[place]} to {steps[place + 1]} the weights move {ratio:.1f} times as far as the "
                f"intervals beside this one allow (cosine of the two: {cosine:.2f})",
            )


def _reach(path: Path, place: int, num_steps: int) -> float:
    """How far an interval of so many steps would go at the speed of another one, if that is longer."""
    own = path.steps[place + 1] - path.steps[place]
    return path.distance(place, place + 1) * max(1.0, num_steps / own)


def _bends(path: Path, order: Sequence[int]) -> float:
    """By how much neighbours lie on the same side, over the whole order."""
    triples = zip(order, order[1:], order[2:], strict=False)
    return sum(max(0.0, path.seen_from(centre, one, other) - SAME_SIDE) for one, centre, other in triples)


def _rank(path: Path, order: Sequence[int], place: int) -> tuple[float, float]:
    """How bent the path is without a point, and how long."""
    rest = [other for other in order if other != place]
    return _bends(path, rest), _length(path, rest)


def _length(path: Path, order: Sequence[int]) -> float:
    return sum(path.distance(one, other) for one, other in pairwise(order))


def _where(path: Path, order: Sequence[int], culprit: int) -> str:
    """What speaks against a point's place, and which other is near."""
    at = order.index(culprit)
    beside = [order[other] for other in (at - 1, at + 1) if 0 <= other < len(order)]
    if len(beside) == 2:
        names, cosine = " and ".join(str(path.steps[other]) for other in beside), path.seen_from(culprit, *beside)
        said = f"it sees steps {names} at a cosine of {cosine:.2f} (on one side; 0 or less on a path, 0.5 in noise)"
    else:
        said = f"with it, step {path.steps[beside[0]]} has both neighbours on one side"
    nearest = min((other for other in order if other != culprit), key=lambda other: path.distance(culprit, other))
    share = path.distance(culprit, nearest) / max(min(path.distance(culprit, other) for other in beside), 1e-300)
    if share > NEARER:
        return f"{said} and is no nearer to any other step"
    return f"{said} and is nearest to step {path.steps[nearest]}, at {share:.2f} of the distance to those"
