"""The phenomenon in series of saved steps: does attention become sparse and then dense in models of known families?"""

from __future__ import annotations

import numpy as np

from joma.charts import Chart, Mark
from joma.claims.series.subject import ENTROPY, LOSS, NUM_ORDERS, Subject, in_random_order, movements, smallest
from joma.claims.series.subjects import subjects
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
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

    findings: list[Finding] = []
    for subject in found.models:
        findings += _learned(subject, onsets[subject.name])
        for layer, course in zip(subject.layers, courses(subject), strict=True):
            findings += course.movements(f"{subject.name}, layer {layer}: ")
    measured = Estimate(smallest(found.models, courses))
    by_name = {subject.name: courses(subject) for subject in found.models}
    return Agreement(
        CRITERION,
        measured,
        (
            Control(
                f"saved steps in random order (mean of {NUM_ORDERS})",
                Estimate(in_random_order(found.models, courses)),
            ),
        ),
        conclusion="Once a model knows more than word frequencies, attention entropy moves as follows, in shares of "
        f"uniform attention's and averaged over layers: {movements(by_name, CRITERION, measured)}. What may bring it "
        "back is another claim (text.mechanism).",
        findings=tuple(findings),
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
