"""A scan as one HTML file: suspects above everything, then what became of each layer, then the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from joma.charts import Chart, Heatmap
from joma.files import replacing
from joma.measure.scan.scanned import Scan, shown_verdicts
from joma.report.drawing.figures import write_figure
from joma.report.drawing.heatmaps import heatmap_figure, heatmap_plot, write_heatmap
from joma.report.drawing.looks import curve_colours, drawing, group_colours
from joma.report.drawing.markup import Markup, element, joined
from joma.report.drawing.plots import figure, plot
from joma.report.drawing.words import format_number, format_seconds
from joma.report.pages.claims import document
from joma.report.scan import (
    cost_text,
    format_share,
    interval_note,
    level_title,
    levels,
    suspect_note,
    title_of,
    why_no_verdict,
)
from joma.report.scan_charts import course_charts, head_heatmaps, step_heatmaps


def write_scan(scan: Scan, folder: Path, *, created: datetime, versions: Mapping[str, str]) -> Path:
    """Write ``report.html`` and every picture as ``figures/<id>.svg`` and ``.png``.

    Args:
        scan: what was found.
        folder: where they go.
        created: when the page was made.
        versions: of what the numbers depend on, by name.

    Returns:
        the path of the page.

    Raises:
        OSError: a file cannot be written; what stood there before is unchanged.
    """
    charts, heatmaps = course_charts(scan), _heatmaps(scan)
    for chart in charts:
        write_figure(chart, folder / "figures", beside=charts)
    for heatmap in heatmaps:
        write_heatmap(heatmap, folder / "figures")
    path = folder / "report.html"
    with replacing(path) as temporary:
        text = scan_page(scan, created=created, versions=versions)
        temporary.write_bytes(text.encode(errors="backslashreplace"))  # a path may hold bytes that are no text
    return path


def scan_page(scan: Scan, *, created: datetime, versions: Mapping[str, str]) -> str:
    """The whole page as one HTML text."""
    charts, heatmaps = course_charts(scan), _heatmaps(scan)
    groups = group_colours(charts)
    plots: dict[str, object] = {
        f"course/{chart.id}": plot(drawing(chart), curve_colours(chart, groups)) for chart in charts
    }
    plots |= {f"map/{heatmap.id}": heatmap_plot(heatmap) for heatmap in heatmaps}
    parts = (
        _header(scan, created),
        element(
            "main",
            _suspects(scan),
            _failures(scan),
            _verdicts(scan),
            _pictures("Over the steps", charts, [heatmap for heatmap in heatmaps if heatmap.x_label == "step"]),
            _pictures("Layers by heads", [], [heatmap for heatmap in heatmaps if heatmap.x_label == "head"]),
        ),
        _footer(scan, versions),
    )
    return document(_title(scan), parts, plots)


def _heatmaps(scan: Scan) -> list[Heatmap]:
    return [*step_heatmaps(scan), *head_heatmaps(scan)]


def _title(scan: Scan) -> str:
    return f"joma scan: {Path(scan.source).name}"


def _header(scan: Scan, created: datetime) -> Markup:
    num_suspects = len({row.step for row in scan.verification.rows})
    suspects = f"{num_suspects} of {len(scan.steps)} steps" if num_suspects else "none"
    facts = {
        "Series": scan.source,
        "Text": scan.text,
        "Suspect": suspects,
        "Took": format_seconds(scan.seconds),
        "Made": f"{created:%Y-%m-%d %H:%M %Z}".rstrip(),
    }
    terms = [element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items() if fact]
    return element(
        "header",
        element("h1", _title(scan)),
        element("p", cost_text(scan), class_="tally"),
        element("dl", *terms, class_="facts"),
    )


def _suspects(scan: Scan) -> Markup:
    rows = [
        (f"{row.step:,}", row.kind.replace("_", " ") + f" ({row.severity})", row.evidence, row.remedy)
        for row in scan.verification.rows
    ]
    caption = "The series was looked at before anything was measured. A curve through these steps may mislead"
    if scan.with_suspects:
        caption += ", and was asked for (--with-suspects)."
    else:
        caption += ": where it is an error, curves and verdicts go without; the numbers are in measurements.parquet."
    return _section("Suspects", caption, ("step", "what", "evidence", "what to do"), rows)


def _failures(scan: Scan) -> Markup:
    rows = [(f"{result.step:,}", result.reason, result.remedy) for result in scan.failed]
    return _section("Not measured", "The other steps are there.", ("step", "why", "what to do"), rows)


def _verdicts(scan: Scan) -> Markup:
    found, note = shown_verdicts(scan.judged), suspect_note(scan)
    if not found:
        return joined(
            element("section", element("h2", "Verdict"), element("p", why_no_verdict(scan))) if scan.measured else "",
            _levels(scan),
        )
    rows = [
        (
            str(quantity.layer),
            title_of(quantity.measure, quantity.projection),
            format_number(entry.start),
            f"{format_number(entry.bottom)} at step {entry.lowest_step:,}",
            format_number(entry.end),
            format_share(entry.share),
            entry.outcome,
        )
        for quantity, entry in found.items()
    ]
    head = ("layer", "measure", "at the start", "lowest", "at the end", "came back", "verdict")
    caption = " ".join(filter(None, (note, interval_note(found))))
    return _section("What became of each layer", caption, head, rows)


def _levels(scan: Scan) -> Markup:
    if not scan.measured:
        return Markup("")
    which = f"{level_title(scan)}; attention" if scan.numbered else "Attention"
    caption = f"{which} in means over heads and sequences, weights as whole projections."
    return _section("Levels", caption, *levels(scan))


def _section(title: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A heading and a table, nothing where there are no rows."""
    if not rows:
        return Markup("")
    cells = [element("th", name, scope="col", role="columnheader") for name in head]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", role="rowheader", data_label=head[0]),
            *(element("td", text, role="cell", data_label=name) for name, text in zip(head[1:], row[1:], strict=True)),
            role="row",
        )
        for row in rows
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *cells, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        class_="evidence scan",
        role="table",
    )
    return element("section", element("h2", title), table)


def _pictures(title: str, charts: Sequence[Chart], heatmaps: Sequence[Heatmap]) -> Markup:
    if not charts and not heatmaps:
        return Markup("")
    groups = group_colours(charts)
    figures = [figure(drawing(chart), curve_colours(chart, groups), f"course/{chart.id}") for chart in charts]
    figures += [heatmap_figure(heatmap, f"map/{heatmap.id}") for heatmap in heatmaps]
    return element("section", element("h2", title), element("div", *figures, class_="charts"))


def _footer(scan: Scan, versions: Mapping[str, str]) -> Markup:
    facts = [element("div", element("dt", name), element("dd", text)) for name, text in versions.items()]
    notes = dict.fromkeys(note for result in scan.measured for note in result.notes)
    return element(
        "footer",
        element("h2", "This scan"),
        element(
            "p", "All numbers lie beside this page in measurements.parquet and scan.json, all pictures in figures."
        ),
        *(element("p", note) for note in notes),
        element("dl", *facts, class_="facts"),
        element("noscript", element("p", "The charts need JavaScript; the same figures lie beside this page.")),
    )
