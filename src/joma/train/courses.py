"""The metrics of trained networks over their steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from joma.measure.curves.course import Course
from joma.train.run import Run

LEARNING = ("validation_accuracy", "validation_loss_nats", "train_loss_nats")
"""What is measured of a network that learns a law's labels."""


def course_of(runs: Sequence[Run], metric: str, layer: int | None = 0) -> Course:
    """Read one metric of several runs, averaged over heads.

    Args:
        runs: the repetitions, probed at the same steps.
        metric: its name in the metrics table.
        layer: which layer; ``None`` for a metric of the whole network.
    """
    rows: list[dict[int, list[float]]] = []
    for run in runs:
        by_step: dict[int, list[float]] = {}
        for entry in run.measurements():
            if entry.metric == metric and entry.layer == layer:
                by_step.setdefault(entry.step, []).append(entry.value)
        rows.append(by_step)
    steps = tuple(sorted(rows[0]))
    return Course(steps, np.array([[np.mean(row[step]) for step in steps] for row in rows]))


def probe_groups(run: Run, metric: str, kind: str) -> list[str]:
    """The names under which a metric is kept for groups of ``positions`` or of ``probes``, the lowest first."""
    prefix = f"{metric}/{kind}_"
    names = {entry.metric for entry in run.measurements() if entry.metric.startswith(prefix)}
    return sorted(names, key=lambda name: int(name.removeprefix(prefix).split("_")[0]))
