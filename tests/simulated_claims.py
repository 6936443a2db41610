"""Claims whose truth is known, to be judged after each of many seeds: for tests and for ``benchmarks/verdicts.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from joma.intervals import Distribution
from joma.records import Agreement, Control, Criterion, Estimate, Verdict


@dataclass(frozen=True)
class Simulated:
    """How a number varies over seeds.

    Args:
        draw: returns one value per seed.
        true: the value that the interval is for: the mean, the geometric mean or the share of ones.
        distribution: what a claim declares.
    """

    draw: Callable[[np.random.Generator, int], np.ndarray]
    true: float
    distribution: Distribution = "normal"

    def values(self, seed: int, num: int) -> tuple[float, ...]:
        """Return the values of one claim."""
        return tuple(self.draw(np.random.default_rng(seed), num).tolist())


FITTING = {
    "normal": Simulated(lambda rng, num: rng.normal(1, 1, num), 1.0),
    "lognormal, factor 5": Simulated(lambda rng, num: 5 ** rng.normal(0, 1, num), 1.0, "lognormal"),
    "share 0.3": Simulated(lambda rng, num: rng.binomial(1, 0.3, num) * 1.0, 0.3, "binary"),
    "share 0.9": Simulated(lambda rng, num: rng.binomial(1, 0.9, num) * 1.0, 0.9, "binary"),
    "Laplace": Simulated(lambda rng, num: rng.laplace(1, 1, num), 1.0),
    "heavy tails, Student with 3 degrees of freedom": Simulated(lambda rng, num: 1 + rng.standard_t(3, num), 1.0),
    "heavy tails, Cauchy": Simulated(lambda rng, num: 1 + rng.standard_cauchy(num), 1.0),
    "one value in ten 10 times as far": Simulated(
        lambda rng, num: 1 + rng.normal(0, 1, num) * np.where(rng.random(num) < 0.1, 10, 1), 1.0
    ),
}
"""Numbers whose declared distribution fits, up to their tails."""

MISFITTING = {
    "uniform": Simulated(lambda rng, num: rng.uniform(0, 2, num), 1.0),
    "exponential": Simulated(lambda rng, num: rng.exponential(1, num), 1.0),
    "lognormal, factor 5": Simulated(lambda rng, num: 5 ** rng.normal(0, 1, num), math.exp(math.log(5) ** 2 / 2)),
}
"""Numbers without tails, or skewed, that are declared normal: the reason why errors are declared lognormal."""


def verdicts(claim: Simulated, seed: int, threshold: float, num: int = 20) -> list[Verdict]:
    """Return the verdict after each of 1, …, ``num`` seeds on ``number <= threshold``, with a control far above."""
    criterion, values = Criterion("a number", "<=", threshold, "known"), claim.values(seed, num)
    above = Control("far above", Estimate((1e6,), distribution="constant"))
    seen = [Estimate(values[:count], distribution=claim.distribution) for count in range(1, num + 1)]
    return [Agreement(criterion, measured, (above,), "").verdict for measured in seen]
