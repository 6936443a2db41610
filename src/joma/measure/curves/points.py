"""The points of a sweep: courses over the seeds of each, and how far attention and rank fell and rose in each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from joma.errors import RunFailed
from joma.measure.curves.course import Course
from joma.measure.curves.quantities import ENTROPY

if TYPE_CHECKING:
    import pandas

RANK, LOSS = "stable_rank", "val_loss_nats"
MOVED = (LOSS, "entropy_fall", "entropy_rise", "rank_fall", "rank_rise")
"""What ``Point.movements`` returns for a run."""

FEWEST_PROBES = 9
"""The number of probes that a fall and a rise are read from at least."""

BEYOND = 0.1
"""Nats by which a network has to end below the loss of word frequencies to count as one that learned more: two standard
errors of a held-out loss on 64 sequences of 35 words.
"""


@dataclass(frozen=True)
class Point:
    """The runs of one point of a sweep, one for each seed.

    Args:
        settings: of the point, without the seed.
        runs: names of the runs in the order of the rows of each course: the finished ones, or those that are not
            finished if there are no others.
        courses: by metric and layer (``None`` for the network), at the steps that all these runs measured.
        failed: the reason of each run that failed, by name.
        onset: the step from which the network predicts better than word frequencies; ``None`` if there is none that
            leaves ``FEWEST_PROBES``.
        learned: the places, among the runs, of those that end below word frequencies by ``BEYOND``.
        is_finished: whether the runs are.
        num_left_out: the number of runs that are left out because they are not finished and others are.
    """

    settings: Mapping[str, Any]
    runs: tuple[str, ...]
    courses: Mapping[tuple[str, int | None], Course]
    failed: Mapping[str, str]
    onset: int | None
    learned: tuple[int, ...]
    is_finished: bool = True
    num_left_out: int = 0

    def layers(self, metric: str) -> dict[int, Course]:
        """Return the course of a metric in each layer."""
        return {layer: course for (name, layer), course in self.courses.items() if name == metric and layer is not None}

    def mean_over_layers(self, metric: str) -> Course | None:
        """Return the course of the mean over layers; ``None`` if no layer was measured."""
        layers = list(self.layers(metric).values())
        return Course(layers[0].steps, np.mean([course.values for course in layers], axis=0)) if layers else None

    @property
    def loss(self) -> Course | None:
        """The held-out loss; ``None`` if it was not measured."""
        return self.courses.get((LOSS, None))

    def movements(self) -> dict[str, dict[str, float]]:
        """Return for each run how far entropy and rank fell and rose again, and the last held-out loss.

        Entropy, the mean over layers in nats, is read from the onset on, of the runs that learned more than word
        frequencies; rank, as a share of its first value, from the first probe on. Both are left out where they cannot
        be read.
        """
        found: dict[str, dict[str, float]] = {run: {} for run in self.runs}
        entropy, rank = self.mean_over_layers(ENTROPY), self.mean_over_layers(RANK)
        if entropy is not None and self.onset is not None:
            course, runs = _rows(entropy.between(self.onset), self.learned), [self.runs[at] for at in self.learned]
            self._read(course, runs, "entropy", found)
        if rank is not None and len(rank.steps) >= FEWEST_PROBES and (rank.values[:, 0] > 0).all():
            self._read(Course(rank.steps, rank.values / rank.values[:, :1]), self.runs, "rank", found)
        for run, losses in zip(self.runs, () if self.loss is None else self.loss.values, strict=False):
            found[run][LOSS] = float(losses[-1])
        return found

    def _read(self, course: Course, runs: Sequence[str], name: str, found: dict[str, dict[str, float]]) -> None:
        for run, moved in zip(runs, course.rebounds(), strict=True):
            found[run] |= {f"{name}_fall": moved.fall, f"{name}_rise": moved.rise}


def points_of(frame: pandas.DataFrame, settings: Sequence[str], unigram_nats: Mapping[str, float]) -> list[Point]:
    """Return the points of a sweep's table, in its order.

    Args:
        frame: the table, with the columns run, step, layer, metric, value, status, reason, and the settings.
        settings: the columns that make a point; not the seed.
        unigram_nats: the loss of predicting by word frequencies, for each run.
    """
    found = []
    for _, rows in frame.groupby(list(settings), sort=False, dropna=False):
        first = rows.drop_duplicates("run").set_index("run")
        failed = {str(run): str(reason) for run, reason in first[first["status"] == "failed"]["reason"].items()}
        finished, unfinished = (first.index[first["status"] == status] for status in ("finished", "unfinished"))
        runs = tuple(map(str, finished if len(finished) else unfinished))
        courses = _courses(rows[rows["run"].isin(runs)], runs)
        point = {name: first[name].iloc[0] for name in settings}
        unigram = max((unigram_nats[run] for run in runs), default=0.0)
        left_out = len(unfinished) if len(finished) else 0
        whole = Point(point, runs, courses, failed, None, (), len(finished) > 0, left_out)
        found.append(until(whole, math.inf, unigram))
    return found


def _courses(rows: pandas.DataFrame, runs: Sequence[str]) -> dict[tuple[str, int | None], Course]:
    """Average over heads, and keep the steps that all runs measured."""
    import pandas

    courses: dict[tuple[str, int | None], Course] = {}
    for metric, of_metric in rows.groupby("metric"):
        for layer, of_layer in of_metric.groupby("layer", dropna=False):
            by_run = of_layer.pivot_table(index="run", columns="step", values="value", aggfunc="mean")
            if set(by_run.index) != set(runs):
                continue
            common = by_run.loc[list(runs)].dropna(axis=1)
            if common.shape[1]:
                key = str(metric), None if pandas.isna(layer) else int(str(layer))
                courses[key] = Course(tuple(map(int, common.columns)), common.to_numpy())
    return courses


def until(point: Point, last: float, unigram_nats: float) -> Point:
    """Return a point as if its runs had been trained to a step only; attention is read of those that learned more.

    Args:
        point: the point.
        last: the step.
        unigram_nats: the loss of predicting by word frequencies.
    """
    courses = {key: course.between(0, last) for key, course in point.courses.items()}
    loss = courses.get((LOSS, None))
    learned = () if loss is None else tuple(np.flatnonzero(loss.values[:, -1] <= unigram_nats - BEYOND).tolist())
    onset = onset_of(_rows(loss, learned), unigram_nats) if loss is not None and learned else None
    return replace(point, courses=courses, onset=onset, learned=learned)


def _rows(course: Course, places: Sequence[int]) -> Course:
    return Course(course.steps, course.values[list(places)])


def onset_of(loss: Course, unigram_nats: float) -> int | None:
    """Return the step from which the mean loss is below that of word frequencies.

    ``None`` if there is none that leaves ``FEWEST_PROBES``.
    """
    try:
        return loss.first_below(unigram_nats, "the network", fewest=FEWEST_PROBES)
    except RunFailed:
        return None
