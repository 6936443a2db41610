"""The results of a scan: its table, and which steps failed, are suspect or are used in verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from joma.measure.curves.quantities import ENTROPY
from joma.measure.scan.results import StepResult
from joma.measure.scan.verification import Verification
from joma.records import Measurement, Row
from joma.tidy import frame_of, typed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Scan:
    """A finished or interrupted scan.

    Args:
        source: of the series.
        settings: what was measured and how.
        text: a sentence about the text that models read; empty if no model was run.
        steps: the requested steps.
        numbered: whether they are steps of a training run, or a single model.
        results: of the measured and failed steps, ascending.
        verification: the result of ``verify`` for the series.
        seconds: duration of this run of the scan.
        with_suspects: whether curves and verdicts include steps that verification excludes.
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
        """Return the table of measurements, including suspect steps (marked) and failed ones (with their reason)."""
        nothing = (Row(None, None, None, "", float("nan")),)
        run = Path(self.source).name or self.source
        frame = frame_of(
            Measurement(run, result.step, *row)
            for result in self.results
            for row in (result.rows if result.ok else nothing)
        )
        frame["metric"] = frame["metric"].replace("", None)
        frame["reason"] = frame["step"].map({result.step: result.reason for result in self.failed})
        frame["suspect"] = frame["step"].map(self.verification.condemned)
        return typed(frame)

    @property
    def measured(self) -> tuple[StepResult, ...]:
        """Steps that were measured."""
        return tuple(result for result in self.results if result.ok)

    @property
    def suspect(self) -> dict[int, str]:
        """The measured steps that verification excludes, with the kinds of their faults."""
        condemned = self.verification.condemned
        return {result.step: condemned[result.step] for result in self.measured if result.step in condemned}

    @property
    def judged(self) -> tuple[StepResult, ...]:
        """The measured steps in curves and verdicts; without suspect ones unless ``with_suspects``."""
        left_out = {} if self.with_suspects else self.suspect
        return tuple(result for result in self.measured if result.step not in left_out)

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Steps that could not be measured, each with its reason."""
        return tuple(result for result in self.results if not result.ok)

    @property
    def last(self) -> StepResult:
        """The last measured step; a suspect one only if all are suspect."""
        return (self.judged or self.measured)[-1]

    @property
    def sparsest(self) -> StepResult | None:
        """The judged step with the lowest mean attention entropy over all layers and heads."""
        means = {}
        for result in self.judged:
            values = [row.value for row in result.rows if row.metric == ENTROPY and row.group is None]
            if values:
                means[result.step] = float(np.mean(values))
        lowest = min(means, key=lambda step: means[step], default=None)
        return next((result for result in self.judged if result.step == lowest), None)
