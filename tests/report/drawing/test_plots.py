"""Plotly specifications: valid for plotly, with colours that both palettes have."""

from dataclasses import replace

import plotly.graph_objects as graph_objects
import pytest

from joma.charts import Curve
from joma.report.drawing.looks import DARK, LIGHT
from joma.report.drawing.plots import literal, plots_of

CHARTS = ["text_chart", "residual_chart", "hostile_chart"]


def colours_in(part, key=""):
    if isinstance(part, dict):
        for name, entry in part.items():
            yield from colours_in(entry, name)
    elif isinstance(part, list):
        for entry in part:
            yield from colours_in(entry)
    elif key.endswith("color"):
        yield part.partition("/")[0]


@pytest.fixture(params=CHARTS)
def spec(request):
    chart = request.getfixturevalue(request.param)
    return plots_of([chart], "key")[0].spec()


def test_every_colour_is_a_name_that_both_palettes_have(spec):
    names = set(colours_in(spec)) - {"#0000"}
    assert names <= LIGHT.keys() & DARK.keys()
    assert {"ink", "grid", "quiet"} & names


def test_plotly_accepts_every_entry_of_the_specification(spec):
    def painted(part, key=""):
        if isinstance(part, dict):
            return {name: painted(entry, name) for name, entry in part.items()}
        if isinstance(part, list):
            return [painted(entry) for entry in part]
        return "rgba(0,0,0,0.5)" if key.endswith("color") else part

    drawn = graph_objects.Figure(painted(spec))  # raises on a name or value that plotly does not know
    assert len(drawn.data) == len(spec["data"]) > 0


@pytest.mark.parametrize("text", ["<b>x</b>", "a & b", "&lt;", "<script>"])
def test_literal_text_has_no_markup_that_plotly_interprets(text):
    assert "<" not in literal(text)
    assert literal(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_every_curve_has_a_legend_entry_that_names_its_traces(text_chart):
    (plot,) = plots_of([text_chart], "key")
    assert plot.key == "key/entropy"
    assert [entry.label for entry in plot.legend] == [curve.label for curve in text_chart.curves]
    traces = [int(number) for entry in plot.legend for number in entry.traces.split()]
    assert traces == list(range(len(plot.spec()["data"])))
    assert [entry.role for entry in plot.legend] == ["", "", "", "", "control", "for comparison"]


def test_a_role_named_in_the_label_is_not_repeated(text_chart):
    named = replace(text_chart, curves=(replace(text_chart.curves[4], label="the control"),))
    assert plots_of([named], "key")[0].legend[0].role == ""


def test_points_that_are_not_joined_are_dots_and_single_ones_are_larger(text_chart):
    dots = Curve("dots", (0.0, 1.0, 2.0), (1.0, 0.0, 1.0), joined=False)
    chart = replace(text_chart, curves=(dots, replace(dots, joined=True), Curve("one", (1.0,), (1.0,))), marks=())
    plot = plots_of([chart], "key")[0]
    assert [entry.dashes != "" for entry in plot.legend] == [True, False, False]
    scattered, line, single = plot.spec()["data"]
    assert [scattered["mode"], line["mode"], single["mode"]] == ["markers", "lines", "markers"]
    assert scattered["marker"]["size"] < single["marker"]["size"]


@pytest.mark.parametrize(("x", "whole"), [((0.0, 1.0, 2.0), True), ((0.0, 0.5, 2.0), False), ((0.0, 900.0), False)])
def test_an_axis_of_few_layers_has_no_fractions_between_them(text_chart, x, whole):
    chart = replace(text_chart, curves=(Curve("by layer", x, (0.5,) * len(x)),), marks=(), x_scale="linear")
    assert (plots_of([chart], "key")[0].spec()["layout"]["xaxis"].get("dtick") == 1) == whole
