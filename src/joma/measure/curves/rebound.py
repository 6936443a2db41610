"""Measure how far a curve falls and rises again, from a fit of the whole curve.

The fit is a falling part followed by a rising part (two isotonic regressions that meet at the lowest point). Its levels
are averages over stretches of probes, so that no single probe decides. Since such a fit finds a minimum in pure noise
too, the position of the minimum is taken from the other repetitions, and the curve's fall and rise are read there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from joma.errors import InvalidArgument

Curve = Float[np.ndarray, " probes"]
Curves = Float[np.ndarray, "repetitions probes"]


@dataclass(frozen=True)
class Stretches:
    """The index ranges of the start, the bottom and the end of a curve."""

    start: slice
    bottom: slice
    end: slice


@dataclass(frozen=True)
class Rebound:
    """A fall and the rise after it, in the curve's own unit.

    Args:
        start, bottom, end: mean levels over the three stretches.
        bottom_idx: the middle probe of the bottom.
        lowest_idx: the middle probe of the lowest of the three, such as the end of a curve that still falls.
    """

    start: float
    bottom: float
    end: float
    bottom_idx: int
    lowest_idx: int

    @property
    def lowest(self) -> float:
        """The lowest of the three levels."""
        return min(self.start, self.bottom, self.end)

    @property
    def fall(self) -> float:
        """How far the curve fell; negative if it rose."""
        return self.start - self.bottom

    @property
    def rise(self) -> float:
        """How far it rose again; negative if it fell further."""
        return self.end - self.bottom

    @property
    def size(self) -> float:
        """The smaller of fall and rise: large only if both are large."""
        return min(self.fall, self.rise)


def fall_then_rise(values: Curve, weights: Curve | None = None) -> Curve:
    """Return the least-squares fit that does not rise before some probe and does not fall after it.

    Args:
        values: the curve.
        weights: of the probes, such as the number of steps each represents; equal by default.

    Source: SciPy's pool-adjacent-violators algorithm on both sides of each turning point.
    """
    from scipy.optimize import isotonic_regression

    weights = np.ones_like(values) if weights is None else weights
    fits = [
        np.concatenate(
            [
                isotonic_regression(values[:turn], weights=weights[:turn], increasing=False).x,
                isotonic_regression(values[turn:], weights=weights[turn:]).x,
            ]
        )
        for turn in range(1, len(values))
    ]
    return min(fits, key=lambda fit: float((weights * (fit - values) ** 2).sum()))


def steps_stood_for(steps: Sequence[int]) -> Curve:
    """Return how many training steps each probe represents: half the distance to each neighbour."""
    return np.gradient(np.asarray(steps, dtype=float))


def stretches(values: Curve, weights: Curve | None = None, *, shortest: int = 3) -> Stretches:
    """Return the start, the bottom and the end of a curve by its fall-then-rise fit.

    Args:
        values: one curve, ideally a mean over repetitions.
        weights: as in ``fall_then_rise``.
        shortest: minimum number of probes per stretch; shorter levels of the fit are widened.

    Returns:
        Stretches that do not overlap. Where the curve is lowest at its start or its end, the bottom is next to it, so
        that a curve that still falls has a negative rise, and one that only rises a negative fall, not exactly 0.

    Raises:
        InvalidArgument: fewer probes than three such stretches need.
    """
    num = len(values)
    if num < 3 * shortest:
        raise InvalidArgument(
            "stretches",
            "values",
            required=f"at least {3 * shortest} probes",
            received=f"a curve of {num}",
            remedy="probe more often or train longer",
        )
    fit = fall_then_rise(values, weights)
    lowest = np.flatnonzero(fit == fit.min())
    falling, rising = fit[: lowest[0]], fit[lowest[-1] + 1 :]
    first = int((falling == fit[0]).sum()) if len(falling) else shortest
    last = num - (int((rising == fit[-1]).sum()) if len(rising) else shortest)
    start, end = max(1, min(first, shortest)), min(last, num - shortest)
    low, high = int(lowest[0]), int(lowest[-1]) + 1
    low = max(start, min(low - max(0, shortest - (high - low)) // 2, num - 2 * shortest))
    high = max(low + shortest, min(high, num - shortest))
    return Stretches(start=slice(0, start), bottom=slice(low, high), end=slice(max(end, high), num))


def rebound(values: Curve, where: Stretches) -> Rebound:
    """Return a curve's fall and rise between the given stretches."""
    parts = (where.start, where.bottom, where.end)
    start, bottom, end = levels = [float(values[part].mean()) for part in parts]
    _, bottom_idx, _ = middles = [(part.start + part.stop - 1) // 2 for part in parts]
    return Rebound(start, bottom, end, bottom_idx, middles[int(np.argmin(levels))])


def rebounds(curves: Curves, weights: Curve | None = None, *, shortest: int = 3) -> list[Rebound]:
    """Return each repetition's fall and rise, with stretches taken from the mean of the *other* repetitions.

    A single repetition is read at its own minimum, which overestimates its fall and rise.

    Args:
        curves: one row per repetition (seed), one column per probe; finite.
        weights, shortest: as in ``stretches``.
    """
    where = stretches_of_others(curves, weights, shortest=shortest)
    return [rebound(curve, stretch) for curve, stretch in zip(curves, where, strict=True)]


def stretches_of_others(curves: Curves, weights: Curve | None = None, *, shortest: int = 3) -> list[Stretches]:
    """Return where ``rebounds`` reads each repetition; arguments are the same."""
    if not np.isfinite(curves).all():
        received = f"NaN or infinite in {int((~np.isfinite(curves)).sum())} places"
        remedy = "leave out the probes after a diverged step"
        raise InvalidArgument("rebounds", "curves", required="finite numbers", received=received, remedy=remedy)
    if len(curves) == 1:
        return [stretches(curves[0], weights, shortest=shortest)]
    total = curves.sum(axis=0)
    others = [(total - curve) / (len(curves) - 1) for curve in curves]
    return [stretches(other, weights, shortest=shortest) for other in others]


def deepest_dip(values: Curve) -> float:
    """Return the largest prominence of a minimum of a curve.

    This is the depth below both the highest earlier and the highest later value; 0 for a monotonic curve.
    """
    before = np.maximum.accumulate(values)
    after = np.maximum.accumulate(values[::-1])[::-1]
    return float((np.minimum(before, after) - values).max())
