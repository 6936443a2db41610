"""One quantity over steps, measured several times over: its mean and spread, its fall and rise, its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from joma.charts import Curve, Role
from joma.measure.curves.rebound import Curves, Rebound, rebounds, steps_stood_for
from joma.measure.curves.recovery import Recovery, recovery
from joma.records import Estimate

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
