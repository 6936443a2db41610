"""Kinds of models that claims on checkpoint series compare, and the number that compares them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
"""A curve has a start, a bottom and an end, each of three saved steps."""


@dataclass(frozen=True)
class Subject:
    """One kind of model, and its series measured: one for every seed, or a published one.

    Args:
        name: of the kind.
        scans: the results of every saved step, one tuple per series.
        unigram_nats: the loss, on each series' probe, of predicting by word frequencies alone.
        sources: where the series are.
    """

    name: str
    scans: tuple[tuple[StepResult, ...], ...]
    unigram_nats: tuple[float, ...]
    sources: tuple[Series, ...]

    @property
    def id(self) -> str:
        """The name, fit for one of a file."""
        return re.sub(r"\W", "_", self.name.lower())

    @property
    def steps(self) -> tuple[int, ...]:
        """The saved steps."""
        return tuple(result.step for result in self.scans[0])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, from 0."""
        return tuple(sorted({row.layer for row in self.scans[0][0].rows if row.layer is not None}))

    def course(self, measure: str, layer: int | None, projection: str | None = None) -> Course:
        """One quantity over training: a row per seed, of a single series a row per group of probe sequences.

        Args:
            measure: its name.
            layer: ``None`` for one of the whole model.
            projection: of which it is read, for those of weights; heads are averaged over elsewhere.
        """

        def wanted(row: Row) -> bool:
            of_whole = row.head is None if projection else row.group is not None
            return row.metric == measure and row.layer == layer and row.projection == projection and of_whole

        curves = [[[row for row in result.rows if wanted(row)] for result in scan] for scan in self.scans]
        if len(curves) == 1 and projection is None:
            groups = sorted({row.group for row in curves[0][0] if row.group is not None})
            curves = [[[row for row in rows if row.group == group] for rows in curves[0]] for group in groups]
        return Course(
            self.steps, np.array([[np.mean([row.value for row in rows]) for rows in curve] for curve in curves])
        )

    def frequencies_learned(self) -> int:
        """The first saved step at which the series together predict better than word frequencies can.

        Raises:
            RunFailed: they never do, or so late that hardly a saved step is left.
        """
        return self.course(LOSS, None).first_below(float(np.mean(self.unigram_nats)), self.name, FEWEST_STEPS)


@dataclass(frozen=True)
class Subjects:
    """What a claim compares: kinds of models, and what a reader must know of them."""

    models: tuple[Subject, ...]
    notes: tuple[str, ...]


Courses = Callable[[Subject], Sequence[Course]]
"""Read one curve per layer off a kind of model."""


def smallest(subjects: Sequence[Subject], courses: Courses) -> tuple[float, ...]:
    """The smaller of fall and rise per repetition: the mean over layers, of the kind of model in which it is least."""
    by_kind = [
        np.mean([[found.size for found in course.rebounds()] for course in courses(subject)], axis=0)
        for subject in subjects
    ]
    return tuple(min(map(float, sizes)) for sizes in zip(*by_kind, strict=False))  # as many as all kinds have


def movements(by_name: Mapping[str, Sequence[Course]], criterion: Criterion, measured: Estimate) -> str:
    """How far each kind of model falls and rises again, mean over layers and seeds, and whether all do, in words."""

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
    """The same number where the saved steps of every curve are shuffled, meaned over many orders."""

    def reordered(subject: Subject, order: int) -> list[Course]:
        return [course.in_random_order(order) for course in courses(subject)]

    sizes = [smallest(subjects, lambda subject, n=order: reordered(subject, n)) for order in range(NUM_ORDERS)]
    return tuple(map(float, np.mean(sizes, axis=0)))


def measured(series: Series, probe: Tensor, folder: Path, progress: Progress) -> tuple[StepResult, ...]:
    """Measure every step of a series that is not measured yet; one that fails is a result too.

    Raises:
        Unreachable: the hub does not answer any more; the steps before are kept.
    """
    plan = Plan(series, choose_metrics((ENTROPY, RANK, LOSS), "scan"), probe)
    store = ScanStore(folder, plan.settings | {"source": Path(series.source).name})
    what = f"measuring {series.source}"
    for done, step in enumerate(series.steps):
        progress(what, done, len(series.steps))
        if not is_current(series, store.results.get(step)):
            result = measure_step(plan, step)
            if not result.ok:
                open_series(series.source)  # says so where not the step is at fault: a hub that has gone meanwhile
            store.append(result)
    progress(what, len(series.steps), len(series.steps))
    return tuple(store.results[step] for step in series.steps)
