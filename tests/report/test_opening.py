"""The opening of the page is written from the verdicts alone."""

from dataclasses import replace

from joma.claims.evaluation import Outcome
from joma.claims.registry import OWN
from joma.claims.rhm.levels import CRITERION
from joma.records import Control, Criterion, Estimate, Verdict
from joma.report.opening import GLOSSARY, Glossary, grouped, opening

FAR, NEAR, OPEN = Estimate((5.0, 5.1, 5.2)), Estimate((0.0, 0.1, 0.2)), Estimate((0.0, 1.0, 2.0))


def outcomes(agreements, measured_by_id, ids) -> list[Outcome]:
    criterion = Criterion("size", ">=", 1.0, "a size of one")
    made = replace(agreements["theorem1.exp"], criterion=criterion, controls=(Control("none", NEAR),))
    claims = [claim for claim in OWN if claim.id in ids]
    return [Outcome(one, replace(made, measured=measured_by_id.get(one.id, FAR)), "", 1.0) for one in claims]


def sentences(found) -> list[str]:
    return ["".join(part.text for part in sentence) for sentence in opening(found)]


def test_the_same_claims_with_other_verdicts_give_another_sentence(agreements):
    ids = ("text.sparse_then_dense", "text.mechanism")
    assert sentences(outcomes(agreements, {}, ids)) == [
        "On small networks that read text: the dip of attention entropy and the rise after it and the nonlinearity of "
        "the MLP as the cause of a rise of attention entropy hold."
    ]
    assert sentences(outcomes(agreements, {"text.mechanism": NEAR}, ids)) == [
        "On small networks that read text: the dip of attention entropy and the rise after it holds; the nonlinearity "
        "of the MLP as the cause of a rise of attention entropy does not hold."
    ]


def test_many_that_hold_are_counted_and_the_others_named(agreements):
    ids = ("theorem1.linear", "theorem1.exp", "theorem2", "theorem3", "theorem4")
    assert sentences(outcomes(agreements, {}, ids)) == ["On the mathematics: all 5 claims hold."]
    assert sentences(outcomes(agreements, {"theorem2": OPEN}, ids)) == [
        "On the mathematics: 4 of 5 claims hold; the blow-up of the components with a linear MLP is undecided."
    ]


def test_a_claim_of_another_package_has_a_sentence_too(agreements):
    (one,) = outcomes(agreements, {}, ("theorem2",))
    reference = replace(one.claim.reference, id="ones.sum")
    foreign = replace(one, claim=replace(one.claim, reference=reference, short=""))
    assert sentences([foreign]) == ["On other packages: ones.sum holds."]


def test_what_does_not_hold_is_first_and_nothing_is_lost(agreements):
    found = outcomes(agreements, {"theorem2": OPEN, "theorem3": NEAR}, ("theorem1.exp", "theorem2", "theorem3"))
    assert list(grouped(found)) == [Verdict.FAILS, Verdict.UNDECIDED, Verdict.HOLDS]
    assert sum(map(len, grouped(found).values())) == 3


def test_every_claim_of_joma_has_a_short_name_that_starts_a_phrase():
    for claim in OWN:
        assert claim.short.startswith(("the ", "training ", "learning ")), claim.id
        assert not claim.short.endswith(".")


def test_a_term_is_explained_the_first_time_only():
    glossary = Glossary()
    assert glossary.new_in("A unit ranks pictures; the rank correlation is high") == []
    assert glossary.new_in("The MLP's rank") == [(term, GLOSSARY[term]) for term in ("MLP", "rank")]
    assert glossary.new_in("the MLP again", "Coherence") == [("coherence", GLOSSARY["coherence"])]


def test_the_words_of_the_claim_on_levels_are_explained_on_its_page():
    claim = next(claim for claim in OWN if claim.id == "rhm.levels")
    glossary = Glossary()
    found = [term for term, _ in glossary.new_in(claim.reference.statement, claim.test, CRITERION.quantity)]
    assert {"belief propagation", "filter", "mixture of guessing", "snapshot"} <= set(found)
