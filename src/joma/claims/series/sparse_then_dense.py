"""The phenomenon in series of saved steps: does attention become sparse and then dense in models of known families?"""

from __future__ import annotations

import numpy as np

from joma.charts import Chart, Mark
from joma.claims.series.subject import ENTROPY, LOSS, NUM_ORDERS, Subject, in_random_order, movements, smallest
from joma.claims.series.subjects import subjects
from joma.claims.text.networks import Course
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding

CRITERION = Criterion(
    "smaller of fall and rise of the attention entropy as a share of uniform attention's, mean over layers, in the "
    "family that shows less",
    ">=",
    0.02,
    "2 % of the entropy of uniform attention, as in text.sparse_then_dense; smaller changes are within reach of the "
    "probes' noise",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read how far attention entropy falls and comes back, layer by layer, in every family."""
    found = subjects(workspace)
    onsets = {subject.name: subject.frequencies_learned() for subject in found.models}

    def courses(subject: Subject) -> list[Course]:
        return [subject.course(ENTROPY, layer).between(onsets[subject.name]) for layer in subject.layers]

    findings = tuple(
        finding
        for subject in found.models
        for finding in (*_learned(subject, onsets[subject.name]), *_shapes(subject, courses(subject)))
    )
    measured = Estimate(smallest(found.models, courses))
    return Agreement(
        CRITERION,
        measured,
        (
            Control(
                f"saved steps in random order (mean of {NUM_ORDERS})",
                Estimate(in_random_order(found.models, courses)),
            ),
        ),
        conclusion=_conclusion(measured, {subject.name: courses(subject) for subject in found.models}),
        findings=findings,
        charts=tuple(
            chart for subject in found.models for chart in _charts(subject, onsets[subject.name], courses(subject))
        ),
        notes=found.notes,
    )


def _learned(subject: Subject, onset: int) -> tuple[Finding, ...]:
    last = subject.course(LOSS, None).values[:, -1]
    return (
        Finding(f"{subject.name}: word frequencies learned at", Estimate((float(onset),), "steps")),
        Finding(
            f"{subject.name}: last loss minus that of word frequencies",
            Estimate.of(last - np.mean(subject.unigram_nats), "nats"),
        ),
    )


def _shapes(subject: Subject, courses: list[Course]) -> tuple[Finding, ...]:
    findings = []
    for layer, course in zip(subject.layers, courses, strict=True):
        found, where = course.rebounds(), f"{subject.name}, layer {layer}"
        findings += [
            Finding(f"{where}: fall", Estimate.of(one.fall for one in found)),
            Finding(f"{where}: rise after it", Estimate.of(one.rise for one in found)),
            Finding(
                f"{where}: step of the bottom",
                Estimate.of((float(course.steps[one.bottom_idx]) for one in found), "steps"),
            ),
        ]
    return tuple(findings)


def _charts(subject: Subject, onset: int, courses: list[Course]) -> tuple[Chart, ...]:
    bottoms = [course.steps[found.bottom_idx] for course in courses for found in course.rebounds()]
    return (
        Chart(
            f"entropy_{subject.id}",
            f"Attention entropy over a series of saved steps: {subject.name}",
            "By layer, on held-out text; 1 is uniform attention over the keys a query sees. Read from where the model "
            "beats word frequencies. Bands: one standard deviation over repetitions.",
            "optimiser steps",
            "entropy / ln(visible keys)",
            tuple(subject.course(ENTROPY, layer).curve(f"layer {layer}") for layer in subject.layers),
            (
                Mark("x", float(onset), "word frequencies learned"),
                Mark("x", float(np.median(bottoms)), "sparsest"),
            ),
        ),
        Chart(
            f"loss_{subject.id}",
            f"Loss on the same held-out text: {subject.name}",
            "The model learns more than how frequent tokens are.",
            "optimiser steps",
            "loss (nats per token)",
            (subject.course(LOSS, None).curve("loss"),),
            (Mark("y", float(np.mean(subject.unigram_nats)), "word frequencies alone"),),
        ),
    )


def _conclusion(measured: Estimate, by_name: dict[str, list[Course]]) -> str:
    meaning = {
        True: f"So it falls and comes back by {CRITERION.threshold:.0%} in all of them",
        None: f"Whether it falls and comes back by {CRITERION.threshold:.0%} in all of them is not decided",
        False: f"So in one at least it does not fall and come back by {CRITERION.threshold:.0%} within this training",
    }[CRITERION.met_by(measured)]
    return (
        "Once a model knows more than word frequencies, attention entropy moves as follows, in shares of uniform "
        f"attention's and averaged over layers: {movements(by_name)}. {meaning}. What may bring it back is another "
        "claim (text.mechanism)."
    )
