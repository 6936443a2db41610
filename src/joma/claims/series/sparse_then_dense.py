"""Claim series.sparse_then_dense: whether attention becomes sparse and then dense again over saved steps."""

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
    "2 % of the entropy of uniform attention, as in text.sparse_then_dense; smaller changes may be noise of the probes",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read how far attention entropy falls and comes back, layer by layer, in every family."""
    models, notes = subjects(workspace)
    onsets = {subject.name: subject.frequencies_learned() for subject in models}

    def courses(subject: Subject) -> list[Course]:
        return [subject.course(ENTROPY, layer).between(onsets[subject.name]) for layer in subject.layers]

    by_name = {subject.name: courses(subject) for subject in models}
    findings: list[Finding] = []
    charts: list[Chart] = []
    for subject in models:
        name, onset = subject.name, onsets[subject.name]
        last = Estimate.of(subject.course(LOSS, None).values[:, -1] - np.mean(subject.unigram_nats), "nats")
        findings.append(Finding(f"{name}: word frequencies learned at", Estimate((float(onset),), "steps", "constant")))
        findings.append(Finding(f"{name}: last loss minus that of word frequencies", last))
        for layer, course in zip(subject.layers, by_name[name], strict=True):
            findings += course.movements(f"{name}, layer {layer}: ")
        charts += _charts(subject, onset, by_name[name])
    measured = Estimate(smallest(models, courses))
    in_order = f"saved steps in random order (mean of {NUM_ORDERS})"
    return Agreement(
        CRITERION,
        measured,
        (Control(in_order, Estimate(in_random_order(models, courses))),),
        conclusion="Once a model predicts better than word frequencies, attention entropy changes as follows, in "
        "shares of that of uniform attention and averaged over layers: "
        f"{movements(by_name, CRITERION, measured)}. What may bring it back is another claim (text.mechanism).",
        findings=tuple(findings),
        charts=tuple(charts),
        notes=notes,
    )


def _charts(subject: Subject, onset: int, courses: list[Course]) -> tuple[Chart, ...]:
    bottoms = [course.steps[found.bottom_idx] for course in courses for found in course.rebounds()]
    return (
        Chart(
            f"entropy_{subject.id}",
            f"Attention entropy over a series of saved steps: {subject.name}",
            "By layer, on held-out text; 1 is uniform attention over the visible keys. Fall and rise are read from the "
            "step on at which the model beats word frequencies. Bands: one standard deviation over repetitions.",
            "optimiser steps",
            "entropy / ln(visible keys)",
            tuple(subject.course(ENTROPY, layer).curve(f"layer {layer}") for layer in subject.layers),
            (Mark("x", float(onset), "word frequencies learned"), Mark("x", float(np.median(bottoms)), "sparsest")),
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
