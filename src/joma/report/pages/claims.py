"""The page of ``joma reproduce``: what was found in words, a picture, then every claim, to be unfolded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from joma.claims.claim import Claim
from joma.claims.evaluation import Outcome
from joma.claims.registry import select
from joma.report.drawing.axis import Axis
from joma.report.drawing.plots import plots_of
from joma.report.opening import Glossary, grouped, opening
from joma.report.pages.document import document, write_document

LEAD_CLAIM = "text.sparse_then_dense"
"""The claim whose first chart is at the top of the page: the main phenomenon."""


@dataclass(frozen=True)
class Context:
    """The run that a page describes.

    Args:
        title: of the page.
        profile: the amount of work (``quick``, ``full``).
        text: the text's name, size and vocabulary, in words; empty if no claim needs one.
        seeds: number of repetitions, in words.
        created: time at which the page was written.
        seconds: duration of all claims.
        versions: of the software that the numbers depend on, by name.
        options: options of the command line to run it again (``--profile full``).
        notes: notes on the whole run.
    """

    title: str
    profile: str
    text: str
    seeds: str
    created: datetime
    seconds: float
    versions: Mapping[str, str]
    options: str = ""
    notes: tuple[str, ...] = field(default=())

    def command(self, *claims: str) -> str:
        """Return the command that runs these claims, or those that take minutes together if none is named."""
        return " ".join(["joma reproduce", *claims, self.options]).rstrip()


def write_page(outcomes: Sequence[Outcome], context: Context, path: Path) -> Path:
    """Write ``report.html``: the opening, the lead chart, then the claims by verdict, each with its evidence.

    Args:
        outcomes: of the claims, in the order of the page.
        context: the run.
        path: the file (see ``write_document``).
    """
    return write_document(page(outcomes, context), path)


def page(outcomes: Sequence[Outcome], context: Context) -> str:
    """Return the page as HTML."""
    found = {outcome.claim.id: outcome.agreement for outcome in outcomes if outcome.agreement}
    charts = {id: plots_of(agreement.charts, id) for id, agreement in found.items()}
    shown = [outcome for outcome in outcomes if charts.get(outcome.claim.id)]
    lead = next((outcome for outcome in shown if outcome.claim.id == LEAD_CLAIM), shown[0] if shown else None)
    plots = {plot.key: plot.spec() for those in charts.values() for plot in those}
    return document(
        "claims.html",
        context.title,
        plots,
        context=context,
        again=context.command(*_named(outcomes)),
        num=len(outcomes),
        opening=opening(outcomes),
        groups=grouped(outcomes),
        lead=lead,
        lead_plot=charts[lead.claim.id].pop(0) if lead else None,
        charts=charts,
        axes={id: Axis(agreement) for id, agreement in found.items()},
        code={outcome.claim.id: _code(outcome.claim) for outcome in outcomes},
        **_terms(outcomes, lead),
    )


def _terms(outcomes: Sequence[Outcome], lead: Outcome | None) -> dict[str, Any]:
    """The terms to explain in the order of the page: below the opening, the lead, each claim, and each unfolded one."""
    glossary, ordered = Glossary(), [outcome for those in grouped(outcomes).values() for outcome in those]
    sentences = ["".join(part.text for part in sentence) for sentence in opening(outcomes)]
    return {
        "opening_terms": glossary.new_in(*sentences),
        "lead_terms": glossary.new_in(lead.claim.reference.statement) if lead else [],
        "claim_terms": {one.claim.id: glossary.new_in(one.claim.reference.statement) for one in ordered},
        "inner_terms": {one.claim.id: glossary.new_in(*_inner(one)) for one in ordered},
    }


def _inner(outcome: Outcome) -> Iterator[str]:
    yield outcome.claim.test
    if (found := outcome.agreement) is not None:
        yield from (found.conclusion, found.criterion.quantity, *found.notes)
        yield from (chart.caption for chart in found.charts)


def _code(claim: Claim) -> str:
    """The source of the module with the claim's test; empty where there is no file of it."""
    try:
        spec = find_spec(claim.evaluate.partition(":")[0])
        return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    except (ImportError, OSError, ValueError):
        return ""


def _named(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the claims that the command has to name: none if they are those that it takes by itself."""
    ids = [outcome.claim.id for outcome in outcomes]
    return [] if set(ids) == {claim.id for claim in select(())} else ids
