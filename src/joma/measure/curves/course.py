"""One quantity over steps, measured several times over: its mean and spread, its fall and rise, its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from joma.charts import Curve, Role
from joma.errors import RunFailed
from joma.measure.curves.rebound import Curves, Rebound, rebounds, steps_stood_for
from joma.measure.curves.recovery import Recovery, recovery
from joma.records import Estimate, Finding

Band = Literal["deviation", "interval"]
"""To either side of the mean: one standard deviation, or the 95 % interval of the mean."""


@dataclass(frozen=True, eq=False)
class Course:
    """One quantity over steps, one row per repetition (a seed, or a group of probe sequences).

    Args:
        steps: where it was measured, ascending.
        values: (repetitions, steps).
    """

    steps: tuple[int, ...]
    values: Curves

    @property
    def mean(self) -> Float[np.ndarray, " steps"]:
        """Over repetitions."""
        return self.values.mean(axis=0)

    def rebounds(self) -> list[Rebound]:
        """How far each repetition falls and comes back, read where the others say the bottom is."""
        return rebounds(self.values, steps_stood_for(self.steps))

    def recovery(self) -> Recovery | None:
        """Whether it fell and came back for sure; ``None`` for fewer than four steps."""
        return recovery(self.steps, self.values)

    def movements(self, of: str = "", unit: str = "") -> tuple[Finding, ...]:
        """How far each repetition falls and comes back, and where its bottom is.

        Args:
            of: what the findings' names begin with.
            unit: of the values.
        """
        found = self.rebounds()
        return (
            Finding(f"{of}fall", Estimate.of((one.fall for one in found), unit)),
            Finding(f"{of}rise after it", Estimate.of((one.rise for one in found), unit)),
            Finding(f"{of}step of the bottom", self._bottoms()),
        )

    def levels(self, of: str) -> tuple[Finding, ...]:
        """Where each repetition starts, how low it gets and when, and where it ends."""
        found = self.rebounds()
        return (
            Finding(f"{of}: at the start", Estimate.of(self.values[:, 0])),
            Finding(f"{of}: lowest level", Estimate.of(one.bottom for one in found)),
            Finding(f"{of}: step of the lowest level", self._bottoms()),
            Finding(f"{of}: last level", Estimate.of(one.end for one in found)),
        )

    def _bottoms(self) -> Estimate:
        return Estimate.of((self.steps[one.bottom_idx] for one in self.rebounds()), "steps")

    def first_below(self, unigram_nats: float, of: str, fewest: int = 1) -> int:
        """The first step at which the mean over seeds of this loss is below that of word frequencies.

        Raises:
            RunFailed: it never is, or so late that fewer than ``fewest`` steps are left; ``of`` is whose loss it is.
        """
        below = np.flatnonzero(self.mean < unigram_nats)
        if not len(below) or len(self.steps) - below[0] < fewest:
            when = f"from step {self.steps[below[0]]} on only" if len(below) else "at no step"
            raise RunFailed(
                f"{of} predicts better than word frequencies do {when}, which leaves too few steps to read "
                f"({self.values[:, -1].mean():.2f} nats at the end against {unigram_nats:.2f})",
                kept="what was trained and measured is kept",
                remedy="give a text with word order to learn, or more of it",
            )
        return self.steps[below[0]]

    def between(self, first: int, last: float = math.inf) -> Course:
        """The course from one step to another, both included."""
        kept = [idx for idx, at in enumerate(self.steps) if first <= at <= last]
        return Course(tuple(self.steps[idx] for idx in kept), self.values[:, kept])

    def in_random_order(self, repetition: int) -> Course:
        """The same values with the steps of every row shuffled: what is left is no course."""
        generator = np.random.default_rng(repetition)
        return replace(self, values=np.stack([generator.permutation(row) for row in self.values]))

    def curve(
        self, label: str, role: Role = "measured", group: str | None = None, *, band: Band = "deviation"
    ) -> Curve:
        """The mean, with a band where there are several repetitions.

        Args:
            label, role: of the curve.
            group: of the curve; its label by default.
            band: what it shows.
        """
        low, high = self._band(band) if len(self.values) > 1 else (None, None)
        x, mean = tuple(map(float, self.steps)), tuple(self.mean.tolist())
        return Curve(label, x, mean, low, high, role, label if group is None else group)

    def _band(self, band: Band) -> tuple[Sequence[float], Sequence[float]]:
        if band == "deviation":
            spread = self.values.std(axis=0, ddof=1)
            return tuple((self.mean - spread).tolist()), tuple((self.mean + spread).tolist())
        low, high = zip(*(Estimate(tuple(values)).interval for values in self.values.T.tolist()), strict=True)
        return low, high
