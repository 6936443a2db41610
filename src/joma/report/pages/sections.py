"""One claim on the page: what is said, what was found, what was seen, how to run it again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from joma.claims.evaluation import Outcome
from joma.records import Agreement, Estimate, Finding, Verdict
from joma.report.drawing.looks import curve_colours, drawing, group_colours
from joma.report.drawing.markup import Markup, element, joined
from joma.report.drawing.plots import figure
from joma.report.drawing.words import (
    format_criterion,
    format_estimate,
    format_interval,
    format_num,
    format_seconds,
    verdict_text,
)

_SIGNS = {
    Verdict.HOLDS.value: ("holds", "✓"),
    Verdict.FAILS.value: ("fails", "✕"),
    Verdict.UNDECIDED.value: ("open", "?"),
}


def badge(verdict: str) -> Markup:
    """A verdict as coloured text with a sign, so that colour alone says nothing."""
    kind, sign = _SIGNS.get(verdict, ("none", "–"))
    return element("span", element("span", sign, aria_hidden="true"), f" {verdict}", class_=f"badge {kind}")


def anchor(outcome: Outcome) -> str:
    """The id of a claim's section within the page."""
    return f"claim-{outcome.claim.id}"


def claim_section(outcome: Outcome, command: str) -> Markup:
    """Everything about one claim.

    Args:
        outcome: what became of it.
        command: what to type to run it again.
    """
    reference = outcome.claim.reference
    title = f"title-{outcome.claim.id}"
    return element(
        "article",
        element("h2", element("span", outcome.claim.id), " ", badge(verdict_text(outcome)), id=title),
        element("p", reference.statement, class_="statement"),
        element("p", reference.formula, class_="formula", role="math", aria_label=reference.formula),
        _evidence(outcome.agreement, outcome.claim.id) if outcome.agreement else _absence(outcome),
        _terms(outcome),
        element("pre", element("code", command), tabindex="0"),
        id=anchor(outcome),
        aria_labelledby=title,
    )


def _absence(outcome: Outcome) -> Markup:
    title = f"{verdict_text(outcome).capitalize()}: "
    return element("p", element("strong", title), outcome.reason, class_="skipped" if outcome.skipped else "error")


def _terms(outcome: Outcome) -> Markup:
    claim = outcome.claim
    assumptions = element("ul", *(element("li", assumption) for assumption in claim.reference.assumptions))
    terms: list[tuple[str, str]] = [
        ("How it is tested", claim.test),
        ("Control", claim.control),
        ("Assumes", assumptions),
        ("Source", claim.reference.source),
        ("Took", format_seconds(outcome.seconds)),
    ]
    if outcome.agreement:
        terms.insert(2, ("Why this threshold", outcome.agreement.criterion.reason))
    return element(
        "dl", *(element("div", element("dt", name), element("dd", text)) for name, text in terms), class_="terms"
    )


def _evidence(agreement: Agreement, id: str) -> Markup:
    groups = group_colours(agreement.charts)
    figures = [figure(drawing(chart), curve_colours(chart, groups), f"{id}/{chart.id}") for chart in agreement.charts]
    notes = element("ul", *(element("li", note) for note in agreement.notes), class_="notes")
    return joined(
        element("p", agreement.conclusion, class_="conclusion"),
        _decision(agreement),
        element("div", *figures, class_="charts"),
        _findings(agreement.findings) if agreement.findings else "",
        notes if agreement.notes else "",
    )


def _decision(agreement: Agreement) -> Markup:
    """Measured value and controls, each with its place beside the threshold."""
    criterion = agreement.criterion
    axis = _Axis(agreement)
    rows = [("Measured", agreement.measured, "measured")]
    rows += [(f"Control: {control.name}", control.estimate, "control") for control in agreement.controls]
    caption = f"{criterion.quantity}; counts if {format_criterion(criterion)}"
    return element(
        "table",
        element("caption", caption[:1].upper() + caption[1:]),
        _table_head("", "mean ± sd", "95 % interval", "seeds", "beside the threshold"),
        element(
            "tbody",
            *(_estimate_row(name, estimate, axis.strip(estimate, kind)) for name, estimate, kind in rows),
            role="rowgroup",
        ),
        class_="evidence",
        role="table",
    )


def _findings(findings: Sequence[Finding]) -> Markup:
    rows = [_estimate_row(finding.name, finding.estimate, finding.comment) for finding in findings]
    return element(
        "table",
        element("caption", "Also found"),
        _table_head("", "mean ± sd", "95 % interval", "seeds", "comment"),
        element("tbody", *rows, role="rowgroup"),
        class_="evidence",
        role="table",
    )


def _table_head(*names: str) -> Markup:
    cells = [
        element("th", name, scope="col", role="columnheader") if name else element("td", role="cell") for name in names
    ]
    return element("thead", element("tr", *cells, role="row"), role="rowgroup")


def _estimate_row(name: str, estimate: Estimate, last: str) -> Markup:
    cells = (
        ("mean ± sd", format_estimate(estimate)),
        ("95 % interval", format_interval(estimate)),
        ("seeds", format_num(estimate)),
    )
    numbers = [element("td", text, class_="number", role="cell", data_label=label) for label, text in cells]
    return element(
        "tr",
        element("th", name, scope="row", role="rowheader"),
        *numbers,
        element("td", last, role="cell", class_="last"),
        role="row",
    )


class _Axis:
    """The line on which measured value, controls and threshold lie, logarithmic where they are far apart."""

    def __init__(self, agreement: Agreement) -> None:
        self._criterion = agreement.criterion
        estimates = [agreement.measured, *(control.estimate for control in agreement.controls)]
        values = [value for estimate in estimates for value in estimate.values] + [agreement.criterion.threshold]
        self._logarithmic = min(values) > 0 and max(values) > 50 * min(values)
        ends = [end for estimate in estimates for end in estimate.interval if end > 0 or not self._logarithmic]
        low, high = self._warped(min(values + ends)), self._warped(max(values + ends))
        room = 0.08 * (high - low) or 1.0
        self._low, self._high = low - room, high + room

    def strip(self, estimate: Estimate, kind: str) -> Markup:
        """A small drawing: the side that counts, the threshold, the interval and every seed's value."""
        threshold = self._percent(self._criterion.threshold)
        counts = (0.0, threshold) if self._criterion.relation == "<=" else (threshold, 100.0)
        low, high = (self._percent(end) for end in estimate.interval)
        dots = [element("circle", cx=f"{self._percent(value):.2f}%", cy="11", r="3.5") for value in estimate.values]
        return element(
            "svg",
            element("rect", x=f"{counts[0]:.2f}%", y="0", width=f"{counts[1] - counts[0]:.2f}%", height="22"),
            element("line", x1=f"{threshold:.2f}%", x2=f"{threshold:.2f}%", y1="0", y2="22", class_="threshold"),
            element("line", x1=f"{low:.2f}%", x2=f"{high:.2f}%", y1="11", y2="11", class_="interval"),
            *dots,
            class_=f"strip {kind}",
            aria_hidden="true",
        )

    def _warped(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value

    def _percent(self, value: float) -> float:
        if self._logarithmic and value <= 0:  # an interval may reach below zero where no value does
            return 0.0
        return min(100.0, max(0.0, 100 * (self._warped(value) - self._low) / (self._high - self._low)))
