"""The HTML page of a scan: suspects, then the verdicts of each layer, then the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path

from joma.measure.curves.quantities import Quantity, shown_verdicts
from joma.measure.curves.recovery import Recovery
from joma.measure.scan.results import probes_of
from joma.measure.scan.scanned import Scan
from joma.report.courses import title_of
from joma.report.drawing.figures import write_figures
from joma.report.drawing.heatmaps import heatmap_plot, write_heatmap
from joma.report.drawing.plots import plots_of
from joma.report.pages.document import document, write_document
from joma.report.scan import (
    cost_text,
    course_charts,
    format_level,
    format_share,
    heatmaps,
    interval_note,
    level_title,
    levels,
    suspect_note,
    why_no_verdict,
)


def write_scan(scan: Scan, folder: Path, *, created: datetime, versions: Mapping[str, str]) -> Path:
    """Write ``report.html`` and every picture as ``figures/<id>.svg`` and ``.png``.

    Args:
        scan: the result of the scan.
        folder: receives the files.
        created: time at which the page is written.
        versions: of the software that the numbers depend on, by name.

    Returns:
        The path of the page (see ``write_document``).
    """
    write_figures(course_charts(scan), folder / "figures")
    for heatmap in chain(*heatmaps(scan)):
        write_heatmap(heatmap, folder / "figures")
    return write_document(scan_page(scan, created=created, versions=versions), folder / "report.html")


def scan_page(scan: Scan, *, created: datetime, versions: Mapping[str, str]) -> str:
    """Return the page as HTML."""
    courses, (by_step, by_head) = plots_of(course_charts(scan), "course"), heatmaps(scan)
    found = shown_verdicts(probes_of(scan.judged))
    num_suspects = len({row.step for row in scan.verification.rows})
    return document(
        "scan.html",
        f"joma scan: {Path(scan.source).name}",
        {plot.key: plot.spec() for plot in courses}
        | {f"map/{heatmap.id}": heatmap_plot(heatmap) for heatmap in (*by_step, *by_head)},
        scan=scan,
        created=created,
        versions=versions,
        cost=cost_text(scan),
        suspected=f"{num_suspects} of {len(scan.steps)} steps" if num_suspects else "none",
        suspects=_suspects(scan),
        failures=[(f"{result.step:,}", result.reason, result.remedy) for result in scan.failed],
        verdicts=_verdicts(found),
        verdict_note=" ".join(filter(None, (suspect_note(scan), interval_note(found)))) if found else "",
        why_no_verdict=why_no_verdict(scan),
        levels=levels(scan) if scan.measured else None,
        level_title=level_title(scan) if scan.measured else "",
        courses=courses,
        by_step=by_step,
        by_head=by_head,
        notes=list(dict.fromkeys(note for result in scan.measured for note in result.notes)),
    )


def _suspects(scan: Scan) -> list[tuple[str, ...]]:
    return [
        (f"{row.step:,}", f"{row.kind.replace('_', ' ')} ({row.severity})", row.evidence, row.remedy)
        for row in scan.verification.rows
    ]


def _verdicts(found: Mapping[Quantity, Recovery]) -> list[tuple[str, ...]]:
    return [
        (
            str(quantity.layer),
            title_of(quantity.metric, quantity.projection),
            format_level(entry.start, entry.start_steps),
            f"{format_level(entry.bottom, entry.bottom_steps)}, lowest at step {entry.lowest_step:,}",
            format_level(entry.end, entry.end_steps),
            format_share(entry.share),
            entry.outcome,
        )
        for quantity, entry in found.items()
    ]
