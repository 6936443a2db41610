"""Metrics of training runs over their steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from joma.measure.curves.course import Course
from joma.train.run import Run

LEARNING = ("val_accuracy", "val_loss_nats", "train_loss_nats")
"""The metrics of learning in a network that predicts the labels of a law."""


def course_of(runs: Sequence[Run], metric: str, layer: int | None = 0, group: str | None = None) -> Course:
    """Return one metric of several runs, averaged over heads, at the steps that all have.

    Args:
        runs: the repetitions, of which some may not be finished.
        metric: the name of the metric.
        layer: the layer; ``None`` for a metric of the whole network.
        group: the group of positions or sequences; ``None`` for the whole probe.
    """
    rows: list[dict[int, list[float]]] = []
    for run in runs:
        by_step: dict[int, list[float]] = {}
        for entry in run.measurements():
            if (entry.metric, entry.layer, entry.group) == (metric, layer, group):
                by_step.setdefault(entry.step, []).append(entry.value)
        rows.append(by_step)
    steps = tuple(sorted(set.intersection(*map(set, rows))))
    return Course(steps, np.array([[np.mean(row[step]) for step in steps] for row in rows]))


def probe_groups(run: Run, metric: str, kind: str) -> list[str]:
    """Return the groups of ``positions`` or ``sequences`` for which a metric is recorded, in ascending order."""
    groups = {entry.group for entry in run.measurements() if entry.metric == metric and entry.group is not None}
    return sorted((group for group in groups if group.startswith(kind)), key=lambda group: int(group.split("_")[1]))
