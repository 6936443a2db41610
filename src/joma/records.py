"""Results as frozen records, which can be written as JSON.

A measurement is one number of one network at one step. An estimate is one number over seeds. An agreement is the
evidence for a claim: measured value, control, criterion, and the verdict that follows from the three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, SupportsFloat

from joma.charts import Chart
from joma.serialization import shaped

DERIVED = ("verdict", "mean", "standard_deviation", "interval", "num")
"""The entries of ``Agreement.to_json`` that follow from the others."""


@dataclass(frozen=True)
class Status:
    """The outcome of a numerical method: ``ok``, or the failure with its cause and a remedy."""

    name: str = "ok"
    cause: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the method succeeded."""
        return self.name == "ok"


class Row(NamedTuple):
    """One number of one probe of a network.

    Args:
        layer, head: 0-based; ``None`` if the metric has none.
        projection: the weight matrix measured; ``None`` for attention and loss.
        metric: its name, with the unit if there is one (``attention_entropy_nats``).
        value: the number.
        group: the part of the probe measured (``sequences_0``, ``positions_1_8``); ``None`` for all of it.
    """

    layer: int | None
    head: int | None
    projection: str | None
    metric: str
    value: float
    group: str | None = None


class Measurement(NamedTuple):
    """One row of the table of measurements: a ``Row`` with its network and step.

    Args:
        run: name of the network (that of the run folder) or of the simulation.
        step: number of optimiser steps done.
    """

    run: str
    step: int
    layer: int | None
    head: int | None
    projection: str | None
    metric: str
    value: float
    group: str | None = None


class Verdict(StrEnum):
    """The verdict on a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Estimate:
    """A number measured once per seed (or per independent repetition).

    >>> import joma
    >>> found = joma.Estimate((1.0, 1.2, 1.1), "nats")
    >>> round(found.mean, 3), tuple(round(end, 3) for end in found.interval)
    (1.1, (0.852, 1.348))

    The interval is the 95 % Student interval of the mean; with one value it is that value.
    """

    values: tuple[float, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"an estimate needs at least one value, and finite values; got {self.values}")

    @classmethod
    def of(cls, values: Iterable[SupportsFloat], unit: str = "") -> Estimate:
        """Make an estimate from a list, an array or a tensor with one value per seed."""
        return cls(tuple(float(value) for value in values), unit)

    @property
    def num(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return math.fsum(self.values) / self.num

    @property
    def standard_deviation(self) -> float:
        """The sample standard deviation over seeds (0 for one value)."""
        if self.num == 1:
            return 0.0
        return math.sqrt(math.fsum((value - self.mean) ** 2 for value in self.values) / (self.num - 1))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Student interval of the mean."""
        if self.num == 1:
            return self.mean, self.mean
        from scipy.stats import t

        half = float(t.ppf(0.975, self.num - 1)) * self.standard_deviation / math.sqrt(self.num)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Criterion:
    """The condition under which a number supports a claim: ``value <= threshold`` or ``value >= threshold``.

    >>> import joma
    >>> criterion = joma.Criterion("largest error", "<=", 1e-6, "the integrator's tolerance")
    >>> criterion.met_by(joma.Estimate((1e-9, 2e-9, 3e-9)))
    True

    Args:
        quantity: the meaning of the number, in words.
        relation: of the number to the threshold.
        threshold: the threshold.
        reason: why the threshold has this value.
    """

    quantity: str
    relation: Literal["<=", ">="]
    threshold: float
    reason: str

    def met_by(self, estimate: Estimate) -> bool | None:
        """Return whether the whole interval meets the criterion; ``None`` if the threshold lies within the interval."""
        low, high = estimate.interval
        if self.relation == ">=":
            low, high = -high, -low
        threshold = self.threshold if self.relation == "<=" else -self.threshold
        if high <= threshold:
            return True
        return None if low <= threshold else False


@dataclass(frozen=True)
class Finding:
    """A further number, shown in the table of the claim.

    >>> import joma
    >>> joma.Finding("step of the bottom", joma.Estimate((120.0,), "steps"), "of one seed").comment
    'of one seed'
    """

    name: str
    estimate: Estimate
    comment: str = ""


@dataclass(frozen=True)
class Control:
    """The deciding number, measured in a setting in which the claim must be false.

    >>> import joma
    >>> joma.Control("shuffled words", joma.Estimate((0.0, 0.1))).name
    'shuffled words'
    """

    name: str
    estimate: Estimate


@dataclass(frozen=True)
class Agreement:
    """The evidence for or against a claim.

    >>> import joma
    >>> found = joma.Agreement(
    ...     joma.Criterion("largest error", "<=", 1e-6, "the integrator's tolerance"),
    ...     joma.Estimate((1e-9, 2e-9, 3e-9)),
    ...     (joma.Control("without the correction", joma.Estimate((0.5, 0.6, 0.7))),),
    ...     conclusion="The formula is right to nine digits.",
    ... )
    >>> str(found.verdict)
    'holds'

    Args:
        criterion: that decides.
        measured: the deciding number in a setting in which the claim should be true.
        controls: the same number in settings in which the claim must be false; at least one.
        conclusion: the result and its meaning for the theory, in at most three sentences for somebody who has not read
            the paper.
        findings: further numbers.
        charts: at least one.
        notes: limitations (a smaller vocabulary than in the paper, a skipped part and the reason).
    """

    criterion: Criterion
    measured: Estimate
    controls: tuple[Control, ...]
    conclusion: str
    findings: tuple[Finding, ...] = ()
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows from measured value and controls.

        If a control also meets the criterion, the test cannot distinguish the two and the claim is undecided. A control
        that neither meets nor fails it clearly must have an interval disjoint from that of the measured value.
        """
        claim = self.criterion.met_by(self.measured)
        if claim is False:
            return Verdict.FAILS
        failed = [self._fails(control.estimate) for control in self.controls]
        return Verdict.HOLDS if claim is True and failed and all(failed) else Verdict.UNDECIDED

    def _fails(self, control: Estimate) -> bool:
        met = self.criterion.met_by(control)
        return met is False or (met is None and disjoint(self.measured, control))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the verdict and the statistics of each estimate."""
        data = asdict(self)
        data["measured"] |= summary(self.measured)
        for part, records in (("controls", self.controls), ("findings", self.findings)):
            for entry, record in zip(data[part], records, strict=True):
                entry["estimate"] |= summary(record.estimate)
        return data | {"verdict": self.verdict.value}


def disjoint(first: Estimate, second: Estimate) -> bool:
    """Return whether the intervals of two estimates are disjoint."""
    return first.interval[1] < second.interval[0] or second.interval[1] < first.interval[0]


def summary(estimate: Estimate) -> dict[str, Any]:
    """Return mean, standard deviation and interval of an estimate, as plain data."""
    low, high = estimate.interval
    return {
        "mean": estimate.mean,
        "standard_deviation": estimate.standard_deviation,
        "interval": [low, high],
        "num": estimate.num,
    }


def agreement_from_json(data: Any) -> Agreement:
    """Rebuild an agreement from ``Agreement.to_json``; verdict and statistics are computed again.

    Raises:
        ValueError: the data has another shape.
    """
    return shaped(data, Agreement, ignored=DERIVED)
