"""Phases of a curve of attention entropy over training: when it stands still, falls, rises, and where it collapses.

A curve is cut into straight pieces on a logarithmic axis of steps, by the number of pieces that least squares with a
penalty on each piece prefers. Pieces are then named by how far and how fast they move, and equal neighbours are joined.
A single probe that lies far from its neighbours is replaced by their median first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from joma.errors import InvalidArgument
from joma.measure.curves.signs import COLLAPSED, lasting_from

Phase = Literal["scanning", "sparsifying", "densifying", "collapsed", "idle"]
"""What attention does.

``scanning``: as at the start, before it first moves. ``sparsifying``: entropy falls. ``densifying``: it rises.
``collapsed``: it is below ``COLLAPSED`` of its highest level. ``idle``: it stands still.
"""

LEAST = 0.02
"""Share of the highest level below which a change does not count."""

FEWEST_PROBES = 6
MOST_PROBES = 160
"""Longer curves are thinned: medians of neighbouring probes, equally many on a logarithmic axis."""

_PENALTY = 4.0  # times the noise's variance and ln(probes), for each of a piece's three numbers
_SHORTEST = 2  # probes in a piece
_CLEAR = 4.0  # standard errors from which a change is no noise
_SURE = 3.84  # the 95 % point of chi squared with one degree of freedom


@dataclass(frozen=True)
class Stage:
    """A stretch of steps in one phase.

    Args:
        phase: what attention does.
        since: the step at which it begins.
        since_low, since_high: the 95 % interval of that step, between probes; equal to it for the first stage.
        until: the last step.
        start, end: levels of the fit, in the unit of the curve.
    """

    phase: Phase
    since: int
    since_low: int
    since_high: int
    until: int
    start: float
    end: float


def stages(steps: Sequence[int], values: Sequence[float]) -> list[Stage]:
    """Return the phases of one curve of attention entropy, in order.

    Args:
        steps: (N,) at which it was measured, ascending.
        values: (N,) in any unit that is 0 where one key takes all attention; finite.

    Returns:
        One stage or more, which cover all steps. A curve of fewer than ``FEWEST_PROBES`` probes has none.

    Raises:
        InvalidArgument: steps that do not ascend, or numbers that are not finite.
    """
    at, curve = np.asarray(steps, dtype=np.int64), np.asarray(values, dtype=np.float64)
    if at.shape != curve.shape or at.ndim != 1 or (np.diff(at) <= 0).any() or not np.isfinite(curve).all():
        raise InvalidArgument(
            "stages",
            "steps",
            required="ascending steps, each with a finite value",
            received=f"{at.shape} steps and {curve.shape} values",
            remedy="sort by step, and leave out steps without a value",
        )
    if len(at) < FEWEST_PROBES:
        return []
    at, curve = _thinned(at, without_outliers(curve))
    highest = float(curve.max())
    if highest <= 0:
        return [Stage("collapsed", *[int(at[0])] * 3, int(at[-1]), float(curve[0]), float(curve[-1]))]
    x = np.log1p((at - at[0]) / (at[1] - at[0]))
    noise = max(_noise(curve), 1e-3 * LEAST * highest)
    bounds = _pieces(x, curve, noise)
    pieces = [_piece(at, x, curve, between, noise, highest) for between in pairwise(bounds)]
    found = _joined(_with_jumps(pieces, at, max(LEAST * highest, _CLEAR * noise)))
    surely = [_surely(at, x, curve, bounds, int(np.searchsorted(at, stage.since)), noise) for stage in found]
    found = [replace(stage, since_low=low, since_high=high) for stage, (low, high) in zip(found, surely, strict=True)]
    return _with_collapse(_with_start(found), at, curve, COLLAPSED * highest)


def without_outliers(curve: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Replace single values that lie far from the median of their neighbours, and outside the two next to them.

    The first and the last value are kept: whether they begin a movement cannot be seen. So are fewer than 5 values.
    """
    if len(curve) < 5:
        return curve
    padded = np.pad(curve, 2, constant_values=np.nan)
    around = np.stack([padded[2 + shift : len(curve) + 2 + shift] for shift in (-2, -1, 1, 2)])
    middle = np.nanmedian(around, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(around - middle), axis=0)
    typical = 1.4826 * np.median(np.abs(np.diff(curve)))
    is_peak = (curve > np.nanmax(around[1:3], axis=0)) | (curve < np.nanmin(around[1:3], axis=0))
    odd = is_peak & (np.abs(curve - middle) > 5 * np.maximum(spread, typical))
    odd[[0, -1]] = False
    return np.where(odd, middle, curve)


def _thinned(
    at: Int[np.ndarray, " N"], curve: Float[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    if len(at) <= MOST_PROBES:
        return at, curve
    place = np.log1p(at - at[0])
    bins = np.minimum((place / place[-1] * MOST_PROBES).astype(int), MOST_PROBES - 1)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    groups = np.split(np.arange(len(at)), starts[1:])
    return np.array([at[group[-1]] for group in groups]), np.array([np.median(curve[group]) for group in groups])


def _noise(curve: Float[np.ndarray, " N"]) -> float:
    """Return the standard deviation of single probes about a smooth course, by their second differences."""
    bends = np.diff(curve, 2)
    return float(1.4826 * np.median(np.abs(bends)) / np.sqrt(6))


class _Costs:
    """The squared error of the straight line through any stretch of a curve, in constant time."""

    def __init__(self, x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> None:
        parts = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
        self._sums = np.concatenate([np.zeros((6, 1)), parts.cumsum(axis=1)], axis=1)

    def __call__(self, first: Int[np.ndarray, " K"] | int, end: Int[np.ndarray, " K"] | int) -> np.ndarray:
        num, x, y, xx, xy, yy = self._sums[:, end] - self._sums[:, first]
        inside, across, total = xx - x * x / num, xy - x * y / num, yy - y * y / num
        return np.maximum(total - np.divide(across**2, inside, out=np.zeros_like(inside), where=inside > 1e-12), 0.0)


def _pieces(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], noise: float) -> list[int]:
    """Return the bounds of the pieces with the smallest penalised squared error."""
    num, costs = len(x), _Costs(x, y)
    penalty = _PENALTY * 3 * noise**2 * np.log(num)
    best, previous = np.full(num + 1, np.inf), np.zeros(num + 1, dtype=int)
    best[0] = -penalty
    for end in range(_SHORTEST, num + 1):
        first = np.arange(0, end - _SHORTEST + 1)
        totals = best[first] + costs(first, np.full_like(first, end)) + penalty
        previous[end] = int(totals.argmin())
        best[end] = totals[previous[end]]
    bounds = [num]
    while bounds[-1]:
        bounds.append(int(previous[bounds[-1]]))
    return bounds[::-1]


def _piece(
    at: Int[np.ndarray, " N"],
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    bounds: tuple[int, int],
    noise: float,
    highest: float,
) -> Stage:
    """Name one piece by its change, and by its speed if it is short."""
    first, end = bounds
    part = slice(first, end)
    slope, level = np.polyfit(x[part], y[part], 1)
    start, last = level + slope * x[first], level + slope * x[end - 1]
    change, least = float(last - start), LEAST * highest
    distances = x[part] - x[part].mean()
    left = y[part] - level - slope * x[part]
    spread = max(noise, np.sqrt((left**2).sum() / max(end - first - 2, 1)))
    is_significant = abs(change) > _CLEAR * spread * np.ptp(distances) / np.sqrt((distances**2).sum())
    share = (x[end - 1] - x[first]) / x[-1]
    moves = is_significant and (abs(change) > least or abs(change) > 4 * least * share)
    phase: Phase = "idle" if not moves else "sparsifying" if change < 0 else "densifying"
    return Stage(phase, *[int(at[first])] * 3, int(at[end - 1]), float(start), float(last))


def _with_jumps(pieces: Sequence[Stage], at: Int[np.ndarray, " N"], least: float) -> list[Stage]:
    """Let the first probe of a piece be a movement if it lies far from the end of the last one and neither moves so."""
    found = [pieces[0]]
    for piece in pieces[1:]:
        jump = piece.start - found[-1].end
        phase: Phase = "sparsifying" if jump < 0 else "densifying"
        if abs(jump) > least and phase not in (found[-1].phase, piece.phase):
            found.append(replace(piece, phase=phase, until=piece.since, start=found[-1].end, end=piece.start))
            piece = replace(piece, since=int(at[np.searchsorted(at, piece.since) + 1]))
        found.append(piece)
    return found


def _joined(pieces: Sequence[Stage]) -> list[Stage]:
    """Join neighbours in the same phase."""
    found: list[Stage] = []
    for piece in pieces:
        if found and found[-1].phase == piece.phase:
            found[-1] = replace(found[-1], until=piece.until, end=piece.end)
        else:
            found.append(piece)
    return found


def _surely(
    at: Int[np.ndarray, " N"],
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    bounds: Sequence[int],
    bound: int,
    noise: float,
) -> tuple[int, int]:
    """Return the steps between which a piece begins, by its likelihood with the neighbouring bounds kept."""
    if bound == 0:
        return int(at[0]), int(at[0])
    if bound not in bounds:  # after a jump
        return int(at[bound - 1]), int(at[bound])
    idx, costs = bounds.index(bound), _Costs(x, y)
    before, after = bounds[idx - 1], bounds[idx + 1]
    places = np.arange(before + 1, after)
    total = costs(np.full_like(places, before), places) + costs(places, np.full_like(places, after))
    likely = places[total <= total.min() + _SURE * noise**2]
    return int(at[likely[0] - 1]), int(at[likely[-1]])


def _with_start(found: Sequence[Stage]) -> list[Stage]:
    """Call the time before the first movement scanning."""
    if len(found) > 1 and found[0].phase == "idle":
        return [replace(found[0], phase="scanning"), *found[1:]]
    return list(found)


def _with_collapse(
    found: Sequence[Stage], at: Int[np.ndarray, " N"], curve: Float[np.ndarray, " N"], level: float
) -> list[Stage]:
    """Let the last stage be a collapse from the probe on after which the curve stays below a level."""
    first = lasting_from(curve < level)
    if first is None:
        return list(found)
    kept = [replace(stage, until=min(stage.until, int(at[first - 1]))) for stage in found if stage.since < at[first]]
    low = int(at[max(first - 1, 0)])
    return [
        *kept,
        Stage("collapsed", int(at[first]), low, int(at[first]), int(at[-1]), *map(float, curve[[first, -1]])),
    ]
