"""The models that claims on checkpoint series compare, and the number that decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from joma.claims.text.networks import moved
from joma.measure.curves.course import Course
from joma.measure.scan.results import ScanStore, StepResult
from joma.measure.scan.steps import Plan, is_current, measure_step
from joma.metrics import choose_metrics
from joma.progress import Progress
from joma.records import Criterion, Estimate, Row
from joma.saved.series import Series, open_series

ENTROPY, RANK, LOSS = "attention_entropy_normalized", "stable_rank", "val_loss_nats"
NUM_ORDERS, NUM_SEEDS = 50, 3
FEWEST_STEPS = 9
"""The start, the bottom and the end of a curve are three saved steps each."""


@dataclass(frozen=True)
class Subject:
    """One model with the measurements of its series, one series per training run.

    Args:
        name: the name of the model.
        scans: for each series, the results of every saved step.
        unigram_nats: for each series, the loss of predicting the probe from word frequencies alone.
        sources: the series.
    """

    name: str
    scans: tuple[tuple[StepResult, ...], ...]
    unigram_nats: tuple[float, ...]
    sources: tuple[Series, ...]

    @property
    def id(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"\W", "_", self.name.lower())

    @property
    def steps(self) -> tuple[int, ...]:
        """The saved steps."""
        return tuple(result.step for result in self.scans[0])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, 0-based."""
        return tuple(sorted({row.layer for row in self.scans[0][0].rows if row.layer is not None}))

    def course(self, measure: str, layer: int | None, projection: str | None = None) -> Course:
        """Return a metric over training: one row per series, or per group of probe sequences of a single series.

        Args:
            measure: the metric.
            layer: the layer; ``None`` for a metric of the whole model.
            projection: the weight matrix, for a metric of weights; other metrics are averaged over heads.
        """

        def wanted(row: Row) -> bool:
            is_whole = row.head is row.group is None if projection else row.group is not None
            return is_whole and (row.metric, row.layer, row.projection) == (measure, layer, projection)

        curves = [[[row for row in result.rows if wanted(row)] for result in scan] for scan in self.scans]
        if len(curves) == 1 and projection is None:
            groups = sorted({row.group for row in curves[0][0] if row.group is not None})
            curves = [[[row for row in rows if row.group == group] for rows in curves[0]] for group in groups]
        return Course(
            self.steps, np.array([[np.mean([row.value for row in rows]) for rows in curve] for curve in curves])
        )

    def frequencies_learned(self) -> int:
        """Return the first saved step at which the mean loss of the series is below that of word frequencies.

        Raises:
            RunFailed: there is none, or fewer than ``FEWEST_STEPS`` saved steps follow it.
        """
        return self.course(LOSS, None).first_below(float(np.mean(self.unigram_nats)), self.name, FEWEST_STEPS)


class Subjects(NamedTuple):
    """The models that a claim compares, and the notes of its report."""

    models: tuple[Subject, ...]
    notes: tuple[str, ...]


Courses = Callable[[Subject], Sequence[Course]]
"""Read one curve per layer off a model."""


def smallest(subjects: Sequence[Subject], courses: Courses) -> tuple[float, ...]:
    """Return, per repetition, the smaller of fall and rise, mean over layers, in the model where that is smallest."""
    by_model = [
        np.mean([[found.size for found in course.rebounds()] for course in courses(subject)], axis=0)
        for subject in subjects
    ]
    return tuple(min(map(float, sizes)) for sizes in zip(*by_model, strict=False))  # repetitions that all models have


def movements(by_name: Mapping[str, Sequence[Course]], criterion: Criterion, measured: Estimate) -> str:
    """Describe fall and rise of each model, mean over layers and seeds, and whether all meet the criterion."""

    def mean(side: str, courses: Sequence[Course]) -> float:
        return float(np.mean([[getattr(found, side) for found in course.rebounds()] for course in courses]))

    moves = [f"in {name} it {moved(mean('fall', each), mean('rise', each))}" for name, each in by_name.items()]
    meaning = {
        True: f"So it falls and comes back by {criterion.threshold:.0%} in all of them",
        None: f"Whether it falls and comes back by {criterion.threshold:.0%} in all of them is not decided",
        False: f"So in one at least it does not fall and come back by {criterion.threshold:.0%} within this training",
    }[criterion.met_by(measured)]
    return f"{'; '.join(moves)}. {meaning}"


def in_random_order(subjects: Sequence[Subject], courses: Courses) -> tuple[float, ...]:
    """Return ``smallest`` of curves whose saved steps are shuffled, mean over many orders."""
    sizes = [
        smallest(subjects, lambda subject, seed=order: [course.in_random_order(seed) for course in courses(subject)])
        for order in range(NUM_ORDERS)
    ]
    return tuple(map(float, np.mean(sizes, axis=0)))


def measured(series: Series, probe: Tensor, folder: Path, progress: Progress) -> tuple[StepResult, ...]:
    """Measure the steps of a series that are not measured yet; a step that cannot be measured has a result too.

    Raises:
        Unreachable: the hub does not answer any more; the results so far are saved.
    """
    plan = Plan(series, choose_metrics((ENTROPY, RANK, LOSS), "scan"), probe)
    store = ScanStore(folder, plan.settings | {"source": Path(series.source).name})
    what = f"measuring {series.source}"
    for done, step in enumerate(series.steps):
        progress(what, done, len(series.steps))
        if not is_current(series, store.results.get(step)):
            result = measure_step(plan, step)
            if not result.ok:
                open_series(series.source)  # raises Unreachable if the hub is the reason
            store.append(result)
    progress(what, len(series.steps), len(series.steps))
    return tuple(store.results[step] for step in series.steps)
