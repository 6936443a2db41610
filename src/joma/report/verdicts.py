"""The verdicts as a table for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from joma.claims.evaluation import Outcome
from joma.records import Verdict
from joma.report.drawing.words import format_criterion, format_estimate, format_seconds, verdict_text

_STYLES = {
    Verdict.HOLDS.value: "bold green",
    Verdict.FAILS.value: "bold red",
    Verdict.UNDECIDED.value: "bold yellow",
}


def verdicts_summary(outcomes: Sequence[Outcome]) -> str:
    """Count claims by verdict, in words."""
    counts = Counter(verdict_text(outcome) for outcome in outcomes)
    return f"{len(outcomes)} claim{'' if len(outcomes) == 1 else 's'}: " + ", ".join(
        f"{num} {verdict}" for verdict, num in counts.items()
    )


def why_not_decided(outcome: Outcome) -> str:
    """Return why a claim was not evaluated, or why it is undecided and what would settle it; empty if it is decided."""
    return outcome.agreement.why_undecided if outcome.agreement else outcome.reason


def verdict_table(outcomes: Sequence[Outcome]) -> Table:
    """Return a table with one row per outcome, for a terminal; markup in texts is shown literally."""
    reasons = [f"{outcome.claim.id}: {why}" for outcome in outcomes if (why := why_not_decided(outcome))]
    table = Table(
        title="Claims and evidence",
        title_justify="left",
        caption=Text("\n".join(reasons)) if reasons else None,
        caption_justify="left",
    )
    table.add_column("claim", no_wrap=True)
    for name in ("measured", "counts if", "controls"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict")
    table.add_column("time", justify="right", no_wrap=True)
    for outcome in outcomes:
        verdict = verdict_text(outcome)
        table.add_row(
            Text(outcome.claim.id),
            *(Text(cell) for cell in _evidence(outcome)),
            Text(verdict, style=_STYLES.get(verdict, "bold")),
            Text(format_seconds(outcome.seconds)),
        )
    return table


def _evidence(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.agreement is None:
        return "–", "–", "–"
    agreement = outcome.agreement
    controls = "\n".join(format_estimate(control.estimate) for control in agreement.controls)
    return format_estimate(agreement.measured), format_criterion(agreement.criterion), controls
