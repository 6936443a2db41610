"""How far a curve falls and comes back, from the whole curve.

A curve that first falls and then rises is fitted by the best fall followed by the best rise (two isotonic
regressions that meet at the lowest place). The levels of that fit are averages over stretches of probes, so no
single probe decides. A fit always finds something in noise; therefore where a curve is lowest is taken from other
repetitions, and how far this one fell and rose is read off there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from joma.errors import InvalidArgument

Curve = Float[np.ndarray, " probes"]
Curves = Float[np.ndarray, "repetitions probes"]


@dataclass(frozen=True)
class Stretches:
    """Which probes count as the start, the bottom and the end of a curve (index ranges, half open)."""

    start: slice
    bottom: slice
    end: slice


@dataclass(frozen=True)
class Rebound:
    """A fall and the rise after it, in the curve's own unit.

    Args:
        start, bottom, end: mean levels over the three stretches.
        bottom_idx: the middle probe of the bottom.
    """

    start: float
    bottom: float
    end: float
    bottom_idx: int

    @property
    def fall(self) -> float:
        """How far the curve came down; negative if it went up."""
        return self.start - self.bottom

    @property
    def rise(self) -> float:
        """How far it came back; negative if it went further down."""
        return self.end - self.bottom

    @property
    def size(self) -> float:
        """The smaller of fall and rise: large only where both are."""
        return min(self.fall, self.rise)


def fall_then_rise(values: Curve, weights: Curve | None = None) -> Curve:
    """Return the best fit that never rises before some probe and never falls after it (weighted least squares).

    Args:
        values: the curve.
        weights: how much each probe counts, such as the steps it stands for; all alike by default.

    Source: pool-adjacent-violators on either side of every turning point, through SciPy.
    """
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
    """Return how many training steps each probe stands for: half the way to either neighbour."""
    return np.gradient(np.asarray(steps, dtype=float))


def stretches(values: Curve, weights: Curve | None = None, *, shortest: int = 3) -> Stretches:
    """Return where a curve starts, is lowest and ends, by its fall-then-rise fit.

    Args:
        values: one curve, best a mean over repetitions.
        weights: as in ``fall_then_rise``.
        shortest: how many probes a stretch has at the least; a level of the fit that is shorter is widened.

    Raises:
        InvalidArgument: fewer than three stretches' worth of probes.
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
    first = int(np.flatnonzero(fit == fit[0])[-1]) + 1 if fit[0] > fit.min() else shortest
    last = int(np.flatnonzero(fit == fit[-1])[0]) if fit[-1] > fit.min() else num - shortest
    low, high = int(lowest[0]), int(lowest[-1]) + 1
    missing = max(0, shortest - (high - low))
    low = min(max(0, low - missing // 2), num - shortest)
    return Stretches(
        start=slice(0, max(1, min(first, shortest))),
        bottom=slice(low, max(high, low + shortest)),
        end=slice(min(last, num - shortest), num),
    )


def rebound(values: Curve, where: Stretches) -> Rebound:
    """Read a curve's fall and rise off the given stretches."""
    return Rebound(
        start=float(values[where.start].mean()),
        bottom=float(values[where.bottom].mean()),
        end=float(values[where.end].mean()),
        bottom_idx=(where.bottom.start + where.bottom.stop - 1) // 2,
    )


def rebounds(curves: Curves, weights: Curve | None = None) -> list[Rebound]:
    """Return every repetition's fall and rise, each read where the *other* repetitions say the bottom is.

    With one repetition there are no others: it is read where it is lowest itself, which flatters it.

    Args:
        curves: one row per repetition (seed), one column per probe; finite.
        weights: as in ``fall_then_rise``.
    """
    if not np.isfinite(curves).all():
        raise InvalidArgument(
            "rebounds",
            "curves",
            required="finite numbers",
            received=f"NaN or infinite in {int((~np.isfinite(curves)).sum())} places",
            remedy="leave the probes after a diverged step out",
        )
    if len(curves) == 1:
        return [rebound(curves[0], stretches(curves[0], weights))]
    total = curves.sum(axis=0)
    return [rebound(curve, stretches((total - curve) / (len(curves) - 1), weights)) for curve in curves]


def deepest_dip(values: Curve) -> float:
    """Return how deep the deepest place of a curve lies below both the highest before and the highest after it.

    This is the largest prominence of a minimum: 0 for a curve that only falls or only rises.
    """
    before = np.maximum.accumulate(values)
    after = np.maximum.accumulate(values[::-1])[::-1]
    return float((np.minimum(before, after) - values).max())
