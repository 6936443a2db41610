"""The page of ``joma reproduce``: summary, verdicts, then every claim with its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from joma.claims.evaluation import Outcome
from joma.records import Verdict
from joma.report.drawing.axis import Axis
from joma.report.drawing.plots import plots_of
from joma.report.drawing.words import NOT_EVALUATED, SKIPPED, verdict_text
from joma.report.pages.document import document, write_document

LEAD_CLAIM = "text.sparse_then_dense"
"""The claim whose first chart is shown right after the verdicts: the main phenomenon."""


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
        """Return the command that runs these claims again, or by default all of them."""
        return " ".join(["joma reproduce", *claims, self.options]).rstrip()


def write_page(outcomes: Sequence[Outcome], context: Context, path: Path) -> Path:
    """Write ``report.html``: summary, verdict table, lead chart, then every claim with its evidence.

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
    counts = Counter(map(verdict_text, outcomes))
    return document(
        "claims.html",
        context.title,
        {plot.key: plot.spec() for plots in charts.values() for plot in plots},
        context=context,
        outcomes=outcomes,
        tally={name: counts[name] for name in (*Verdict, SKIPPED, NOT_EVALUATED) if counts[name]},
        lead=next((outcome for outcome in shown if outcome.claim.id == LEAD_CLAIM), shown[0] if shown else None),
        charts=charts,
        axes={id: Axis(agreement) for id, agreement in found.items()},
    )
