"""What a quantity does over a series of saved steps: where it is lowest, how far it came back, and how sure that is.

Two kinds of repetition give intervals, both of 95 %:

    groups      the same steps measured on several groups of probe sequences. Each group is read where the others
                say the bottom is, and the interval is Student's over groups: what another text would have given.
    one curve   weights have no repetition. How much single steps scatter about a smooth course is read off
                neighbouring steps, and the interval says what that scatter alone may do to the levels.

Neither says what another training run would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from joma.measure.curves.rebound import Curve, Curves, Rebound, Stretches, rebound, stretches
from joma.records import Estimate

Outcome = Literal["fell and came back", "fell and stayed low", "did not fall", "undecided"]

LEAST = 0.02
"""Share of the level at the start below which a fall or a rise is none."""

_PROBES_A_STRETCH = 3
_FEWEST_STEPS = 4


class Interval(NamedTuple):
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recovery:
    """How a curve falls and comes back.

    Args:
        outcome: what follows from the intervals of ``fall`` and ``rise``.
        start, bottom, end: levels, in the quantity's own unit.
        lowest_step: the step at which the mean over groups is lowest within the bottom.
        fall, rise: of the levels.
        share: of the fall that came back; ``None`` where it did not fall for sure.
        num_groups: how many repetitions there are; 1: the interval is that of scatter.
    """

    outcome: Outcome
    start: float
    bottom: float
    end: float
    lowest_step: int
    fall: Interval
    rise: Interval
    share: Interval | None
    num_groups: int


def recovery(steps: Sequence[int], values: Curves) -> Recovery | None:
    """How far a quantity falls and comes back over a series; ``None`` for fewer than four steps.

    Every saved step counts alike, however many training steps lie between: what is published densely is where
    things happen.

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
        others = [(values.sum(axis=0) - curve) / (len(values) - 1) for curve in values]
        found = [
            rebound(curve, stretches(other, shortest=shortest)) for curve, other in zip(values, others, strict=True)
        ]
        fall, rise = (_over_groups([getattr(one, name) for one in found]) for name in ("fall", "rise"))
    else:
        fall, rise = _by_scatter(mean, where, whole)
    least = abs(whole.start) * LEAST
    outcome, fell = _outcome(least, fall, rise), fall.low > 0 and fall.low >= least
    share = Interval(rise.value / fall.value, *_ends_of_ratio(rise, fall)) if fell else None
    lowest = steps[where.bottom.start + int(np.argmin(mean[where.bottom]))]
    return Recovery(outcome, whole.start, whole.bottom, whole.end, lowest, fall, rise, share, len(values))


def _outcome(least: float, fall: Interval, rise: Interval) -> Outcome:
    if fall.high < least:
        return "did not fall"
    if fall.low < least:
        return "undecided"
    if rise.low >= least:
        return "fell and came back"
    return "fell and stayed low" if rise.high < least else "undecided"


def _over_groups(values: Sequence[float]) -> Interval:
    estimate = Estimate(tuple(values))
    return Interval(estimate.mean, *estimate.interval)


def _by_scatter(curve: Curve, where: Stretches, whole: Rebound) -> tuple[Interval, Interval]:
    from scipy.stats import t

    apart = curve[1:-1] - (curve[:-2] + curve[2:]) / 2  # of variance 3/2 where single steps scatter with 1
    scatter = float(np.median(np.abs(apart))) / 0.6745 / 1.5**0.5
    quantile = float(t.ppf(0.975, len(apart)))
    bottom = where.bottom.stop - where.bottom.start
    halves = [
        quantile * scatter * (1 / bottom + 1 / (part.stop - part.start)) ** 0.5 for part in (where.start, where.end)
    ]
    return (
        Interval(whole.fall, whole.fall - halves[0], whole.fall + halves[0]),
        Interval(whole.rise, whole.rise - halves[1], whole.rise + halves[1]),
    )


def _ends_of_ratio(rise: Interval, fall: Interval) -> tuple[float, float]:
    """The furthest that the ratio can be with both inside their intervals."""
    ratios = [end / base for end in (rise.low, rise.high) for base in (fall.low, fall.high)]
    return min(ratios), max(ratios)
