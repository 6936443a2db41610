"""Charts as interactive plots: plotly specifications, and the legends that the page shows around them.

Titles, axis labels, the legend and the values under the pointer are HTML, so that they wrap, work with screen readers,
cover no part of the plot and are escaped. Only the texts of marks go through plotly, which interprets some HTML: these
are escaped for it (``literal``). Colours are given by name; the script of the page looks them up, light or dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from joma.charts import Chart, Curve, Role, Scale
from joma.report.drawing.looks import (
    BAND_OPACITY,
    STROKES,
    Drawing,
    curve_colours,
    drawing,
    flags,
    group_colours,
    levels,
    log_ticks,
    num_rows,
    shortened,
)
from joma.report.drawing.words import log_label

ROW_PIXELS = 15
BARE = {"paper_bgcolor": "#0000", "plot_bgcolor": "#0000", "font": {"color": "quiet", "size": 13}}
"""Layout settings of all plots."""

_NUM_TICKS = 7
_DOTS = ("3", "3 6")
"""Width and dashes of the line in the legend that stands for points which no line joins."""

_ALONG_X = {
    "showline": True,
    "linecolor": "edge",
    "showspikes": True,
    "spikemode": "across",
    "spikesnap": "hovered data",
    "spikedash": "solid",
    "spikethickness": 1,
    "spikecolor": "edge",
}
_ROLES: Mapping[Role, str] = {"predicted": "predicted", "control": "control", "context": "for comparison"}


def literal(text: str) -> str:
    """Escape ``text`` so that plotly shows it literally, without tags, entities and line breaks."""
    return html.escape(" ".join(text.split()), quote=False)


class Entry(NamedTuple):
    """A curve in the legend: its label and the style of its line."""

    label: str
    role: str
    traces: str
    colour: str
    width: str
    dashes: str


@dataclass(frozen=True)
class Plot:
    """A chart in a page.

    Args:
        key: of its specification in the data of the page.
        drawn: the chart and its ranges.
        colours: colour names of the curves, from ``curve_colours``.
    """

    key: str
    drawn: Drawing
    colours: tuple[str, ...]

    def spec(self) -> dict[str, Any]:
        """Return the plotly specification, ``data`` and ``layout``, as plain data."""
        drawn, chart = self.drawn, self.drawn.chart
        pairs = zip(chart.curves, self.colours, strict=True)
        data = [trace for curve, colour in pairs for trace in _traces(curve, colour)]
        layout = {
            **BARE,
            "margin": {"l": 44, "r": 12, "t": 10 + num_rows(drawn) * ROW_PIXELS, "b": 28},
            "showlegend": False,
            "hovermode": "x",
            "hoverdistance": -1,
            "xaxis": _axis(drawn.x_range, chart.x_scale, whole=drawn.has_whole_x) | _ALONG_X,
            "yaxis": _axis(drawn.y_range, chart.y_scale) | {"automargin": True},
            "shapes": _lines(drawn),
            "annotations": [*_upright_texts(drawn), *_level_texts(drawn)],
        }
        return {"data": data, "layout": layout}

    @property
    def legend(self) -> list[Entry]:
        """One entry per curve, in their order."""
        entries, first = [], 0
        for curve, colour in zip(self.drawn.chart.curves, self.colours, strict=True):
            num = 1 if curve.low is None else 3
            traces = " ".join(map(str, range(first, first + num)))
            first += num
            role, stroke = _ROLES.get(curve.role, ""), STROKES[curve.role]
            dashes = " ".join(f"{part * stroke.width:g}" for part in stroke.dashes)
            shown = "" if role in curve.label else role
            look = (f"{stroke.width + 0.4:g}", dashes) if curve.joined else _DOTS
            entries.append(Entry(curve.label, shown, traces, colour, *look))
        return entries


def plots_of(charts: Sequence[Chart], prefix: str) -> list[Plot]:
    """Return the plots of one page; their keys have one prefix, and a group has the same colour in all of them."""
    groups = group_colours(charts)
    return [Plot(f"{prefix}/{chart.id}", drawing(chart), curve_colours(chart, groups)) for chart in charts]


def _traces(curve: Curve, colour: str) -> list[dict[str, Any]]:
    """The two edges of the band, if any, then the line."""
    stroke = STROKES[curve.role]
    dash = ",".join(f"{part * stroke.width:.1f}px" for part in stroke.dashes) or "solid"
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if curve.joined and len(curve.x) > 1 else "markers",
        "x": list(curve.x),
        "y": list(curve.y),
        "line": {"color": colour, "width": stroke.width, "dash": dash},
        "marker": {"color": colour, "size": 6 if len(curve.x) == 1 else 3},
        "hoverinfo": "none",  # the script writes the values under the pointer into the legend
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
    return [
        {
            "xref": "paper",
            "x": int(at_right),
            "xanchor": "right" if at_right else "left",
            "y": math.log10(mark.at) if drawn.chart.y_scale == "log" else mark.at,
            "yanchor": "top" if is_below else "bottom",
            "showarrow": False,
            "text": literal(shortened(mark.text, 40)),
            "font": {"size": 12},
            "bgcolor": "paper/0.75",
            "borderpad": 1,
        }
        for mark, at_right, is_below in levels(drawn)
    ]


def _axis(span: tuple[float, float], scale: Scale, *, whole: bool = False) -> dict[str, Any]:
    common = {"type": scale, "gridcolor": "grid", "zeroline": False, "exponentformat": "power"}
    if scale == "linear":
        ticks = {"dtick": 1} if whole and span[1] - span[0] < _NUM_TICKS else {"nticks": _NUM_TICKS}
        return common | {"range": list(span)} | ticks
    ends = [math.log10(end) for end in span]
    ticks = log_ticks(span)
    return common | {"range": ends, "tickvals": ticks, "ticktext": list(map(log_label, ticks))}
