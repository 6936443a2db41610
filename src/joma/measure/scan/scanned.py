"""What a scan found: its numbers as a table and as courses over the steps, and which of them recovered."""

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
