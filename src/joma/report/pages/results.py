"""All results of ``joma reproduce``: ``claims.json``, ``metrics.parquet``, figures, ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from joma.claims.evaluation import Outcome, measurements
from joma.claims.workspace import Workspace
from joma.files import write_json
from joma.provenance import versions
from joma.report.drawing.figures import write_figures
from joma.report.pages.claims import Context, write_page
from joma.tidy import frame_of, write_frame

_QUICK_NOTE = {
    True: "Profile quick: fewer words, fewer steps and a larger learning rate than in the paper, so that every claim "
    "with its seeds and controls takes minutes. Each claim reports its sizes; --profile full uses those of the paper.",
    False: "Profile quick: less data, smaller networks and fewer steps than with --profile full, so that every claim "
    "with its seeds and controls takes minutes. Each claim reports its sizes.",
}
"""By whether a claim needs a text."""


def write_results(outcomes: Sequence[Outcome], workspace: Workspace, options: str) -> dict[str, Any]:
    """Write all results into the workspace's folder, each file atomically.

    Args:
        outcomes: of the claims, in the order of the page.
        workspace: its folder receives the files.
        options: options of the command line to run a claim again.

    Returns:
        The content of ``claims.json``.
    """
    needs_text = any(outcome.claim.needs_text for outcome in outcomes)
    context = Context(
        title="joma: theory and evidence",
        profile=workspace.profile.value,
        text=workspace.tokens().description if needs_text else "",
        seeds=str(workspace.num_seeds) if workspace.num_seeds else "set by each claim",
        created=datetime.now(UTC),
        seconds=sum(outcome.seconds for outcome in outcomes),
        versions=versions(),
        options=options,
        notes=(_QUICK_NOTE[needs_text],) if workspace.profile == "quick" else (),
    )
    record = _record(outcomes, context)
    write_json(workspace.folder / "claims.json", record)
    write_frame(frame_of(measurements(workspace.folder)), workspace.folder / "metrics.parquet")
    write_page(outcomes, context, workspace.folder / "report.html")
    for outcome in outcomes:
        if outcome.agreement:
            write_figures(outcome.agreement.charts, workspace.folder / "figures" / outcome.claim.id)
    return record


def _record(outcomes: Sequence[Outcome], context: Context) -> dict[str, Any]:
    return {
        "profile": context.profile,
        "text": context.text,
        "seeds": context.seeds,
        "created": context.created.isoformat(timespec="seconds"),
        "seconds": round(context.seconds, 1),
        "versions": dict(context.versions),
        "claims": [_claim(outcome, context) for outcome in outcomes],
    }


def _claim(outcome: Outcome, context: Context) -> dict[str, Any]:
    """One claim as plain data, without the points of charts and the rows of the metrics table."""
    claim, reference = outcome.claim, outcome.claim.reference
    evidence = outcome.agreement.to_json() if outcome.agreement else {"verdict": None, "charts": []}
    return {
        "id": claim.id,
        "statement": reference.statement,
        "source": reference.source,
        "assumptions": list(reference.assumptions),
        "formula": reference.formula,
        "test": claim.test,
        "control": claim.control,
        "origin": claim.origin,
        **{name: part for name, part in evidence.items() if name != "charts"},
        "figures": [f"figures/{claim.id}/{chart['id']}" for chart in evidence["charts"]],
        "error": outcome.error or None,
        "skipped": outcome.skipped or None,
        "seconds": round(outcome.seconds, 3),
        "command": context.command(claim.id),
    }
