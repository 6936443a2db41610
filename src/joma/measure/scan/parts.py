"""Find single tensors that are not those of their step: each is compared with its own course over the steps.

A tensor that was replaced, permuted, transposed or zeroed in one step is far from its values before and after, on the
same side of both, while the other tensors of that step are not. One that was copied from another step equals it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from joma.measure.scan.initialisation import EMBEDDING
from joma.measure.scan.ordering import SAME, Path, rightful
from joma.measure.scan.samples import FEWEST_TYPICAL, Courses, Detour
from joma.measure.scan.suspects import listed

SAME_SIDE_OF_ONE = 0.85
"""Cosine above which the steps before and after lie on the same side of a single tensor, which varies more."""

AWAY = 3.3
"""How many times farther away than the others of its step, each relative to its own course, a tensor is replaced."""

LEFT = 0.3
"""How much less of its old weights a tensor at the end of a series keeps than the others do if it was replaced."""

DAMAGED, DAMAGED_AT_AN_END, DAMAGED_BEFORE = 8.0, 32.0, 3.0
"""An entry is damaged if its detour, or its change at an end of the series, is this many typical movements, and this
many times the largest at other steps."""

SCALED, SCALED_APART = 0.015, 4.0
"""Common change of the logarithms of all norms, and how many times their deviations it is, of a scaled step."""

SCALED_ALONE, RADIAL, SIBLINGS = 4.5, 0.6, 2.0
"""A matrix is scaled alone if the change along itself is this many times that at the steps near it, if its cosine with
the whole change is above the second number, and if it is this many times that of the same matrix in other layers."""

FEW_STEPS = 6
"""Steps up to which there is little to compare a detour with."""

FEWEST_CHANGED, FEWEST_ALL = 30, 12
"""Changed entries from which equality with another step is no accident of rounding, and the same if all changed."""

FEWEST_ENTRIES = 16
"""Tensors with fewer entries are compared only for equality."""

_NEAR = 3


@dataclass(frozen=True)
class Part:
    """Tensors of a step that do not belong to it.

    Args:
        step: that they were found in.
        names: of the tensors.
        evidence: what was found, with numbers.
        is_sure: whether no training does this.
    """

    step: int
    names: list[str]
    evidence: str
    is_sure: bool = True


@dataclass(frozen=True)
class Tensors:
    """The inner products of the steps of a series, for each of its tensors.

    Args:
        steps: (K) ascending.
        names: (T) of the tensors.
        products: (T, K, K) inner products of the kept entries.
        num_entries: (T) how many are kept.
        rounding: (T) relative precision of the numbers.
        matrices: names of those with two axes or more.
    """

    steps: tuple[int, ...]
    names: tuple[str, ...]
    products: np.ndarray
    num_entries: np.ndarray
    rounding: np.ndarray
    matrices: frozenset[str]

    @classmethod
    def of(cls, courses: Courses, steps: Sequence[int]) -> Tensors:
        """Take some of the steps that were read."""
        names = tuple(name for name, part in courses.kept[steps[0]].items() if len(part)) if steps else ()
        products = np.zeros((len(names), len(steps), len(steps)))
        for idx, name in enumerate(names):
            points = torch.stack([courses.kept[step][name].double() for step in steps])
            products[idx] = (points @ points.T).numpy()
        sizes = np.array([len(courses.kept[steps[0]][name]) for name in names])
        rounding = np.array([max(torch.finfo(courses.kept[step][name].dtype).eps for step in steps) for name in names])
        return cls(tuple(steps), names, products, sizes, rounding, courses.matrices)

    def without(self, steps: Collection[int]) -> Tensors:
        """Leave out some steps."""
        places = [place for place, step in enumerate(self.steps) if step not in steps]
        rest = tuple(self.steps[place] for place in places)
        return replace(self, steps=rest, products=self.products[:, places][:, :, places])

    def path(self, chosen: np.ndarray | int) -> Path:
        """Return the path of one tensor, or of several together."""
        products = self.products[chosen]
        return Path(self.steps, torch.from_numpy(products if products.ndim == 2 else products.sum(0)))

    @property
    def norms(self) -> np.ndarray:
        """(T, K) norms."""
        return np.sqrt(np.diagonal(self.products, axis1=1, axis2=2))

    @property
    def distances(self) -> np.ndarray:
        """(T, K, K) distances between steps."""
        squares = self.norms**2
        return np.sqrt(np.maximum(0.0, squares[:, :, None] + squares[:, None] - 2 * self.products))

    @property
    def moves(self) -> np.ndarray:
        """(T) whether a tensor differs between any two steps."""
        return np.asarray((self.distances > SAME * self.norms[:, :, None]).any((1, 2)))


def detours(tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each tensor leaves its course at each step, and the cosine of the directions back to it.

    Returns:
        (T, K) the smaller distance to the steps before and after, relative to the usual length of the intervals near
        it or its rounding, as a logarithm; and (T, K) cosines. NaN at the first and last step, and where nothing moves.
    """
    D = tensors.distances
    num, last = len(tensors.steps), len(tensors.steps) - 1
    lengths = np.stack([D[:, place, place + 1] for place in range(last)], 1) if last > 0 else np.zeros((len(D), 0))
    away, cosine = np.full((2, len(D), num), np.nan)
    for place in range(1, last):
        before, after, across = lengths[:, place - 1], lengths[:, place], D[:, place - 1, place + 1]
        near = [other for other in range(place - _NEAR, place + _NEAR) if 0 <= other < last]
        usual = np.median(
            np.stack([across, *(lengths[:, other] for other in near if other not in (place - 1, place))]), 0
        )
        usual = np.maximum(usual, tensors.rounding * tensors.norms[:, place - 1])
        smaller = np.minimum(before, after)
        with np.errstate(divide="ignore", invalid="ignore"):
            away[:, place] = np.where((usual > 0) & (smaller > 0), np.log(smaller / usual), np.nan)
            cosine[:, place] = (before**2 + after**2 - across**2) / (2 * before * after)
    return away, cosine


def replaced_parts(tensors: Tensors) -> Iterator[Part]:
    """Find tensors that leave their course in one step, while other tensors of that step do not."""
    away, cosine = detours(tensors)
    large = tensors.num_entries >= FEWEST_ENTRIES
    for place, step in enumerate(tensors.steps):
        if np.isfinite(away[large, place]).any():
            usual = max(0.0, float(np.nanquantile(away[large, place], 0.25)))
            is_odd = large & (away[:, place] > usual + np.log(AWAY)) & (cosine[:, place] > SAME_SIDE_OF_ONE)
            if is_odd.any():
                worst = int(np.where(is_odd, away[:, place], -np.inf).argmax())
                yield Part(
                    step,
                    [tensors.names[idx] for idx in np.flatnonzero(is_odd)],
                    f"{tensors.names[worst]} is {np.exp(away[worst, place]):.3g} times as far from steps "
                    f"{tensors.steps[place - 1]:,} and {tensors.steps[place + 1]:,} as is usual for it, both on the "
                    f"same side (cosine {cosine[worst, place]:.2f}; the other tensors: {np.exp(usual):.2g} times)",
                )
    yield from _replaced_at_an_end(tensors)


def _replaced_at_an_end(tensors: Tensors) -> Iterator[Part]:
    """Find tensors of the first and last step that keep less of the weights next to them than other tensors do."""
    num = len(tensors.steps)
    for place, neighbour in ((0, 1), (num - 1, num - 2)) if num > 2 else ():
        old, new = min(place, neighbour), max(place, neighbour)
        squares = tensors.norms[:, old] ** 2
        large = (tensors.num_entries >= 4 * FEWEST_ENTRIES) & (squares > 0)
        zero = large & (tensors.norms[:, place] == 0) & (tensors.norms[:, neighbour] > 0)
        roles = [_role(name) for name in tensors.names]
        nonzero = {role for role, norm in zip(roles, tensors.norms[:, place], strict=True) if norm > 0}
        if place == 0:  # adapters and some heads begin with zeros, in all layers
            zero = (tensors.norms[:, 0] == 0) & (tensors.norms[:, 1] > 0)
            zero &= np.array([role in nonzero for role in roles], dtype=bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = tensors.products[:, old, new] / squares
            error = tensors.norms[:, new] / np.sqrt(squares * tensors.num_entries)
        clear = large & (error < LEFT / 3)
        usual = float(np.median(share[clear])) if clear.any() else 0.0
        is_odd = zero | (clear & (share < usual - LEFT) & _leaps(tensors, place, neighbour))
        if is_odd.any():
            names = [tensors.names[idx] for idx in np.flatnonzero(is_odd)]
            worst = int(np.flatnonzero(is_odd)[np.nan_to_num(share[is_odd]).argmin()])
            what = f"is in step {tensors.steps[new]:,} with a share of {share[worst]:.2f}"
            if place == new:
                what = f"has {share[worst]:.2f} of step {tensors.steps[old]:,}'s weights"
            what = "is zero" if zero[worst] else what
            yield Part(
                tensors.steps[place],
                names,
                f"{tensors.names[worst]} {what} (the other tensors: {usual:.2f} from step {tensors.steps[old]:,} to "
                f"{tensors.steps[new]:,})",
            )


def _leaps(tensors: Tensors, place: int, neighbour: int) -> np.ndarray:
    """Return which tensors move much farther in the interval at an end than in the next, compared with the others."""
    D, inner = tensors.distances, 2 * neighbour - place
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = D[:, place, neighbour] / D[:, neighbour, inner]
    moving = np.isfinite(ratio) & (ratio > 0)
    usual = max(1.0, float(np.quantile(ratio[moving], 0.25))) if moving.any() else 1.0
    return ~np.isfinite(ratio) | (ratio > 2 * usual)


def _role(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def scaled_steps(tensors: Tensors) -> Iterator[tuple[int, str]]:
    """Yield the steps all of whose weights are larger or smaller by one factor, with the evidence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(tensors.norms[tensors.num_entries >= FEWEST_ENTRIES])
    logs = logs[np.isfinite(logs).all(1)]
    if len(logs) < 2 or len(tensors.steps) < 3:
        return
    for place, step in enumerate(tensors.steps[1:], 1):  # after step 0 norms grow, and more than later
        before, after = (
            logs[:, place] - logs[:, place - 1],
            logs[:, place] - logs[:, min(place + 1, len(tensors.steps) - 1)],
        )
        change = (before + after) / 2 if place + 1 < len(tensors.steps) else before
        usual = logs[:, place - 1] - logs[:, place - 2] if place + 1 == len(tensors.steps) else before - after
        common = float(np.median(change))
        apart = float(np.median(abs(change - common)))
        if abs(common) > max(SCALED, SCALED_APART * apart, abs(float(np.median(usual)))):
            yield (
                step,
                f"its weights are {np.exp(common):.3f} times as large as those of the steps next to it, in all of "
                f"{len(logs)} tensors (deviations of {apart:.1%})",
            )


def scaled_parts(tensors: Tensors) -> Iterator[Part]:
    """Find matrices in layers that are larger or smaller by a factor in one step, between the first and the last."""
    roles = np.array([_role(name) for name in tensors.names])
    in_layers = [name in tensors.matrices and (roles == _role(name)).sum() > 1 for name in tensors.names]
    chosen = np.array(in_layers, dtype=bool) & (tensors.num_entries >= FEWEST_TYPICAL)
    names, roles, P = np.array(tensors.names)[chosen], roles[chosen], tensors.products[chosen]
    num = len(tensors.steps)
    radial, cosine = np.zeros((2, len(P), num))
    for k in range(1, num - 1):
        expected = (P[:, k - 1, k - 1] + P[:, k + 1, k + 1] + 2 * P[:, k - 1, k + 1]) / 4  # of the mean of the two
        along = (P[:, k - 1, k] + P[:, k, k + 1]) / 2
        change = np.maximum(P[:, k, k] + expected - 2 * along, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            radial[:, k] = np.nan_to_num(along / expected - 1, posinf=0, neginf=0)
            cosine[:, k] = np.nan_to_num(abs(radial[:, k]) * np.sqrt(expected / change), posinf=0)
    apart = abs(radial - np.median(radial, 0)) if len(P) else radial
    for idx, k in np.argwhere((apart > SCALED) & (cosine > RADIAL)):
        near = [other for other in range(max(1, k - 4), min(num - 1, k + 5)) if abs(other - k) > 1]
        siblings = (roles == roles[idx]) & (names != names[idx])
        usual = max(0.004, 1.5 * float(np.median(apart[:, k])), *apart[idx, near])
        if near and apart[idx, k] > max(SCALED_ALONE * usual, SIBLINGS * float(apart[siblings, k].max())):
            evidence = (
                f"{names[idx]} is {1 + radial[idx, k]:.3f} times as large as between the steps before and after "
                f"(usual deviations of at most {usual:.1%})"
            )
            yield Part(tensors.steps[k], [str(names[idx])], evidence, is_sure=False)


def damaged_entries(courses: Courses) -> Iterator[tuple[int, str]]:
    """Yield the steps of which single entries leave their course alone, as flipped bits do, with the evidence."""
    found: dict[int, list[tuple[float, str]]] = {}
    few = len(courses.steps) <= FEW_STEPS
    for name, by_step in courses.detours.items():
        for step, detour in by_step.items():
            if (others := _alone(by_step, step, 4 * DAMAGED if few else DAMAGED)) is not None:
                where = f"{name} is {detour.here:.4g}, but {detour.before:.4g} before and {detour.after:.4g} after"
                found.setdefault(step, []).append((detour.size, f"{where}: {_times(detour.size, others, 'steps')}"))
    for name, by_step in courses.leaps.items() if not few else ():
        for step, later in ((courses.steps[0], courses.steps[1]), (courses.steps[-1], courses.steps[-1])):
            others = _alone(by_step, later, DAMAGED_AT_AN_END) if len(by_step) >= FEW_STEPS else None
            if others is not None:
                leap = by_step[later]
                here, there = (leap.here, leap.before) if step == later else (leap.before, leap.here)
                where = f"{name} is {here:.4g}, but {there:.4g} at the step next to it"
                found.setdefault(step, []).append((leap.size, f"{where}: {_times(leap.size, others, 'intervals')}"))
    for step, rows in found.items():
        more = f"; so do entries of {len(rows) - 1} more tensors" if rows[1:] else ""
        yield step, f"one entry of {max(rows)[1]}{more}"


def _alone(by_step: Mapping[int, Detour], step: int, least: float) -> float | None:
    """Return the largest size at the other steps if that of one step is far above it; ``None`` if it is not."""
    others = max((other.size for place, other in by_step.items() if place != step), default=0.0)
    return others if step in by_step and by_step[step].size > max(least, DAMAGED_BEFORE * others) else None


def _times(size: float, others: float, where: str) -> str:
    return f"{size:.3g} times the usual movement (at most {others:.3g} times at other {where})"


def copied_parts(courses: Courses, tensors: Tensors, *, whole: bool) -> Iterator[Part]:
    """Find tensors that equal those of another step although training changed them in between.

    Args:
        courses: of all steps.
        tensors: their inner products, of the same steps.
        whole: whether everything was read; else embeddings, many of whose rows pause, are not compared.
    """
    pairs: dict[tuple[int, int, bool], list[int]] = {}
    for idx, name in enumerate(tensors.names):
        for first, second, is_sure in _recurring(courses, name) if whole or not EMBEDDING.search(name) else ():
            if courses.digests[courses.steps[first]] != courses.digests[courses.steps[second]]:
                pairs.setdefault((first, second, is_sure), []).append(idx)
    rare = len({pair[:2] for pair in pairs}) <= max(2, len(courses.steps) // 5)
    for (first, second, is_sure), equal in pairs.items():
        others = np.delete(np.arange(len(tensors.names)), equal)
        path, usual = tensors.path(np.array(equal)), tensors.path(others if len(others) else np.array(equal))
        owner = rightful(path, [first, second], usual)
        copy = second if owner == first else first
        names = listed([tensors.names[idx] for idx in equal])
        evidence = (
            f"{len(equal)} of {len(tensors.names)} tensors are exactly those of step {courses.steps[owner]:,} ({names})"
        )
        evidence += "" if is_sure else "; training that pauses for them does this too"
        yield Part(courses.steps[copy], [tensors.names[idx] for idx in equal], evidence, is_sure and rare)


def _recurring(courses: Courses, name: str) -> Iterator[tuple[int, int, bool]]:
    """Yield pairs of indices of equal tensors with the changes between or around them, and whether they are a fault."""
    digests = [courses.digests[step][name] for step in courses.steps]
    changed, last = courses.changed.get(name, []), len(digests) - 1
    fewest = min(FEWEST_CHANGED, max(FEWEST_ALL, len(courses.kept[courses.steps[0]][name])))
    runs = [list(group) for _, group in groupby(range(len(digests)), key=lambda place: digests[place])]
    seen: dict[bytes, list[int]] = {}
    for run in runs:
        earlier = seen.setdefault(digests[run[0]], run)
        is_alone = (
            run[0] - earlier[-1] == 2 and len(earlier) + len(run) > 2
        )  # one other step in a stretch without change
        if earlier is not run and not is_alone and max(changed[earlier[-1] : run[0]]) >= fewest:
            yield earlier[-1], run[0], True
        elif len(run) == 2 and last > 2:
            around = [changed[place] for place in (run[0] - 1, run[1]) if 0 <= place < last]
            if min(around) >= fewest:
                yield run[0], run[1], len(around) == 2
