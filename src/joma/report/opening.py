"""The first sentences of the page of ``joma reproduce``, written from the verdicts, and the terms that it explains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from joma.claims.evaluation import Outcome
from joma.claims.registry import SUBJECTS
from joma.records import Verdict
from joma.report.drawing.words import NOT_EVALUATED, SKIPPED, verdict_text

ORDER = (Verdict.FAILS.value, Verdict.UNDECIDED.value, NOT_EVALUATED, SKIPPED, Verdict.HOLDS.value)
"""The groups of the page: what holds is last."""

_MOST_NAMED = 3
"""Claims that hold are counted where there are more of them in one sentence; all others are named."""

_VERBS = {
    Verdict.HOLDS.value: ("holds", "hold"),
    Verdict.FAILS.value: ("does not hold", "do not hold"),
    Verdict.UNDECIDED.value: ("is undecided", "are undecided"),
    NOT_EVALUATED: ("was not evaluated", "were not evaluated"),
    SKIPPED: ("was skipped", "were skipped"),
}

GLOSSARY: Mapping[str, str] = {
    "attention entropy": "how evenly attention is spread over the tokens or patches that it may go to, in nats: 0 if "
    "all of it is on one, ln n if it is even over n",
    "MLP": "the two layers of weights after attention, with a nonlinear activation between them",
    "rank": "here the stable rank, ‖W‖²_F / σ₁²: the effective number of directions of a matrix",
    "invariant": "a quantity that training does not change",
    "logits": "the numbers from which attention is computed, before softmax makes them shares",
    "component": "one direction of the data that attention can concentrate on",
    "uniform attention": "the same attention to every token",
    "coherence": "the largest overlap of two embeddings, 0 if they are orthogonal",
    "Random Hierarchy Model": "a law of labels and tokens: a label stands for tuples of symbols, each of these for "
    "tuples of symbols of the level below, and so on down to the tokens",
    "synonym": "one of the tuples that stand for the same symbol",
    "posterior": "the probabilities of all labels, or of a latent's values, given the tokens",
    "belief propagation": "the exact posterior, from messages along the tree",
    "filter": "the law with its correlations cut above a level: the symbols there are independent of each other given "
    "the label",
    "mixture of guessing": "a mean of two predictions, equal chances for all labels and another one, with the same "
    "weight for all samples",
    "snapshot": "a network's weights, kept at one step of its training",
    "hierarchy": "a tree of hidden causes, the latents, from a label down to the tokens",
    "saved steps": "the weights of one training run, kept at several steps",
    "held-out": "not used for training",
    "learning rate": "the size of an optimiser's step",
}
"""Terms with their meaning, which the page explains where each stands first."""

_PATTERNS = {"rank": r"\brank\b(?! correlation)"}
"""How terms are found that are words of another meaning too, such as a unit that ranks pictures."""


class Part(NamedTuple):
    """A piece of a sentence, with the id of the claim that it names, if any."""

    text: str
    claim: str = ""


def opening(outcomes: Sequence[Outcome]) -> list[list[Part]]:
    """Return one sentence for each subject: which of its claims hold, do not hold or are not decided."""
    by_id = {outcome.claim.id: outcome for outcome in outcomes}
    own = {name: [by_id.pop(claim.id) for claim in claims if claim.id in by_id] for name, claims in SUBJECTS.items()}
    return [
        list(_sentence(name, found)) for name, found in (own | {"other packages": [*by_id.values()]}).items() if found
    ]


def grouped(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Return the outcomes by verdict, those that do not hold and undecided ones first."""
    found = {verdict: [one for one in outcomes if verdict_text(one) == verdict] for verdict in ORDER}
    return {verdict: those for verdict, those in found.items() if those}


class Glossary:
    """The terms that a page has not explained yet."""

    def __init__(self) -> None:
        self._left = dict(GLOSSARY)

    def new_in(self, *texts: str) -> list[tuple[str, str]]:
        """Return the terms that stand in these texts and in no earlier ones, with their meaning."""
        text = " ".join(texts)
        found = [term for term in self._left if re.search(_PATTERNS.get(term, rf"\b{term}"), text, re.IGNORECASE)]
        return [(term, self._left.pop(term)) for term in found]


def _sentence(subject: str, outcomes: Sequence[Outcome]) -> Iterator[Part]:
    by_verdict = {verdict: grouped(outcomes).get(verdict, []) for verdict in reversed(ORDER)}
    yield Part(f"On {subject}: ")
    first = True
    for verdict, those in by_verdict.items():
        if not those:
            continue
        if not first:
            yield Part("; ")
        first = False
        is_counted = verdict == Verdict.HOLDS and len(those) > _MOST_NAMED
        if is_counted:
            every = "all" if len(those) == len(outcomes) else f"{len(those)} of"
            yield Part(f"{every} {len(outcomes)} claims")
        else:
            yield from _joined(those)
        yield Part(f" {_VERBS[verdict][len(those) > 1]}")
    yield Part(".")


def _joined(outcomes: Iterable[Outcome]) -> Iterator[Part]:
    *others, last = outcomes
    for number, outcome in enumerate(others):
        yield from (Part(", "),) if number else ()
        yield _named(outcome)
    yield from (Part(" and "),) if others else ()
    yield _named(last)


def _named(outcome: Outcome) -> Part:
    return Part(outcome.claim.short or outcome.claim.id, outcome.claim.id)
