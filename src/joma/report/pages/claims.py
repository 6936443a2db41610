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
"""Its first chart comes right after the verdicts: what somebody who has just found the project should see."""


@dataclass(frozen=True)
class Context:
    """What was run.

    Args:
        title: of the page.
        profile: how much work was done (``quick``, ``full``).
        text: the text's name, size and vocabulary, in words; empty where no claim read one.
        seeds: how many repetitions, in words.
        created: when the page was made.
        seconds: how long everything took.
        versions: of what the numbers depend on, by name.
        options: of the command line, as they have to be typed again (``--profile full``); empty for none.
        notes: what a reader must know of the whole run.
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
        """What to type to run these claims again, or all that were run."""
        return " ".join(["joma reproduce", *claims, self.options]).rstrip()


def write_page(outcomes: Sequence[Outcome], context: Context, path: Path) -> Path:
    """Write ``report.html``: summary, verdict table, lead chart, then every claim with its evidence.

    Args:
        outcomes: what became of the claims, in the order they are shown.
        context: what was run.
        path: the file (see ``write_document``).
    """
    return write_document(page(outcomes, context), path)


def page(outcomes: Sequence[Outcome], context: Context) -> str:
    """The whole page as one HTML text."""
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
