"""Conclusions are plain, and their wording follows from the verdict."""

import numpy as np
import pytest

from conclusions import faults
from joma.claims.dynamics import theorem2, theorem4
from joma.claims.hierarchy import expressible, order, table1
from joma.claims.series import rank_drop_and_rebound as series_rank
from joma.claims.series import sparse_then_dense as series_entropy
from joma.claims.series.subject import movements
from joma.claims.text import first_dip, mechanism
from joma.claims.text.ablations import Ablation
from joma.claims.text.networks import moved
from joma.claims.theorem1 import discretisation, queries
from joma.claims.theorem1 import flow as theorem1
from joma.expressive.weights import needs
from joma.measure.curves.course import Course
from joma.records import Estimate, Finding
from joma.train.recipes import VARIANTS


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


SEEDS = np.array([[0.9], [1.0], [1.1]])

VALLEY = Course(tuple(range(21)), np.abs(np.linspace(-1, 1, 21)) * SEEDS)

FALLING = Course(VALLEY.steps, np.linspace(1, 0, 21) * SEEDS)


@pytest.mark.parametrize(
    ("met", "words"),
    [(True, "three quarters of the rise need"), (None, "not decided"), (False, "does not need the nonline")],
)
@pytest.mark.parametrize("gone", [False, True])
def test_conclusion_of_the_mechanism_follows_from_the_verdict(met, words, gone):
    ablated = {name: Ablation(VALLEY, VALLEY) for name in ("linear MLP", "no MLP")}
    if gone:
        ablated |= {name: Ablation(FALLING, VALLEY) for name in tuple(VARIANTS)[3:]}
    conclusion = mechanism._conclusion(decided(mechanism.CRITERION)[met], VALLEY, ablated)
    assert words in conclusion
    moved_so = "falls by 0.933 nats and rises by 0.833 nats"
    assert conclusion.startswith(f"Attention entropy {moved_so} in the full network; with a linear MLP it {moved_so}.")
    assert (
        "At most a quarter of the rise is left with each of: no LayerNorm, frozen value path, " in conclusion
    ) is gone
    assert "of: no MLP" not in conclusion
    assert not faults(conclusion)


@pytest.mark.parametrize(
    ("met", "words"), [(True, "So the first dip comes with"), (None, "is not decided"), (False, "does not come from")]
)
def test_conclusion_on_the_first_dip_follows_from_the_verdict(met, words):
    dips = [Finding(name, Estimate((dip,))) for name, dip in zip("abcd", (0.3, 0.1, 0.4, 0.05), strict=True)]
    verdicts = decided(first_dip.CRITERION)
    for by_bias, words_on_text in (
        (True, "alone confirms"),
        (None, "alone does not decide"),
        (False, "alone does not confirm"),
    ):
        conclusion = first_dip._conclusion([*dips, Finding("e", verdicts[by_bias])], verdicts[met], 100)
        assert words in conclusion
        assert "dips by 0.40 nats on shuffled words and by 0.05 on random words" in conclusion
        assert (
            f"by 0.30 nats, and by 0.10 if the output bias starts at the frequencies, which {words_on_text} it."
            in conclusion
        )
    assert not faults(conclusion)


def test_a_network_whose_entropy_does_not_rise_has_no_rise_that_needs_an_explanation():
    ablated = {"linear MLP": Ablation(VALLEY, FALLING)}
    conclusion = mechanism._conclusion(decided(mechanism.CRITERION)[True], FALLING, ablated)
    assert "and does not rise in the full network; with a linear MLP it falls" in conclusion
    assert "So there is no rise to explain" in conclusion
    assert "need the nonlinearity" not in conclusion
    assert not faults(conclusion)


@pytest.mark.parametrize(
    ("met", "words"), [(True, "comes back by"), (None, "is not decided"), (False, "in one at least it does not")]
)
@pytest.mark.parametrize("claim", [series_entropy, series_rank], ids=["entropy", "rank"])
def test_conclusion_on_series_follows_from_the_verdict(claim, met, words):
    described = movements({"OPT": [VALLEY]}, claim.CRITERION, decided(claim.CRITERION)[met])
    moves, meaning = described.split(". ")
    assert moves == "in OPT it falls by 0.933 and rises by 0.833"
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
    assert ("is not decided" in conclusion) is (met is None)
    assert ("A label gives no constant gradient" in conclusion) is (met is False)
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


def errors(size: float) -> Estimate:
    return Estimate((size, 2 * size, 1.5 * size), distribution="lognormal")


SMALL, LARGE = errors(1e-9), errors(0.3)


@pytest.mark.parametrize(("measured", "agree"), [(SMALL, True), (LARGE, False)])
def test_theorems_2_and_4_agree_with_the_formula_only_if_the_error_is_small(measured, agree):
    shares = [Estimate(values, "draws", "binary") for values in ((1.0, 0.0, 1.0), (0.0, 0.0, 1.0))]
    blow_up = theorem2._conclusion(measured, LARGE, *shares)
    assert ("agree with the formula's" in blow_up) is agree
    assert ("differ from the formula's" in blow_up) is not agree
    assert "first in 67% of the draws, the one with the largest gradient in 33%" in blow_up
    ratio = theorem4._conclusion(measured, errors(1.0), [0.01], [0.02])
    assert ("agrees with the prediction" in ratio) is agree
    assert "by a factor of up to 7 early on and by 1.0e-02 of the limit" in ratio
    assert "predicts 2.0e-02" in ratio
    assert not faults(blow_up)
    assert not faults(ratio)


@pytest.mark.parametrize(("measured", "verb"), [(SMALL, "is constant to 2e-09"), (LARGE, "drifts by up to 6e-01")])
def test_an_invariant_is_constant_only_if_its_drift_is_small(measured, verb):
    assert f"The invariant {verb} of the logits' motion" in theorem1._conclusion(measured, LARGE, "1e-04 with steps")
    shared = queries._conclusion(measured, SMALL, [LARGE, errors(0.7)])
    assert f"the MLP, the invariant {verb} of the logits' motion; that of a single query changes by 30%" in shared
    assert "with its own units is constant to 2e-09" in shared


@pytest.mark.parametrize(("slow", "explained"), [(LARGE, True), (errors(1e-4), False)])
def test_the_drift_under_adam_is_explained_only_if_there_is_one(slow, explained):
    conclusion = discretisation._adam_conclusion(LARGE, slow, SMALL, SMALL)
    assert ("Adam divides every coordinate" in conclusion) is explained
    assert f"by {slow.mean:.0%} at 0.001" in conclusion
    assert not faults(conclusion)


HIGH, LOW, OPEN = Estimate((0.9, 0.91, 0.92)), Estimate((0.1, 0.11, 0.12)), Estimate((0.7, 0.8, 0.9))


@pytest.mark.parametrize(
    ("trained", "untrained", "words"),
    [
        (HIGH, HIGH, "cannot show what training does, because it is high without training too: it is 0.91"),
        (HIGH, LOW, "Only training makes the score high: it is 0.91 after training and 0.11 before it"),
        (LOW, LOW, "The score is not high after training: it is 0.11"),
        (LOW, HIGH, "The score is not high after training"),
        (OPEN, LOW, "What the score shows is open"),
        (HIGH, OPEN, "What the score shows is open"),
    ],
)
def test_the_conclusion_on_the_papers_score_follows_from_both_scores(monkeypatch, trained, untrained, words):
    monkeypatch.setattr(table1, "_mean_over_cells", lambda cells, read: np.array([0.72]))
    conclusion = table1._conclusion([], trained, untrained)
    assert words in conclusion
    assert not faults(conclusion)


@pytest.mark.parametrize(
    ("own", "words"), [(HIGH, "differs from its own"), (Estimate((1.0, 1.0, 1 - 1e-13)), "equals a")]
)
def test_a_latent_equals_a_unit_only_if_the_constructed_weights_reach_the_criterion(own, words):
    law = table1.CORNER.law(0, distinct=True)
    built = [expressible.Constructed(law, needs(law), [1.0, 1.0], [0.5, 0.5], 0.95, 0.25)]
    conclusion = expressible._conclusion(own, built, [[0.9, 0.8]], [[0.7, 0.6]])
    assert f"every latent {words}" in conclusion
    assert "2e-01, and 95% of the classes" in conclusion
    assert "at 0.85 after training and at 0.65 before it" in conclusion
    assert not faults(conclusion)
