"""Whether a quantity falls and recovers over a series of saved steps, with 95 % intervals.

The intervals come from one of two sources:

    groups      the same steps measured on several groups of probe sequences. Each group is read at the bottom of the
                others, and the interval is Student's over groups: it covers what another text would give.
    one curve   weights have no repetitions. The scatter of single steps about a smooth course is estimated from
                neighbouring steps, and the interval covers the effect of this scatter on the levels.

Neither covers the variation between training runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from joma.intervals import moments, student
from joma.measure.curves.rebound import Curve, Curves, Rebound, Stretches, rebound, rebounds, stretches

Outcome = Literal[
    "fell and came back",
    "fell and stayed low",
    "fell; whether it comes back is open",
    "did not fall",
    "whether it fell is open",
]
"""Whether a quantity fell and, if it clearly did, whether it came back."""

LEAST = 0.02
"""Fraction of the start level below which a fall or a rise does not count."""

_PROBES_A_STRETCH = 3
_FEWEST_STEPS = 4


class Interval(NamedTuple):
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recovery:
    """The fall and the recovery of a curve.

    Args:
        outcome: the verdict, by the intervals of ``fall`` and ``rise``.
        start, bottom, end: levels, in the unit of the quantity: means over stretches of saved steps. The
            bottom lies between the others: of a curve that still falls, it is above the end.
        start_steps, bottom_steps, end_steps: the first and the last step of these stretches.
        lowest_step: the step within the bottom at which the mean over groups is lowest.
        fall, rise: differences of the levels.
        share: rise divided by fall; ``None`` if the fall is not significant.
        num_groups: number of repetitions; with 1, intervals come from the scatter of steps.
    """

    outcome: Outcome
    start: float
    bottom: float
    end: float
    start_steps: tuple[int, int]
    bottom_steps: tuple[int, int]
    end_steps: tuple[int, int]
    lowest_step: int
    fall: Interval
    rise: Interval
    share: Interval | None
    num_groups: int


def recovery(steps: Sequence[int], values: Curves) -> Recovery | None:
    """Return how far a quantity falls and recovers over a series; ``None`` for fewer than four steps.

    All saved steps have the same weight, regardless of the number of training steps between them, because series are
    usually saved most densely where most changes.

    Args:
        steps: ascending.
        values: (groups, steps), finite.
    """
    if len(steps) < _FEWEST_STEPS:
        return None
    shortest = min(_PROBES_A_STRETCH, len(steps) // 3)
    mean = values.mean(axis=0)
    where = stretches(mean, shortest=shortest)
    whole = rebound(mean, where)
    if len(values) > 1:
        found = rebounds(values, shortest=shortest)
        fall, rise = _over_groups([one.fall for one in found]), _over_groups([one.rise for one in found])
    else:
        fall, rise = _by_scatter(mean, where, whole)
    least = abs(whole.start) * LEAST
    outcome, fell = _outcome(least, fall, rise), fall.low > 0 and fall.low >= least
    share = Interval(rise.value / fall.value, *_ends_of_ratio(rise, fall)) if fell else None
    lowest = steps[where.bottom.start + int(np.argmin(mean[where.bottom]))]
    over = [(steps[part.start], steps[part.stop - 1]) for part in (where.start, where.bottom, where.end)]
    return Recovery(outcome, whole.start, whole.bottom, whole.end, *over, lowest, fall, rise, share, len(values))


def _outcome(least: float, fall: Interval, rise: Interval) -> Outcome:
    if fall.high < least:
        return "did not fall"
    if fall.low < least:
        return "whether it fell is open"
    if rise.low >= least:
        return "fell and came back"
    return "fell and stayed low" if rise.high < least else "fell; whether it comes back is open"


def _over_groups(values: Sequence[float]) -> Interval:
    return Interval(moments(values)[0], *student(values))


def _by_scatter(curve: Curve, where: Stretches, whole: Rebound) -> tuple[Interval, Interval]:
    from scipy.stats import t

    residuals = curve[1:-1] - (curve[:-2] + curve[2:]) / 2  # their variance is 3/2 of that of single steps
    scatter = float(np.median(np.abs(residuals))) / 0.6745 / 1.5**0.5
    quantile = float(t.ppf(0.975, len(residuals)))
    bottom = where.bottom.stop - where.bottom.start
    halves = [
        quantile * scatter * (1 / bottom + 1 / (part.stop - part.start)) ** 0.5 for part in (where.start, where.end)
    ]
    return (
        Interval(whole.fall, whole.fall - halves[0], whole.fall + halves[0]),
        Interval(whole.rise, whole.rise - halves[1], whole.rise + halves[1]),
    )


def _ends_of_ratio(rise: Interval, fall: Interval) -> tuple[float, float]:
    """Return the smallest and the largest ratio with both numbers inside their intervals."""
    ratios = [end / base for end in (rise.low, rise.high) for base in (fall.low, fall.high)]
    return min(ratios), max(ratios)
