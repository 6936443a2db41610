"""Conclusions are plain, and their wording follows from the verdict."""

import re

import numpy as np
import pytest

from conclusions import faults
from joma.claims.hierarchy import order
from joma.claims.series import rank_drop_and_rebound as series_rank
from joma.claims.series import sparse_then_dense as series_entropy
from joma.claims.series.subject import movements
from joma.claims.text import mechanism
from joma.claims.text.networks import moved
from joma.measure.curves.course import Course
from joma.records import Estimate


@pytest.mark.parametrize(
    ("conclusion", "fault"),
    [
        ("One. Two. Three. Four.", "4 sentences"),
        (f"{'word ' * 61}.", "62 words"),
        ("It is never true", "no full stop"),
        ("It tends to φ.", "symbol 'φ'"),
        ("The norm is v².", "symbol '²'"),
        ("With b̄ held constant it holds.", "symbol"),
        ("P(l) decides it.", "symbol 'P('"),
    ],
)
def test_an_unreadable_conclusion_is_reported_as_a_fault(conclusion, fault):
    assert any(found.startswith(fault) for found in faults(conclusion))


def test_three_short_sentences_with_numbers_are_plain():
    assert not faults("It falls by 0.5 nats (3e-07 at most). It rises by 20%. Why is another claim (text.mechanism).")


def decided(criterion) -> dict[bool | None, Estimate]:
    """Measured values that meet a criterion, straddle it, and do not meet it."""
    sign = 1 if criterion.relation == ">=" else -1
    steps = {True: (1, 1.1, 0.9), None: (-1, 1, 0), False: (-1, -1.1, -0.9)}
    return {met: Estimate.of(criterion.threshold + sign * step for step in values) for met, values in steps.items()}


VALLEY = Course(tuple(range(21)), np.abs(np.linspace(-1, 1, 21)) * np.ones((2, 1)))


@pytest.mark.parametrize(
    ("met", "words"),
    [(True, "three quarters of the rise need"), (None, "not decided"), (False, "does not need the nonline")],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_conclusion_of_the_mechanism_follows_from_the_verdict(met, words, frozen):
    ablated = {"linear MLP": VALLEY} | ({"frozen value path": VALLEY} if frozen else {})
    conclusion = mechanism._conclusion(decided(mechanism.CRITERION)[met], VALLEY, ablated)
    assert words in conclusion
    assert bool(re.search(r"With a frozen value path it rises by 0\.457\.$", conclusion)) is frozen
    assert not faults(conclusion)


@pytest.mark.parametrize(
    ("met", "words"), [(True, "comes back by"), (None, "is not decided"), (False, "in one at least it does not")]
)
@pytest.mark.parametrize("claim", [series_entropy, series_rank], ids=["entropy", "rank"])
def test_conclusion_on_series_follows_from_the_verdict(claim, met, words):
    described = movements({"OPT": [VALLEY]}, claim.CRITERION, decided(claim.CRITERION)[met])
    moves, meaning = described.split(". ")
    assert moves == "in OPT it falls by 0.833 and rises by 0.457"
    assert words in meaning


@pytest.mark.parametrize("met", [True, None, False])
def test_conclusion_states_bottom_up_learning_only_if_the_criterion_is_met(met):
    names = (
        "decoder, at the end: co-occurrence",
        "decoder, at the end: label gradient",
        "flow with a constant gradient: co-occurrence",
    )
    found = {name: Estimate((0.5,)) for name in names}
    conclusion = order._conclusion(decided(order.CRITERION)[met], found)
    assert ("are associated first" in conclusion) is (met is True)
    assert not faults(conclusion)


@pytest.mark.parametrize(
    ("fall", "rise", "words"),
    [
        (0.25, 0.1, "falls by 0.250 nats and rises by 0.100 nats"),
        (0.25, -0.1, "falls by 0.250 nats and does not rise"),
        (0.0004, 0.1, "does not fall and rises by 0.100 nats"),
    ],
)
def test_a_negative_or_tiny_movement_is_described_as_none(fall, rise, words):
    assert moved(fall, rise, " nats") == words
