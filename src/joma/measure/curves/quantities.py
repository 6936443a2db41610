"""Group the rows of a series of probes by quantity: one metric of one layer over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from joma.measure.curves.course import Course
from joma.measure.curves.recovery import Recovery
from joma.metrics import METRICS
from joma.records import Row

ENTROPY = "attention_entropy_nats"

FIRST_ROLE = "mlp_lower"
"""The projection that the theory describes; verdicts on rank are shown for it."""

Probes = Mapping[int, Sequence[Row]]
"""Rows by step, ascending."""


class Quantity(NamedTuple):
    """One metric of one layer: the mean over heads for attention, one whole projection for weights."""

    metric: str
    layer: int
    projection: str | None

    @property
    def is_shown(self) -> bool:
        """Whether reports show it: all quantities except ranks of projections that the theory does not describe."""
        return self.projection in (None, FIRST_ROLE)


def courses(probes: Probes) -> dict[Quantity, Course]:
    """Return the course of each quantity, with one row per group of sequences, by metric, projection and layer."""
    found: dict[Quantity, dict[int, dict[str, list[float]]]] = {}
    for step, rows in probes.items():
        groups = {row.metric for row in rows if row.group is not None}
        for row in rows:
            of_whole = (row.group is None) == (row.metric not in groups)
            if row.projection:  # groups are experts, of which the mean counts
                of_whole = row.head is None and row.group is None
            if row.layer is not None and of_whole:
                by_step = found.setdefault(Quantity(row.metric, row.layer, row.projection), {})
                by_step.setdefault(step, {}).setdefault(row.group or "", []).append(row.value)
    place = {name: idx for idx, name in enumerate(METRICS)}
    order = sorted(found, key=lambda one: (place[one.metric], one.projection or "", one.layer))
    return {quantity: _course(found[quantity]) for quantity in order}


def _course(values: Mapping[int, Mapping[str, Sequence[float]]]) -> Course:
    steps = tuple(sorted(values))
    groups = sorted(values[steps[0]])
    return Course(steps, np.array([[np.mean(values[step][group]) for step in steps] for group in groups]))


def verdicts(probes: Probes) -> dict[Quantity, Recovery]:
    """Return whether each quantity fell and recovered; empty for fewer than four steps."""
    falling = {quantity: course for quantity, course in courses(probes).items() if METRICS[quantity.metric].recovers}
    return {quantity: found for quantity, course in falling.items() if (found := course.recovery()) is not None}


def shown_verdicts(probes: Probes) -> dict[Quantity, Recovery]:
    """Return the verdicts that reports show: on entropy, and on the rank that the theory describes."""
    shown = (ENTROPY, "stable_rank")
    return {key: found for key, found in verdicts(probes).items() if key.metric in shown and key.is_shown}


def by_head(rows: Sequence[Row]) -> dict[tuple[str, str | None], dict[tuple[int, int], float]]:
    """Return the values of one probe by metric and projection, and in each by layer and head."""
    found: dict[tuple[str, str | None], dict[tuple[int, int], float]] = {}
    for row in rows:
        if row.head is not None and row.layer is not None and row.group is None:
            found.setdefault((row.metric, row.projection), {})[row.layer, row.head] = row.value
    return found
