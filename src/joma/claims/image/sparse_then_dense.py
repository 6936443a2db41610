"""Claim image.sparse_then_dense: whether attention becomes sparse and then dense while a network learns pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from joma.charts import Chart, Mark, id_of
from joma.claims.image.networks import (
    ENTROPY,
    entropy_of,
    every_pictures,
    labels_learned,
    notes,
    notes_on_length,
    share_of_uniform,
    trained,
)
from joma.claims.text.networks import movement
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.courses import course_of
from joma.train.images.pictures import Pictures
from joma.train.run import Run

RANK = "stable_rank"
NUM_ORDERS = 50

CRITERION = Criterion(
    "smaller of fall and rise of the mean attention entropy, as a share of that of uniform attention",
    ">=",
    0.02,
    "as in text.sparse_then_dense: smaller changes may be noise of the probes",
)


@dataclass(frozen=True)
class Subject:
    """Networks that learned some pictures, and those that learned permuted labels, from the learning of labels on.

    Args:
        pictures: what they learned.
        runs, permuted: by seed.
        onset: the first step at which the loss is below that of the frequencies of classes.
    """

    pictures: Pictures
    runs: Sequence[Run]
    permuted: Sequence[Run]
    onset: int

    @property
    def entropy(self) -> Course:
        """Attention entropy, mean over layers, as a share of that of uniform attention."""
        return entropy_of(self.runs).between(self.onset)

    @property
    def of_permuted(self) -> Course:
        """The same of the networks that learned permuted labels."""
        return entropy_of(self.permuted).between(self.onset)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare how far attention entropy falls and rises with labels and with permuted labels."""
    pictures = every_pictures(workspace)
    found = trained(workspace, pictures, ["full network", "permuted labels"])
    subjects = [Subject(some, *runs, labels_learned(runs[0], some)) for some, runs in zip(pictures, found, strict=True)]
    measured = Estimate.of(np.min([_sizes(one.entropy) for one in subjects], axis=0))
    by_chance = [
        np.mean([_sizes(one.entropy.in_random_order(order)) for order in range(NUM_ORDERS)], axis=0) for one in subjects
    ]
    permuted = [_sizes(one.of_permuted) for one in subjects]
    return Agreement(
        CRITERION,
        measured,
        (
            Control(f"probes in random order (mean of {NUM_ORDERS})", Estimate.of(np.max(by_chance, axis=0))),
            Control("permuted labels", Estimate.of(np.max(permuted, axis=0))),
        ),
        conclusion=_conclusion(subjects),
        findings=tuple(finding for one in subjects for finding in _findings(one)),
        charts=tuple(chart for one in subjects for chart in _charts(one)),
        notes=(*notes(workspace, pictures), *notes_on_length(workspace)),
    )


def _sizes(course: Course) -> list[float]:
    return [one.size for one in course.rebounds()]


def _findings(subject: Subject) -> list[Finding]:
    name = subject.pictures.name
    layers = range(subject.runs[0].recipe.decoder.num_layers)
    by_layer = [course_of(subject.runs, ENTROPY, layer).between(subject.onset) for layer in layers]
    ranks = [course_of(subject.runs, RANK, layer).between(subject.onset) for layer in layers]
    accuracy = course_of(subject.runs, "val_accuracy", None)
    return [
        Finding(f"{name}: accuracy on unseen pictures", Estimate.of(accuracy.values[:, -1])),
        *subject.entropy.movements(f"{name}: "),
        *(
            finding
            for layer in layers
            for finding in (
                *share_of_uniform(by_layer[layer], subject.runs).movements(f"{name}, layer {layer}: entropy, "),
                *ranks[layer].movements(f"{name}, layer {layer}: stable rank, "),
            )
        ),
        Finding(
            f"{name}: step from which more than the frequencies of labels is known",
            Estimate((float(subject.onset),), "steps", "constant"),
        ),
    ]


def _charts(subject: Subject) -> tuple[Chart, ...]:
    name = subject.pictures.name
    id = id_of(name)
    layers = range(subject.runs[0].recipe.decoder.num_layers)
    onset = Mark("x", float(subject.onset), "frequencies of labels learned")
    return (
        Chart(
            f"entropy_{id}",
            f"Attention entropy on unseen pictures ({name}) while the network learns their labels",
            "Mean over layers, heads and queries. The dashed line shows where fall and rise are read: its level parts "
            "are means over several probes at the start, at the lowest part and at the end. Bands: one standard "
            "deviation over seeds.",
            "optimiser steps",
            "attention entropy (1: uniform)",
            (
                entropy_of(subject.runs).curve("labels"),
                entropy_of(subject.permuted).curve("permuted labels", "control"),
                subject.entropy.read_levels("read", "labels"),
            ),
            (onset,),
        ),
        Chart(
            f"layers_{id}",
            f"Attention entropy by layer ({name})",
            "Bands: one standard deviation over seeds.",
            "optimiser steps",
            "attention entropy (nats)",
            tuple(course_of(subject.runs, ENTROPY, layer).curve(f"layer {layer}") for layer in layers),
        ),
        Chart(
            f"ranks_{id}",
            f"Stable rank of the MLP's lower layer ({name})",
            "The theory predicts that the rank falls while attention becomes sparse and rises when it becomes dense. "
            "Bands: one standard deviation over seeds.",
            "optimiser steps",
            "stable rank ‖W‖²_F / σ₁²",
            tuple(course_of(subject.runs, RANK, layer).curve(f"layer {layer}") for layer in layers),
        ),
    )


def _conclusion(subjects: Sequence[Subject]) -> str:
    moves = " and ".join(f"{movement(one.entropy)} on {one.pictures.name}" for one in subjects)
    return (
        "Once the network predicts better than the frequencies of labels, attention entropy, as a share of that of "
        f"uniform attention, {moves}. Whether the MLP's nonlinearity makes it rise is another claim (image.mechanism)."
    )
