"""Intervals of a number over seeds that stay valid, and never widen, however many seeds are added.

A verdict is read after any number of seeds, often after more were added because it was not clear. The usual 95 %
interval covers the true value for a number of seeds fixed in advance; read again after every seed it misses it far more
often, and it may widen. Therefore

    after n seeds, n ≥ 3, each end is a bound of level 0.05 / n that fits the distribution (``Distribution``), and the
    interval is the intersection of all these intervals for 3, …, n seeds.

Intersections are nested: an interval on one side of a threshold stays there. At every n it covers the true value with
probability at least 1 − 0.1 / n, above 95 %. A wrong verdict needs one end, the one towards the threshold, to be wrong
after some n. For normal values this probability depends on neither mean nor spread, since the t statistic does not: it
is 4 % for 20 seeds and 5 % without limit (``benchmarks/verdicts.py``, which also has other distributions).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

Distribution = Literal["normal", "lognormal", "binary", "constant"]
"""How a number varies over seeds, and so which interval it has.

``normal``: about its mean; Student's interval. ``lognormal``: by factors, as errors do that span orders of magnitude;
Student's interval of the logarithms, for the geometric mean. ``binary``: each value is 0 or 1; the exact interval of
Clopper and Pearson for the share of ones. ``constant``: not at all, by construction; the value itself.
"""

FEWEST = 3
"""The number of seeds below which there is no interval."""

LEVEL = 0.05
"""The probability that an end of the interval is ever wrong, for normal values."""

MOST = 1000
"""The largest number of seeds that ``seeds_to_settle`` returns."""

_USUAL = 400
"""Exponents of numbers whose squares have every digit, up to factors of 2**100 between them."""

_LARGEST = math.log(sys.float_info.max)

Ends = tuple[float, float]


def student(values: Sequence[float], level: float = 0.025) -> Ends:
    """Return Student's interval of the mean for one fixed number of values, by default the usual 95 % interval.

    Args:
        values: at least two; for one value the interval is that value.
        level: the probability of a mean below the lower end, and of one above the upper end.
    """
    mean, deviation = moments(values)
    half = _quantile(level, len(values)) * deviation / math.sqrt(len(values)) if deviation else 0.0
    return mean - half, mean + half


def interval(values: Sequence[float], distribution: Distribution, *, equal_is_exact: bool = False) -> Ends:
    """Return the interval of this module; infinite ends where nothing is known.

    Args:
        values: one per seed, in the order of the seeds.
        distribution: of the values.
        equal_is_exact: whether values that are all equal are exact, because the number cannot vary where it has this
            value. Otherwise they have no interval: equal values of a random number say nothing about its spread.
    """
    if distribution == "constant":
        return values[0], values[0]
    low, high = -math.inf, math.inf
    for num in range(FEWEST, len(values) + 1):
        first = values[:num]
        if distribution == "binary" or min(first) < max(first):
            one, other = _bounds(first, distribution)
        elif equal_is_exact and min(values) == max(values):
            one = other = first[0]
        else:
            continue
        if max(low, one) > min(high, other):  # later seeds contradict earlier ones, or one of the bounds is wrong
            break
        low, high = max(low, one), min(high, other)
    return low, high


def is_contradictory(values: Sequence[float], distribution: Distribution) -> bool:
    """Whether intervals of the first seeds and of more do not overlap, so that further seeds change nothing."""
    if distribution == "constant":
        return False
    low, high = -math.inf, math.inf
    for num in range(FEWEST, len(values) + 1):
        if distribution == "binary" or min(values[:num]) < max(values[:num]):
            one, other = _bounds(values[:num], distribution)
            low, high = max(low, one), min(high, other)
    return low > high


def seeds_to_settle(values: Sequence[float], distribution: Distribution, threshold: float) -> int | None:
    """Return the number of seeds, existing ones included, at which the interval probably excludes ``threshold``.

    It assumes that further values have the same mean and spread as these.

    Returns:
        at least ``FEWEST``; ``None`` for more than ``MOST``, that is where the number is at the threshold.
    """
    least = max(FEWEST, len(values) + 1)
    if len(values) < FEWEST:
        return least
    if distribution == "binary":
        share = sum(values) / len(values)
        bounds = ((num, _clopper_pearson(round(share * num), num)) for num in range(least, MOST + 1))
        return next((num for num, (low, high) in bounds if not low <= threshold <= high), None)
    if distribution == "lognormal":
        values, threshold = _logarithms(values), math.log(threshold) if threshold > 0 else -math.inf
    mean, deviation = moments(values)
    distance = abs(mean - threshold)
    halves = ((num, _quantile(LEVEL / num, num) * deviation / math.sqrt(num)) for num in range(least, MOST + 1))
    return next((num for num, half in halves if half < distance), None)


def moments(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (0 for one value)."""
    size = math.frexp(max(map(abs, values)))[1]
    unit = 0 if abs(size) < _USUAL else size  # so that no square is too large or too small
    scaled = [math.ldexp(value, -unit) for value in values]
    mean = math.fsum(scaled) / len(scaled)
    squares = math.fsum((value - mean) ** 2 for value in scaled) / max(1, len(scaled) - 1)
    return math.ldexp(mean, unit), _scaled(math.sqrt(squares), unit)


def geometric(values: Sequence[float]) -> tuple[float, float]:
    """Return the geometric mean and the geometric standard deviation, a factor (1 for one value)."""
    mean, deviation = moments(_logarithms(values))
    return _exp(mean), _exp(deviation)


def _bounds(values: Sequence[float], distribution: Distribution) -> Ends:
    level = LEVEL / len(values)
    if distribution == "binary":
        return _clopper_pearson(round(sum(values)), len(values))
    if distribution == "normal":
        return student(values, level)
    low, high = student(_logarithms(values), level)
    return _exp(low), _exp(high)


def _logarithms(values: Sequence[float]) -> list[float]:
    """The logarithms; a value of 0 counts as far below the others, which widens the interval."""
    positive = [value for value in values if value > 0]
    tiny = max(min(positive, default=1.0) * 2.0**-52, math.ulp(0.0))
    return [math.log(value or tiny) for value in values]


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST else math.inf


def _scaled(value: float, unit: int) -> float:
    """The product with a power of two, which may be infinite."""
    return math.ldexp(value, unit) if math.frexp(value)[1] + unit <= sys.float_info.max_exp else math.inf


def _clopper_pearson(num_ones: int, num: int) -> Ends:
    from scipy.special import betaincinv

    level, rest = LEVEL / num, num - num_ones
    low = float(betaincinv(num_ones, rest + 1, level)) if num_ones else 0.0
    return low, float(betaincinv(num_ones + 1, rest, 1 - level)) if rest else 1.0


@lru_cache(maxsize=4096)
def _quantile(level: float, num: int) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(num - 1, level))
