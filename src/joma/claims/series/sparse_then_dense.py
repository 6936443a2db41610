"""The phenomenon in series of saved steps: does attention become sparse and then dense in models of known families?"""

from __future__ import annotations

import numpy as np

from joma.charts import Chart, Mark
from joma.claims.registry import claim
from joma.claims.series.subject import ENTROPY, LOSS, NUM_ORDERS, Subject, in_random_order, smallest
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


@claim(
    "series.sparse_then_dense",
    test="A GPT-NeoX (laid out as Pythia) and an OPT model learn real text; their saved steps are read from the files "
    "as any series is. Every layer's fall and rise of attention entropy on held-out text are read off, from the step "
    "on at which the model beats word frequencies, where the other seeds say the bottom is. With --profile full: "
    "series published on the hub; skipped where there is no network.",
    control="The same curves with their saved steps in random order.",
    needs_text=True,
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
    return Agreement(
        CRITERION,
        Estimate(smallest(found.models, courses)),
        (
            Control(
                f"saved steps in random order (mean of {NUM_ORDERS})",
                Estimate(in_random_order(found.models, courses)),
            ),
        ),
        conclusion=_conclusion({subject.name: courses(subject) for subject in found.models}),
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
            Estimate(tuple(map(float, last - np.mean(subject.unigram_nats))), "nats"),
        ),
    )


def _shapes(subject: Subject, courses: list[Course]) -> tuple[Finding, ...]:
    findings = []
    for layer, course in zip(subject.layers, courses, strict=True):
        found, where = course.rebounds(), f"{subject.name}, layer {layer}"
        findings += [
            Finding(f"{where}: fall", Estimate(tuple(one.fall for one in found), "")),
            Finding(f"{where}: rise after it", Estimate(tuple(one.rise for one in found), "")),
            Finding(
                f"{where}: step of the bottom",
                Estimate(tuple(float(course.steps[one.bottom_idx]) for one in found), "steps"),
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


def _conclusion(by_name: dict[str, list[Course]]) -> str:
    parts = []
    for name, courses in by_name.items():
        for layer, course in enumerate(courses):
            fall, rise = (np.mean([getattr(one, side) for one in course.rebounds()]) for side in ("fall", "rise"))
            parts.append(f"{name}, layer {layer}: {_moved(fall, rise)}")
    return (
        "Once a model knows more than word frequencies, attention entropy moves as follows, as a share of uniform "
        f"attention's. {'; '.join(parts)}. Where it does not come back, the statement touched is that attention "
        "becomes dense again within the training that was seen. Whether it happens for the theory's reason is another "
        "claim (text.mechanism)."
    )


def _moved(fall: float, rise: float) -> str:
    """A fall and the rise after it in words; what is negative, or nothing to three decimals, is none."""
    sizes = {"fall": round(fall, 3), "rise": round(rise, 3)}
    return ", ".join(f"{verb}s by {size:.3f}" if size > 0 else f"does not {verb}" for verb, size in sizes.items())
