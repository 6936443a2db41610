"""Results as frozen records, which can be written as JSON.

A measurement is one number of one network at one step. An estimate is one number over seeds. An agreement is the
evidence for a claim: measured value, control, criterion, and the verdict that follows from the three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, SupportsFloat, get_args

from joma.charts import Chart
from joma.domains import FINITE, choose
from joma.intervals import FEWEST, MOST, Distribution, interval, is_contradictory, moments, seeds_to_settle
from joma.serialization import shaped

DERIVED = ("verdict", "why_undecided", "mean", "standard_deviation", "interval", "num")
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
    (1.1, (0.792, 1.408))

    The 95 % interval fits the distribution over seeds, and more seeds never widen it (``joma.intervals``).

    Args:
        values: one per seed, in the order of the seeds.
        unit: of the values.
        distribution: ``normal``, ``lognormal`` for errors that span orders of magnitude, ``binary`` for values of 0
            and 1, or ``constant`` for a number that does not depend on the seed.
        why_equal: why the values cannot differ, if all are equal. Without it, equal values of a random number have no
            interval.
    """

    values: tuple[float, ...]
    unit: str = ""
    distribution: Distribution = "normal"
    why_equal: str = ""

    def __post_init__(self) -> None:
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"an estimate needs at least one value, and finite values; got {self.values}")
        choose(self.distribution, dict.fromkeys(get_args(Distribution)), "Estimate", "distribution")
        if self.distribution == "lognormal" and min(self.values) < 0:
            raise ValueError(f"a lognormal number cannot be negative; got {self.values}")
        if self.distribution == "binary" and not {0.0, 1.0}.issuperset(self.values):
            raise ValueError(f"the values of a binary number are 0 or 1; got {self.values}")
        if self.distribution == "constant" and not self.is_equal:
            raise ValueError(f"a constant number is the same for every seed; got {self.values}")

    @classmethod
    def of(
        cls,
        values: Iterable[SupportsFloat],
        unit: str = "",
        distribution: Distribution = "normal",
        why_equal: str = "",
    ) -> Estimate:
        """Make an estimate from a list, an array or a tensor with one value per seed."""
        return cls(tuple(float(value) for value in values), unit, distribution, why_equal)

    @property
    def num(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return moments(self.values)[0]

    @property
    def standard_deviation(self) -> float:
        """The sample standard deviation over seeds (0 for one value)."""
        return moments(self.values)[1]

    @property
    def is_equal(self) -> bool:
        """Whether all values are the same."""
        return min(self.values) == max(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; infinite ends where nothing is known, as for fewer than three random values."""
        return interval(self.values, self.distribution, equal_is_exact=bool(self.why_equal))


@dataclass(frozen=True)
class Criterion:
    """The condition under which a number supports a claim: ``value <= threshold`` or ``value >= threshold``.

    >>> import joma
    >>> criterion = joma.Criterion("largest error", "<=", 1e-6, "the integrator's tolerance")
    >>> criterion.met_by(joma.Estimate((1e-9, 2e-9, 3e-9), distribution="lognormal"))
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

    def __post_init__(self) -> None:
        choose(self.relation, dict.fromkeys(("<=", ">=")), "Criterion", "relation")
        FINITE.check(self.threshold, "Criterion", "threshold")

    def met_by(self, estimate: Estimate) -> bool | None:
        """Return whether the whole interval meets the criterion; ``None`` if the threshold lies within the interval."""
        low, high = estimate.interval
        if self.relation == ">=":
            low, high = -high, -low
        threshold = self.threshold if self.relation == "<=" else -self.threshold
        if high <= threshold:
            return True
        return None if low <= threshold else False

    def unsettled(self, name: str, estimate: Estimate) -> str:
        """Return why ``met_by`` is ``None``, and how many more seeds would probably change that.

        Args:
            name: of the number, in words.
            estimate: the number.
        """
        num, total = estimate.num, seeds_to_settle(estimate.values, estimate.distribution, self.threshold)
        if num < FEWEST:
            return (
                f"{name} is known for {_seeds(num)}, which do{'es' * (num == 1)} not show its spread: it takes {total}"
            )
        if estimate.is_equal and estimate.distribution != "binary":
            return (
                f"{name} is the same for all {_seeds(num)}, which does not show its spread: the claim must explain it"
            )
        if is_contradictory(estimate.values, estimate.distribution):
            return (
                f"the {_seeds(num)} of {name} contradict each other: further ones settle nothing, look for what differs"
            )
        more = f"more than {MOST:,} would be needed" if total is None else f"about {total} in all would settle it"
        return f"the interval of {name} contains the threshold: with the spread of these {_seeds(num)}, {more}"


def _seeds(num: int) -> str:
    return _counted(num, "seed")


def _counted(num: int, name: str) -> str:
    return f"{num} {name}{'' if num == 1 else 's'}"


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
    ...     joma.Estimate((1e-9, 2e-9, 3e-9), distribution="lognormal"),
    ...     (joma.Control("without the correction", joma.Estimate((0.5, 0.6, 0.7), distribution="lognormal")),),
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
        censored: why the deciding number is a bound that decides nothing (networks that never learned within the sizes
            tried), if it is; the claim is then undecided.
    """

    criterion: Criterion
    measured: Estimate
    controls: tuple[Control, ...]
    conclusion: str
    findings: tuple[Finding, ...] = ()
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()
    censored: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows from measured value and controls.

        A claim holds only if every control clearly fails the criterion. If a control meets it, the test cannot
        distinguish the two and the claim is undecided, as it is if its number is only a bound. More seeds of the same
        distributions turn neither ``holds`` nor ``does not hold`` into another verdict, because no interval widens.
        """
        claim = self.criterion.met_by(self.measured)
        if self.censored:
            return Verdict.UNDECIDED
        if claim is False:
            return Verdict.FAILS
        failed = [self.criterion.met_by(control.estimate) is False for control in self.controls]
        return Verdict.HOLDS if claim is True and failed and all(failed) else Verdict.UNDECIDED

    @property
    def why_undecided(self) -> str:
        """Why the claim is undecided, and what would settle it; empty for another verdict."""
        if self.verdict is not Verdict.UNDECIDED:
            return ""
        met = [(control, self.criterion.met_by(control.estimate)) for control in self.controls]
        reasons = [self.censored] if self.censored else []
        reasons += [] if met else ["there is no control: it takes one to show that the test can fail"]
        reasons += [
            f"the control ({control.name}) meets the criterion too: it takes another test, not more seeds"
            for control, passes in met
            if passes
        ]
        open_ones = [(f"the control ({control.name})", control.estimate) for control, passes in met if passes is None]
        if self.criterion.met_by(self.measured) is None:
            open_ones.insert(0, ("the measured number", self.measured))
        few = [name for name, estimate in open_ones if estimate.num < FEWEST]
        if len(few) > 1 and few[0] == "the measured number":  # one reason for all
            known = f"{few[0]} and {_counted(len(few) - 1, 'control')} are known for fewer than {FEWEST} seeds"
            reasons.append(f"{known}, which do not show their spread: it takes {FEWEST}")
            open_ones = [(name, estimate) for name, estimate in open_ones if name not in few]
        reasons += [self.criterion.unsettled(*number) for number in open_ones]
        text = "; ".join(reasons)
        return f"{text[0].upper()}{text[1:]}."

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the verdict and the statistics of each estimate."""
        data = asdict(self)
        data["measured"] |= summary(self.measured)
        for part, records in (("controls", self.controls), ("findings", self.findings)):
            for entry, record in zip(data[part], records, strict=True):
                entry["estimate"] |= summary(record.estimate)
        return data | {"verdict": self.verdict.value, "why_undecided": self.why_undecided or None}


def summary(estimate: Estimate) -> dict[str, Any]:
    """Return mean, standard deviation and interval (``None`` for an infinite end) of an estimate, as plain data."""
    return {
        "mean": estimate.mean,
        "standard_deviation": estimate.standard_deviation,
        "interval": [end if math.isfinite(end) else None for end in estimate.interval],
        "num": estimate.num,
    }


def agreement_from_json(data: Any) -> Agreement:
    """Rebuild an agreement from ``Agreement.to_json``; verdict and statistics are computed again.

    Raises:
        ValueError: the data has another shape.
    """
    return shaped(data, Agreement, ignored=DERIVED)
