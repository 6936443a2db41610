"""One quantity over steps with several repetitions: its mean and spread, its fall and rise, its curve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from joma.charts import Curve, Role
from joma.errors import RunFailed
from joma.intervals import student
from joma.measure.curves.rebound import Curves, Rebound, rebounds, steps_stood_for, stretches_of_others
from joma.measure.curves.recovery import Recovery, recovery
from joma.records import Estimate, Finding

Band = Literal["deviation", "interval"]
"""A band around the mean: one standard deviation, or the 95 % interval of the mean."""


@dataclass(frozen=True, eq=False)
class Course:
    """One quantity over steps, one row per repetition (a seed, or a group of probe sequences).

    Args:
        steps: at which it was measured, ascending.
        values: (repetitions, steps).
    """

    steps: tuple[int, ...]
    values: Curves

    @property
    def mean(self) -> Float[np.ndarray, " steps"]:
        """The mean over repetitions."""
        return self.values.mean(axis=0)

    def rebounds(self) -> list[Rebound]:
        """Return each repetition's fall and rise, with the bottom taken from the other repetitions."""
        return rebounds(self.values, steps_stood_for(self.steps))

    def recovery(self) -> Recovery | None:
        """Return whether the quantity fell and rose again significantly; ``None`` for fewer than four steps."""
        return recovery(self.steps, self.values)

    def movements(self, of: str = "", unit: str = "") -> tuple[Finding, ...]:
        """Return each repetition's fall, rise and step of the bottom as findings.

        Args:
            of: prefix of the findings' names.
            unit: of the values.
        """
        found = self.rebounds()
        return (
            Finding(f"{of}fall", Estimate.of((one.fall for one in found), unit)),
            Finding(f"{of}rise after it", Estimate.of((one.rise for one in found), unit)),
            Finding(f"{of}step of the bottom", self._steps_of(one.bottom_idx for one in found)),
        )

    def levels(self, of: str) -> tuple[Finding, ...]:
        """Return each repetition's first, lowest and last level, and the step of the lowest, as findings."""
        found = self.rebounds()
        return (
            Finding(f"{of}: at the start", Estimate.of(self.values[:, 0])),
            Finding(f"{of}: lowest level", Estimate.of(one.lowest for one in found)),
            Finding(f"{of}: step of the lowest level", self._steps_of(one.lowest_idx for one in found)),
            Finding(f"{of}: last level", Estimate.of(one.end for one in found)),
        )

    def _steps_of(self, probes: Iterable[int]) -> Estimate:
        return Estimate.of((self.steps[idx] for idx in probes), "steps", why_equal="read at probed steps only")

    def first_below(self, unigram_nats: float, of: str, fewest: int = 1) -> int:
        """Return the first step at which the mean loss over seeds is below the unigram loss.

        Args:
            unigram_nats: the loss of predicting by word frequencies.
            of: name of the model, for messages.
            fewest: number of steps from there on that must be left.

        Raises:
            RunFailed: there is no such step, or fewer than ``fewest`` steps are left.
        """
        below = np.flatnonzero(self.mean < unigram_nats)
        if not len(below) or len(self.steps) - below[0] < fewest:
            when = f"from step {self.steps[below[0]]} on only" if len(below) else "at no step"
            raise RunFailed(
                f"{of} predicts better than word frequencies {when}, which leaves too few steps to analyse "
                f"({self.values[:, -1].mean():.2f} nats at the end, {unigram_nats:.2f} by word frequencies)",
                kept="what was trained and measured is kept",
                remedy="use a text whose word order can be learnt, or a longer one",
            )
        return self.steps[below[0]]

    def between(self, first: int, last: float = math.inf) -> Course:
        """Return the part of the course between two steps, both included."""
        kept = [idx for idx, at in enumerate(self.steps) if first <= at <= last]
        return Course(tuple(self.steps[idx] for idx in kept), self.values[:, kept])

    def in_random_order(self, repetition: int) -> Course:
        """Return a control: the same values, with the steps of each row shuffled."""
        generator = np.random.default_rng(repetition)
        return replace(self, values=np.stack([generator.permutation(row) for row in self.values]))

    def curve(
        self, label: str, role: Role = "measured", group: str | None = None, *, band: Band = "deviation"
    ) -> Curve:
        """Return the mean as a curve, with a band if there are several repetitions.

        Args:
            label, role: of the curve.
            group: of the curve; its label by default.
            band: kind of the band.
        """
        low, high = self._band(band) if len(self.values) > 1 else (None, None)
        x, mean = tuple(map(float, self.steps)), tuple(self.mean.tolist())
        return Curve(label, x, mean, low, high, role, label if group is None else group)

    def read_levels(self, label: str, group: str) -> Curve:
        """Return the levels that fall and rise are read from, at the start, the bottom and the end, with lines between.

        Levels and the ends of their stretches of steps are means over repetitions.

        Args:
            label, group: of the curve.
        """
        where = stretches_of_others(self.values, steps_stood_for(self.steps))
        ends = np.array([[part.start, part.stop - 1] for one in where for part in (one.start, one.bottom, one.end)])
        steps = np.maximum.accumulate(np.array(self.steps)[ends].reshape(len(where), -1).mean(axis=0))
        levels = np.mean([[one.start, one.bottom, one.end] for one in self.rebounds()], axis=0).repeat(2)
        return Curve(label, tuple(steps.tolist()), tuple(levels.tolist()), role="read", group=group)

    def _band(self, band: Band) -> tuple[Sequence[float], Sequence[float]]:
        if band == "deviation":
            spread = self.values.std(axis=0, ddof=1)
            return tuple((self.mean - spread).tolist()), tuple((self.mean + spread).tolist())
        low, high = zip(*map(student, self.values.T.tolist()), strict=True)
        return low, high
