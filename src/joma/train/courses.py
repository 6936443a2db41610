"""The metrics of trained networks over their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from joma.measure.curves.course import Course
from joma.problem.tree import Law
from joma.train.run import Run


class Learning(NamedTuple):
    """What a run on a law's labels has learned.

    Args:
        run: of one network.
        law: whose labels it predicts.
        accuracy, loss: on held-out samples, the loss in nats.
        train_loss: while it trained, in nats.
    """

    run: Run
    law: Law
    accuracy: Course
    loss: Course
    train_loss: Course


def learning_of(run: Run) -> Learning:
    """Read what a run on a law's labels has learned."""
    metrics = ("validation_accuracy", "validation_loss_nats", "train_loss_nats")
    return Learning(run, run.law(), *(course_of([run], metric, None) for metric in metrics))


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
