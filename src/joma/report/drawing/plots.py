"""Charts as interactive plots: what plotly is told, and the HTML around it.

Titles, axis labels, the legend and the values under the pointer are HTML, so they wrap, are read aloud, hide nothing
of the plot and are text whatever they contain. Only the texts of marks go through plotly, which reads a little HTML
of its own: these are escaped for it (``literal``). Colours travel as names; the page's script looks them up, light
or dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from joma.charts import Curve, Role, Scale
from joma.report.drawing.looks import BAND_OPACITY, STROKES, Drawing, flags, fraction, num_rows, shortened
from joma.report.drawing.markup import Markup, element, joined

ROW_PIXELS = 15
_POINTER = {
    "showspikes": True,
    "spikemode": "across",
    "spikesnap": "hovered data",
    "spikedash": "solid",
    "spikethickness": 1,
    "spikecolor": "edge",
}
_ROLES: Mapping[Role, str] = {"predicted": "predicted", "control": "control", "context": "for comparison"}


_READING = element("output", class_="reading", aria_live="off")


def literal(text: str) -> str:
    """``text`` as plotly shows it to the letter: no tag, entity or line break of its own in it."""
    return html.escape(" ".join(text.split()), quote=False)


def plot(drawn: Drawing, colours: Sequence[str]) -> dict[str, Any]:
    """What the page's script hands to plotly: ``data`` and ``layout``, plain data.

    Args:
        drawn: the chart and its ranges.
        colours: colour names of the curves, from ``curve_colours``.
    """
    chart = drawn.chart
    data = [trace for curve, colour in zip(chart.curves, colours, strict=True) for trace in _traces(curve, colour)]
    layout = {
        "paper_bgcolor": "#0000",
        "plot_bgcolor": "#0000",
        "font": {"color": "quiet", "size": 13},
        "margin": {"l": 44, "r": 12, "t": 10 + num_rows(drawn) * ROW_PIXELS, "b": 28},
        "showlegend": False,
        "hovermode": "x",
        "hoverdistance": -1,
        "xaxis": _axis(drawn.x_range, chart.x_scale) | {"showline": True, "linecolor": "edge"} | _POINTER,
        "yaxis": _axis(drawn.y_range, chart.y_scale) | {"automargin": True},
        "shapes": _lines(drawn),
        "annotations": [*_upright_texts(drawn), *_level_texts(drawn)],
    }
    return {"data": data, "layout": layout}


def legend(drawn: Drawing, colours: Sequence[str]) -> Markup:
    """One button per curve that shows and hides it, with a sample of its line; in the order of the curves."""
    buttons, first = [], 0
    for curve, colour in zip(drawn.chart.curves, colours, strict=True):
        num_traces = 1 if curve.low is None else 3
        numbers = " ".join(str(number) for number in range(first, first + num_traces))
        first += num_traces
        role = _ROLES.get(curve.role)
        note = element("small", f" {role}") if role and role not in curve.label else Markup("")
        sample = _sample(curve, colour)
        buttons.append(
            element(
                "button", sample, element("span", curve.label, note), _READING, aria_pressed="true", data_traces=numbers
            )
        )
    return element("div", *buttons, class_="legend", role="group", aria_label="Curves, each can be hidden")


def _sample(curve: Curve, colour: str) -> Markup:
    stroke = STROKES[curve.role]
    dashes = " ".join(f"{part * stroke.width:g}" for part in stroke.dashes)
    line = element(
        "line",
        x1="1",
        x2="27",
        y1="5",
        y2="5",
        stroke=f"var(--{colour})",
        stroke_width=f"{stroke.width + 0.4:g}",
        stroke_dasharray=dashes or None,
    )
    return element("svg", line, viewBox="0 0 28 10", width="28", height="10", aria_hidden="true")


def _traces(curve: Curve, colour: str) -> list[dict[str, Any]]:
    """The line, and before it the two edges of its band."""
    stroke = STROKES[curve.role]
    dash = ",".join(f"{part * stroke.width:.1f}px" for part in stroke.dashes) or "solid"
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if len(curve.x) > 1 else "markers",
        "x": list(curve.x),
        "y": list(curve.y),
        "line": {"color": colour, "width": stroke.width, "dash": dash},
        "marker": {"color": colour},
        "hoverinfo": "none",  # the script writes what is under the pointer into the legend
    }
    if curve.low is None or curve.high is None:
        return [line]
    edge = {"type": "scatter", "mode": "lines", "x": list(curve.x), "line": {"width": 0}, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "fillcolor": f"{colour}/{BAND_OPACITY}"}
    return [edge | {"y": list(curve.low)}, edge | {"y": list(curve.high)} | fill, line]


def _lines(drawn: Drawing) -> list[dict[str, Any]]:
    thin = {"type": "line", "layer": "above", "opacity": 0.7, "line": {"color": "quiet", "width": 1}}
    upright = {"yref": "paper", "y0": 0, "y1": 1}
    level = {"xref": "paper", "x0": 0, "x1": 1}
    return [
        thin
        | (upright | {"x0": mark.at, "x1": mark.at} if mark.axis == "x" else level | {"y0": mark.at, "y1": mark.at})
        for mark in drawn.chart.marks
    ]


def _upright_texts(drawn: Drawing) -> list[dict[str, Any]]:
    texts = []
    for flag in flags(drawn):
        place = math.log10(flag.mark.at) if drawn.chart.x_scale == "log" else flag.mark.at
        anchor = {"x": place, "yref": "paper", "y": 1, "xanchor": "right" if flag.leans_left else "left"}
        stem = {"ax": 0, "ay": -ROW_PIXELS * (flag.row + 0.75), "arrowhead": 0, "arrowwidth": 1, "arrowcolor": "quiet"}
        texts.append(
            anchor | stem | {"text": literal(flag.text), "font": {"size": 12}, "bgcolor": "paper", "borderpad": 1}
        )
    return texts


def _level_texts(drawn: Drawing) -> list[dict[str, Any]]:
    chart, texts = drawn.chart, []
    levels = sorted((mark for mark in chart.marks if mark.axis == "y"), key=lambda mark: mark.at)
    for index, mark in enumerate(levels):
        high = fraction(mark.at, drawn.y_range, chart.y_scale) > 0.9
        texts.append(
            {
                "xref": "paper",
                "x": index % 2,
                "xanchor": "right" if index % 2 else "left",
                "y": math.log10(mark.at) if chart.y_scale == "log" else mark.at,
                "yanchor": "top" if high else "bottom",
                "showarrow": False,
                "text": literal(shortened(mark.text, 40)),
                "font": {"size": 12},
                "bgcolor": "paper/0.75",
                "borderpad": 1,
            }
        )
    return texts


def _axis(span: tuple[float, float], scale: Scale) -> dict[str, Any]:
    common = {"type": scale, "gridcolor": "grid", "zeroline": False, "exponentformat": "power"}
    if scale == "linear":
        return common | {"range": list(span), "nticks": 7}
    low, high = (math.log10(end) for end in span)
    return common | {"range": [low, high], "dtick": max(1, round((high - low) / 6)), "tickfont": {"size": 10.5}}


def figure(drawn: Drawing, colours: Sequence[str], key: str) -> Markup:
    """A chart's place in the page: title, axis labels, the empty plot, the legend and the caption.

    Args:
        drawn: the chart and its ranges.
        colours: colour names of the curves.
        key: where the page's data holds this plot.
    """
    chart = drawn.chart
    description = f"{chart.title}. {chart.y_label} against {chart.x_label}. {chart.caption}"
    marks = "; ".join(f"{mark.axis} = {mark.at:g}: {mark.text}" for mark in chart.marks)
    if marks:
        description = f"{description} Marked: {marks}."
    return element(
        "figure",
        element("h3", chart.title),
        element("div", chart.y_label, class_="axis-label"),
        element("div", class_="plot", data_plot=key, role="img", aria_label=description),
        element("div", chart.x_label, _READING, class_="axis-label x"),
        legend(drawn, colours),
        element("figcaption", joined(chart.caption, f" {drawn.omission}" if drawn.omission else "")),
        class_="chart",
    )
