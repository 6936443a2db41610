"""The report: one HTML file that opens by double click, with no network and nothing left unescaped."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from joma.claims.evaluation import Outcome
from joma.files import replacing
from joma.records import Control, Verdict
from joma.report.drawing.looks import DARK, LIGHT, curve_colours, drawing, group_colours
from joma.report.drawing.markup import Markup, data_script, element, joined
from joma.report.drawing.plots import figure, plot
from joma.report.drawing.words import (
    NOT_EVALUATED,
    SKIPPED,
    format_criterion,
    format_estimate,
    format_num,
    format_seconds,
    verdict_text,
)
from joma.report.pages.sections import anchor, badge, claim_section

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
        path: the file, replaced whole.

    Returns:
        ``path``.

    Raises:
        OSError: the file cannot be written; what stood there before is unchanged.
    """
    with replacing(path) as temporary:
        # A file's name may hold bytes that are no text; it is shown escaped and does not cost the page.
        temporary.write_bytes(page(outcomes, context).encode(errors="backslashreplace"))
    return path


def page(outcomes: Sequence[Outcome], context: Context) -> str:
    """The whole page as one HTML text."""
    return document(
        context.title,
        (
            element("a", "Skip to the verdicts", href="#verdicts", class_="skip"),
            _header(outcomes, context),
            element(
                "main",
                _verdicts(outcomes),
                _lead(outcomes),
                *(claim_section(outcome, context.command(outcome.claim.id)) for outcome in outcomes),
            ),
            _footer(outcomes, context),
        ),
        _plots(outcomes),
    )


def document(title: str, parts: Sequence[Markup], plots: Mapping[str, object]) -> str:
    """One HTML file with its style, its scripts and its data; it fetches nothing and runs nothing else.

    Args:
        title: of the window.
        parts: of the body, from top to bottom.
        plots: what plotly is told, by the key that a plot's place names.
    """
    scripts = _scripts()
    body = element(
        "body",
        *parts,
        data_script(plots, id="plots"),
        *(element("script", Markup(script)) for script in scripts),
    )
    return f"<!doctype html>\n{element('html', _head(title, scripts), body, lang='en')}\n"


def _head(title: str, scripts: Sequence[str]) -> Markup:
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(_style())),
    )


def _style() -> str:
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in palette.items()) for palette in (LIGHT, DARK))
    query = "@media screen and (prefers-color-scheme:dark)"
    colours = f":root{{{light}}}{query}{{:root:not(.printing){{{dark}}}}}"
    return f"{colours}\n{_asset('page.css')}"


def _scripts() -> tuple[str, str]:
    """Plotly as its Python package ships it, and the page's own script."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs(), _asset("page.js")


def _asset(name: str) -> str:
    return files("joma.report.pages").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _plots(outcomes: Sequence[Outcome]) -> dict[str, object]:
    plots = {}
    for outcome in outcomes:
        charts = outcome.agreement.charts if outcome.agreement else ()
        groups = group_colours(charts)
        for chart in charts:
            plots[f"{outcome.claim.id}/{chart.id}"] = plot(drawing(chart), curve_colours(chart, groups))
    return plots


def _header(outcomes: Sequence[Outcome], context: Context) -> Markup:
    facts = {
        "Text": context.text,
        "Profile": context.profile,
        "Seeds": context.seeds,
        "Took": format_seconds(context.seconds),
        "Made": f"{context.created:%Y-%m-%d %H:%M %Z}".rstrip(),
    }
    terms = [element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items() if fact]
    return element(
        "header",
        element("h1", context.title),
        element("p", _tally(outcomes), class_="tally"),
        element("dl", *terms, class_="facts"),
    )


def _tally(outcomes: Sequence[Outcome]) -> Markup:
    """How many claims ended how, as one sentence of badges."""
    counts = Counter(verdict_text(outcome) for outcome in outcomes)
    order = [*(verdict.value for verdict in Verdict), SKIPPED, NOT_EVALUATED]
    parts = [element("span", element("b", str(counts[name])), " ", badge(name)) for name in order if counts[name]]
    return joined(f"{len(outcomes)} {'claim' if len(outcomes) == 1 else 'claims'} held against the evidence ", *parts)


def _lead(outcomes: Sequence[Outcome]) -> Markup:
    shown = [outcome for outcome in outcomes if outcome.agreement and outcome.agreement.charts]
    if not shown:
        return Markup("")
    lead = next((outcome for outcome in shown if outcome.claim.id == LEAD_CLAIM), shown[0])
    charts = lead.agreement.charts if lead.agreement else ()
    link = element("a", f"{lead.claim.id} in full", href=f"#{anchor(lead)}")
    return element(
        "section",
        element("h2", "At a glance"),
        element("p", lead.claim.reference.statement, class_="statement"),
        figure(drawing(charts[0]), curve_colours(charts[0], group_colours(charts)), f"{lead.claim.id}/{charts[0].id}"),
        element("p", badge(verdict_text(lead)), link, element("small", _HINT), class_="more"),
        class_="lead",
    )


_HINT = "In every chart: drag to zoom, double-click to zoom out, click a name to hide its curve."
_COLUMNS = ("Claim", "Verdict", "Measured", "Counts if", "Controls", "Time")


def _verdicts(outcomes: Sequence[Outcome]) -> Markup:
    head = element("tr", *(element("th", name, scope="col", role="columnheader") for name in _COLUMNS), role="row")
    caption = (
        "Values are means over n seeds ± one standard deviation. In a control the claim must be false: a claim holds "
        "only if its controls fail the same test or lie clearly apart, for else the test could not tell."
    )
    table = element(
        "table",
        element("caption", caption),
        element("thead", head, role="rowgroup"),
        element("tbody", *(_row(outcome) for outcome in outcomes), role="rowgroup"),
        class_="verdicts",
        role="table",
    )
    return element("section", element("h2", "Verdicts"), table, id="verdicts")


def _row(outcome: Outcome) -> Markup:
    claim, agreement = outcome.claim, outcome.agreement
    name = joined(
        element("a", claim.id, href=f"#{anchor(outcome)}", class_="id"), element("span", claim.reference.statement)
    )
    cells = [
        element("th", name, scope="row", role="rowheader"),
        _cell("Verdict", badge(verdict_text(outcome))),
    ]
    if agreement is None:
        kind = "skipped" if outcome.skipped else "error"
        cells.append(element("td", outcome.reason, colspan="3", role="cell", class_=kind, data_label="Why"))
    else:
        measured, criterion = agreement.measured, agreement.criterion
        controls = [_control(control) for control in agreement.controls]
        cells += [
            _cell("Measured", joined(_number(format_estimate(measured)), element("small", format_num(measured)))),
            _cell("Counts if", joined(_number(format_criterion(criterion)), element("small", criterion.quantity))),
            _cell("Controls", joined(*controls)),
        ]
    cells.append(_cell("Time", _number(format_seconds(outcome.seconds))))
    return element("tr", *cells, role="row")


def _control(control: Control) -> Markup:
    return element("div", _number(format_estimate(control.estimate)), element("small", control.name))


def _number(text: str) -> Markup:
    return element("span", text, class_="number")


def _cell(label: str, content: Markup) -> Markup:
    return element("td", element("div", content), role="cell", data_label=label)


def _footer(outcomes: Sequence[Outcome], context: Context) -> Markup:
    versions = [element("div", element("dt", name), element("dd", text)) for name, text in context.versions.items()]
    notes = [element("p", note) for note in context.notes]
    return element(
        "footer",
        element("h2", "This run"),
        *notes,
        element("p", "Run all of it again:"),
        element("pre", element("code", context.command()), tabindex="0"),
        element("dl", *versions, class_="facts"),
        element(
            "noscript",
            element("p", "The charts need JavaScript; the same figures lie beside this page as SVG and PNG."),
        ),
    )
