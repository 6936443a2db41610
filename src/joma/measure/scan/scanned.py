"""What a scan found: its numbers as a table and as courses over the steps, and which of them recovered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from joma.measure.curves.course import Course
from joma.measure.curves.recovery import Recovery
from joma.measure.scan.results import StepResult
from joma.measure.scan.verification import Verification
from joma.metrics import METRICS
from joma.records import Measurement, Row
from joma.tidy import frame_of, typed

if TYPE_CHECKING:
    import pandas

ENTROPY = "attention_entropy_nats"

FIRST_ROLE = "mlp_lower"
"""The projection that the theory speaks of: verdicts on rank are shown for it."""


@dataclass(frozen=True)
class Scan:
    """A scan that has ended or was interrupted.

    Args:
        source: of the series.
        settings: what was measured and how.
        text: what models read, in a sentence; empty where none did.
        steps: asked for.
        numbered: whether they are steps of a training, or one model alone.
        results: of the steps that were looked at, ascending.
        verification: what looking at the series first found.
        seconds: how long the scan took this time.
        with_suspects: whether curves and verdicts go through steps that verification condemns.
    """

    source: str
    settings: dict[str, Any]
    text: str
    steps: tuple[int, ...]
    numbered: bool
    results: tuple[StepResult, ...]
    verification: Verification
    seconds: float
    with_suspects: bool = False

    def frame(self) -> pandas.DataFrame:
        """The table of measurements; suspect steps are in it, marked as such, and failed ones with their reason."""
        return frame_of_steps(self.source, self.results, self.verification.condemned)

    @property
    def measured(self) -> tuple[StepResult, ...]:
        """Steps that have numbers."""
        return tuple(result for result in self.results if result.ok)

    @property
    def suspect(self) -> dict[int, str]:
        """Of the measured steps those that verification condemns, with the kinds of what is wrong with them."""
        condemned = self.verification.condemned
        return {result.step: condemned[result.step] for result in self.measured if result.step in condemned}

    @property
    def judged(self) -> tuple[StepResult, ...]:
        """Measured steps that curves and verdicts go through: without suspect ones, unless they are asked for."""
        left_out = {} if self.with_suspects else self.suspect
        return tuple(result for result in self.measured if result.step not in left_out)

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Steps that have none, each with its reason."""
        return tuple(result for result in self.results if not result.ok)

    @property
    def last(self) -> StepResult:
        """The last measured step, a suspect one only where there is no other."""
        return (self.judged or self.measured)[-1]

    @property
    def sparsest(self) -> StepResult | None:
        """The judged step whose attention has the lowest entropy, on the mean over all layers and heads."""
        means = {}
        for result in self.judged:
            values = [row.value for row in result.rows if row.metric == ENTROPY and row.group is None]
            if values:
                means[result.step] = float(np.mean(values))
        lowest = min(means, key=lambda step: means[step], default=None)
        return next((result for result in self.judged if result.step == lowest), None)


def frame_of_steps(source: str, results: Iterable[StepResult], condemned: Mapping[int, str]) -> pandas.DataFrame:
    """The table of measurements (``joma.tidy``), with one row without a number for each failed step.

    Args:
        source: of the series; its name becomes the run's.
        results: of all steps.
        condemned: by step, what is wrong with it (``Verification.condemned``): the column ``suspect``.
    """
    nothing = (Row(None, None, None, "", float("nan")),)
    results, run = list(results), Path(source).name or source
    frame = frame_of(
        Measurement(run, result.step, *row) for result in results for row in (result.rows if result.ok else nothing)
    )
    frame["metric"] = frame["metric"].replace("", None)
    reasons = {result.step: result.reason for result in results if not result.ok}
    for name, known in (("reason", reasons), ("suspect", dict(condemned))):
        frame[name] = frame["step"].map(known)
    return typed(frame)


class Quantity(NamedTuple):
    """One metric of one layer: of attention the mean over heads, of weights one whole projection."""

    metric: str
    layer: int
    projection: str | None

    @property
    def is_shown(self) -> bool:
        """Whether people are shown it: everything but the ranks of projections that the theory does not speak of."""
        return self.projection in (None, FIRST_ROLE)


def courses(results: Sequence[StepResult]) -> dict[Quantity, Course]:
    """Every quantity over the steps that have it, a row per group of sequences, by metric, projection and layer."""
    found: dict[Quantity, dict[int, dict[str, list[float]]]] = {}
    for result in results:
        groups = {row.metric for row in result.rows if row.group is not None}
        for row in result.rows:
            of_whole = row.head is None if row.projection else (row.group is None) == (row.metric not in groups)
            if row.layer is not None and of_whole:
                by_step = found.setdefault(Quantity(row.metric, row.layer, row.projection), {})
                by_step.setdefault(result.step, {}).setdefault(row.group or "", []).append(row.value)
    place = {name: idx for idx, name in enumerate(METRICS)}
    order = sorted(found, key=lambda one: (place[one.metric], one.projection or "", one.layer))
    return {quantity: _course(found[quantity]) for quantity in order}


def _course(values: Mapping[int, Mapping[str, Sequence[float]]]) -> Course:
    """The means of values by step and group."""
    steps = tuple(sorted(values))
    groups = sorted(values[steps[0]])
    return Course(steps, np.array([[np.mean(values[step][group]) for step in steps] for group in groups]))


def verdicts(results: Sequence[StepResult]) -> dict[Quantity, Recovery]:
    """Where each layer was sparsest or of lowest rank, and whether it recovered; none for fewer than four steps."""
    asked = {quantity: course for quantity, course in courses(results).items() if METRICS[quantity.metric].recovers}
    return {quantity: found for quantity, course in asked.items() if (found := course.recovery()) is not None}


def shown_verdicts(results: Sequence[StepResult]) -> dict[Quantity, Recovery]:
    """Those that people are shown: entropy, and the rank that the theory speaks of; all are in ``scan.json``."""
    shown = (ENTROPY, "stable_rank")
    return {key: found for key, found in verdicts(results).items() if key.metric in shown and key.is_shown}


def by_head(result: StepResult) -> dict[tuple[str, str | None], dict[tuple[int, int], float]]:
    """The numbers of one step, by metric and projection, and in these by layer and head."""
    found: dict[tuple[str, str | None], dict[tuple[int, int], float]] = {}
    for row in result.rows:
        if row.head is not None and row.layer is not None and row.group is None:
            found.setdefault((row.metric, row.projection), {})[row.layer, row.head] = row.value
    return found
