"""What is found, as frozen records. All survive JSON; none is ever pickled into a file.

A measurement is one number of one network at one step. An estimate is one number over seeds. An agreement is a
claim held against the evidence: measured value, control, criterion, and the verdict that follows from the three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, SupportsFloat

from joma.charts import Chart, chart_from_json


@dataclass(frozen=True)
class Status:
    """How a numerical method ended: ``ok``, or what failed, why, and what to do about it."""

    name: str = "ok"
    cause: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the result is what was asked for."""
        return self.name == "ok"


class Row(NamedTuple):
    """One number of one probe of a network.

    Args:
        layer, head: 0-based; ``None`` where the metric has none.
        projection: the weight matrix that it was read off; ``None`` for attention and loss.
        metric: its name, with the unit where there is one (``attention_entropy_nats``).
        value: the number.
        group: the part of the probe that it is of (``sequences_0``, ``positions_1_8``); ``None`` for all of it.
    """

    layer: int | None
    head: int | None
    projection: str | None
    metric: str
    value: float
    group: str | None = None


class Measurement(NamedTuple):
    """One row of the table of measurements: a ``Row``, and when and of which network it is.

    Args:
        run: which network (the run folder's name) or which simulation.
        step: optimiser steps done when it was taken.
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
    """What the evidence says of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Estimate:
    """One number, measured once per seed (or per independent repetition).

    >>> import joma
    >>> found = joma.Estimate((1.0, 1.2, 1.1), "nats")
    >>> round(found.mean, 3), tuple(round(end, 3) for end in found.interval)
    (1.1, (0.852, 1.348))

    The interval is the 95 % Student interval of the mean; with one value it is that value and ``num`` says so.
    """

    values: tuple[float, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"an estimate needs at least one value and all of them finite, got {self.values}")

    @classmethod
    def of(cls, values: Iterable[SupportsFloat], unit: str = "") -> Estimate:
        """One value for each seed, from a list, an array or a tensor."""
        return cls(tuple(float(value) for value in values), unit)

    @property
    def num(self) -> int:
        """How many values there are."""
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
    """When a measured number counts for the claim: ``value <= threshold`` or ``value >= threshold``.

    >>> import joma
    >>> criterion = joma.Criterion("largest error", "<=", 1e-6, "the integrator's tolerance")
    >>> criterion.met_by(joma.Estimate((1e-9, 2e-9, 3e-9)))
    True

    Args:
        quantity: what the number is, in words.
        relation: which side counts.
        threshold: the tolerance.
        reason: why it stands there and not elsewhere.
    """

    quantity: str
    relation: Literal["<=", ">="]
    threshold: float
    reason: str

    def met_by(self, estimate: Estimate) -> bool | None:
        """Whether the whole interval lies on the right side; ``None`` where it straddles the threshold."""
        low, high = estimate.interval
        if self.relation == ">=":
            low, high = -high, -low
        threshold = self.threshold if self.relation == "<=" else -self.threshold
        if high <= threshold:
            return True
        return None if low <= threshold else False


@dataclass(frozen=True)
class Finding:
    """A further number beside the deciding one, shown in the claim's table.

    >>> import joma
    >>> joma.Finding("step of the bottom", joma.Estimate((120.0,), "steps"), "of one seed").comment
    'of one seed'
    """

    name: str
    estimate: Estimate
    comment: str = ""


@dataclass(frozen=True)
class Control:
    """The deciding number, measured where the claim must fail.

    >>> import joma
    >>> joma.Control("shuffled words", joma.Estimate((0.0, 0.1))).name
    'shuffled words'
    """

    name: str
    estimate: Estimate


@dataclass(frozen=True)
class Agreement:
    """A claim held against the evidence.

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
        criterion: what decides.
        measured: the deciding number where the claim should be true.
        controls: the same number where it must be false; at least one.
        conclusion: what was found and what it says of the theory, in at most three sentences for somebody who has not
            read the paper.
        findings: the numbers beside it.
        charts: what is to be seen; at least one.
        notes: what a reader must know (a smaller vocabulary than the paper's, a skipped part and why).
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
        """What follows from measured value and controls.

        A claim that passes where a control passes too is not decided: the test cannot tell. A control that neither
        passes nor fails clearly must at least lie clearly apart from the measured value.
        """
        claim = self.criterion.met_by(self.measured)
        if claim is False:
            return Verdict.FAILS
        told_apart = [self._fails_apart(control.estimate) for control in self.controls]
        return Verdict.HOLDS if claim is True and told_apart and all(told_apart) else Verdict.UNDECIDED

    def _fails_apart(self, control: Estimate) -> bool:
        met = self.criterion.met_by(control)
        return met is False or (met is None and disjoint(self.measured, control))

    def to_json(self) -> dict[str, Any]:
        """Plain data, with what follows from it written beside it for readers of the file."""
        data = asdict(self)
        data["measured"] |= summary(self.measured)
        for part, records in (("controls", self.controls), ("findings", self.findings)):
            for entry, record in zip(data[part], records, strict=True):
                entry["estimate"] |= summary(record.estimate)
        return data | {"verdict": self.verdict.value}


def disjoint(first: Estimate, second: Estimate) -> bool:
    """Whether the intervals of two estimates do not touch."""
    return first.interval[1] < second.interval[0] or second.interval[1] < first.interval[0]


def summary(estimate: Estimate) -> dict[str, Any]:
    """Mean, spread and interval of an estimate, as plain data."""
    low, high = estimate.interval
    return {
        "mean": estimate.mean,
        "standard_deviation": estimate.standard_deviation,
        "interval": [low, high],
        "num": estimate.num,
    }


def agreement_from_json(data: Mapping[str, Any]) -> Agreement:
    """Rebuild what ``Agreement.to_json`` wrote; what follows from the data is computed again, not believed."""
    return Agreement(
        criterion=Criterion(**data["criterion"]),
        measured=_estimate(data["measured"]),
        controls=tuple(Control(entry["name"], _estimate(entry["estimate"])) for entry in data["controls"]),
        conclusion=data["conclusion"],
        findings=tuple(
            Finding(entry["name"], _estimate(entry["estimate"]), entry["comment"]) for entry in data["findings"]
        ),
        charts=tuple(chart_from_json(chart) for chart in data["charts"]),
        notes=tuple(data["notes"]),
    )


def _estimate(data: Mapping[str, Any]) -> Estimate:
    return Estimate(tuple(data["values"]), data["unit"])
