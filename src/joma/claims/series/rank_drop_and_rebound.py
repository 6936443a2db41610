"""Claim series.rank_drop_and_rebound: whether the MLP's lower layers lose rank and regain it over saved steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from joma.charts import Chart
from joma.claims.series.subject import NUM_ORDERS, RANK, Subject, in_random_order, movements, smallest
from joma.claims.series.subjects import subjects
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
from joma.measure.models.families import projections
from joma.measure.spectra.spectrum import stable_rank
from joma.records import Agreement, Control, Criterion, Estimate

LOWER = "mlp_lower"

CRITERION = Criterion(
    "smaller of fall and rise of the MLP's lower layer's stable rank as a share of its initial value, mean over "
    "layers, in the family that shows less",
    ">=",
    0.05,
    "one twentieth of the initial rank, as in text.rank_drop: well above the change between two saved steps",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read how far the stable rank falls and whether it comes back, layer by layer."""
    models, notes = subjects(workspace)
    measured = Estimate(smallest(models, _shares))
    in_order = f"saved steps in random order (mean of {NUM_ORDERS})"
    by_name = {subject.name: _shares(subject) for subject in models}
    return Agreement(
        CRITERION,
        measured,
        (
            Control(in_order, Estimate(in_random_order(models, _shares))),
            Control("entries of every matrix shuffled", Estimate(smallest(models, _with_entries_shuffled))),
        ),
        conclusion="The stable rank, the effective number of directions of a matrix, changes as follows, in shares of "
        f"its initial value and averaged over layers: {movements(by_name, CRITERION, measured)}. The theory assumes a "
        "constant upstream gradient, which training with cross-entropy does not have.",
        findings=tuple(
            finding
            for subject in models
            for layer, course in zip(subject.layers, _courses(subject), strict=True)
            for finding in course.levels(f"{subject.name}, layer {layer}")
        ),
        charts=tuple(map(_chart, models)),
        notes=notes,
    )


def _courses(subject: Subject) -> list[Course]:
    return [subject.course(RANK, layer, LOWER) for layer in subject.layers]


def _shares(subject: Subject) -> list[Course]:
    return [_as_share(course) for course in _courses(subject)]


def _as_share(course: Course) -> Course:
    return replace(course, values=course.values / course.values[:, :1])


def _with_entries_shuffled(subject: Subject) -> list[Course]:
    """The ranks, by layer, of the same matrices with their entries shuffled, as shares of their initial values."""
    values = np.empty((len(subject.layers), len(subject.sources), len(subject.steps)))
    for repetition, series in enumerate(subject.sources):
        for at, step in enumerate(subject.steps):
            checkpoint = series.checkpoint(step)
            found = projections(checkpoint.config, checkpoint.tensors)
            lower = [part for part in found if part.role == LOWER and part.part is None]
            tensors = series.read(step, [part.tensor for part in lower])
            for layer, part in enumerate(lower):
                matrix = part.of(tensors[part.tensor]).float()
                order = torch.randperm(matrix.numel(), generator=torch.Generator().manual_seed(step))
                values[layer, repetition, at] = stable_rank(matrix.flatten()[order].view_as(matrix)).item()
    return [_as_share(Course(subject.steps, curves)) for curves in values]


def _chart(subject: Subject) -> Chart:
    return Chart(
        f"stable_rank_{subject.id}",
        f"Stable rank of the MLP's lower layer over a series of saved steps: {subject.name}",
        "The theory predicts that the rank falls while few components are salient and rises as the others catch up. "
        "Bands: one standard deviation over repetitions.",
        "optimiser steps",
        "stable rank ‖W‖²_F / σ₁²",
        tuple(course.curve(f"layer {layer}") for layer, course in zip(subject.layers, _courses(subject), strict=True)),
    )
