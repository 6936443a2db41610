"""How far attention dips and comes back in networks that differ in one setting, such as learning rate or depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from joma.claims.text.sparse_then_dense import ENTROPY
from joma.measure.curves.course import Course
from joma.measure.curves.points import LOSS, Point, onset_of
from joma.measure.curves.rebound import Rebound
from joma.records import Estimate, Finding
from joma.train.courses import course_of
from joma.train.run import Run


def point_of(name: str, runs: Sequence[Run], unigram_nats: float) -> Point:
    """Return what the networks of one setting measured, one for each seed.

    Args:
        name: of the setting, such as ``learning rate 0.001``.
        runs: of the networks.
        unigram_nats: the loss by word frequencies.
    """
    courses: dict[tuple[str, int | None], Course] = {(LOSS, None): course_of(runs, LOSS, None)}
    for layer in range(runs[0].recipe.decoder.num_layers):
        courses[ENTROPY, layer] = course_of(runs, ENTROPY, layer)
    names = tuple(run.folder.name for run in runs)
    return Point(
        {"name": name}, names, courses, {}, onset_of(courses[LOSS, None], unigram_nats), tuple(range(len(runs)))
    )


def first_half(point: Point, unigram_nats: float) -> Point:
    """Return the same networks up to half of their steps, as if they had been trained no longer."""
    last = point.courses[LOSS, None].steps[-1] / 2
    courses = {key: course.between(0, last) for key, course in point.courses.items()}
    return replace(point, courses=courses, onset=onset_of(courses[LOSS, None], unigram_nats))


def entropy_of(point: Point) -> Course:
    """Return attention entropy, mean over layers."""
    course = point.mean_over_layers(ENTROPY)
    assert course is not None  # ``point_of`` reads every layer
    return course


def read(point: Point, course: Course) -> Course:
    """Return the part of a course from the step on at which word frequencies are learned.

    All of it, where too few probes follow such a step: a small learning rate may not get there.
    """
    return course.between(point.onset or 0)


def rebounds(point: Point) -> list[Rebound]:
    """Return how far attention entropy, the mean over layers, falls and rises, by seed."""
    return read(point, entropy_of(point)).rebounds()


def last_losses(point: Point) -> list[float]:
    """Return the last validation loss by seed, in nats."""
    return point.courses[LOSS, None].values[:, -1].tolist()


def findings(point: Point) -> tuple[Finding, ...]:
    """Return fall, rise and last loss of a setting."""
    found, name = rebounds(point), point.settings["name"]
    return (
        Finding(f"{name}: fall", Estimate.of((one.fall for one in found), "nats")),
        Finding(f"{name}: rise after it", Estimate.of((one.rise for one in found), "nats")),
        Finding(f"{name}: last validation loss", Estimate.of(last_losses(point), "nats")),
    )
