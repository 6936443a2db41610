"""Style: colours that can be distinguished, texts that do not overlap, nothing left out without a note."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joma.charts import SHADES, Chart, Curve, Mark
from joma.report.drawing.looks import (
    DARK,
    LIGHT,
    MARK_COLUMNS,
    Drawing,
    axis_range,
    curve_colours,
    drawing,
    flags,
    fraction,
    group_colours,
    log_ticks,
    shortened,
)

# Linear RGB with one kind of cone missing (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "typical": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.63]]
    axes = [[0.2105, 0.7936, -0.0041], [1.978, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(axes) @ np.cbrt(np.array(cones) @ np.clip(rgb, 0, 1))


def contrast(one: str, other: str) -> float:
    dim, bright = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("eye", EYES)
def test_any_two_series_colours_differ_with_every_colour_vision(palette, eye, tolerance):
    series = [linear(colour) for name, colour in palette.items() if name.startswith("series-")]
    for one, other in itertools.combinations(series, 2):
        assert np.linalg.norm(oklab(EYES[eye] @ one) - oklab(EYES[eye] @ other)) >= tolerance(
            "report.colour_difference"
        )


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_and_texts_have_enough_contrast(palette, tolerance):
    for name in palette:
        if name.startswith(("series-", "predicted", "context")):
            assert contrast(palette[name], palette["paper"]) >= tolerance("report.line_contrast"), name
    for name in ("ink", "quiet"):
        assert contrast(palette[name], palette["paper"]) >= tolerance("report.text_contrast"), name


def test_shades_get_darker_and_their_ends_contrast_like_text_and_paper(tolerance):
    luminance = [float(np.array([0.2126, 0.7152, 0.0722]) @ linear(shade)) for shade in SHADES]
    assert luminance == sorted(luminance, reverse=True)
    assert contrast(SHADES[0], SHADES[-1]) >= tolerance("report.text_contrast")


def chart(*curves: Curve, marks: tuple[Mark, ...] = (), **scales: str) -> Chart:
    return Chart("id", "title", "caption", "x", "y", curves, marks, **scales)


def test_a_group_has_one_colour_in_all_charts_and_single_curves_take_unused_ones():
    first = chart(Curve("a", [0], [0], group="A"), Curve("b", [0], [0], group="B"), Curve("single", [0], [0]))
    second = chart(Curve("b", [0], [0], role="control", group="B"), Curve("alone", [0], [0]))
    groups = group_colours([first, second])
    assert curve_colours(first, groups) == ("series-1", "series-2", "series-3")
    assert curve_colours(second, groups) == ("series-2", "series-1")


def test_predictions_are_drawn_in_ink_and_context_in_grey():
    both = chart(Curve("theory", [0], [0], role="predicted"), Curve("bound", [0], [0], role="context", group="A"))
    assert curve_colours(both, group_colours([both])) == ("predicted", "context")


def test_with_more_curves_than_colours_colours_repeat():
    many = chart(*(Curve(str(index), [0], [0]) for index in range(8)))
    assert curve_colours(many, {})[6:] == ("series-1", "series-2")


def test_points_a_logarithmic_axis_cannot_show_are_left_out_and_reported():
    curve = Curve("a", [0.0, 1.0, 10.0], [1.0, -2.0, 3.0], [0.5, -3.0, -1.0], [2.0, -1.0, 4.0])
    drawn = drawing(chart(curve, marks=(Mark("x", 0.0, "start"),), x_scale="log", y_scale="log"))
    (kept,) = drawn.chart.curves
    assert (kept.x, kept.y) == ([10.0], [3.0])
    assert kept.low == [3.0]  # extends below zero, so it is cut at the lowest positive value
    assert not drawn.chart.marks
    assert drawn.num_omitted == 3
    assert "3 points or marks" in drawn.omission


def test_a_linear_axis_leaves_nothing_out():
    drawn = drawing(chart(Curve("a", [-1.0, 0.0], [-1.0, 0.0])))
    assert drawn.num_omitted == 0
    assert drawn.omission == ""


@given(st.lists(st.floats(1e-200, 1e200), min_size=1, max_size=5), st.sampled_from(["linear", "log"]))
def test_an_axis_has_two_ends_around_all_values(values, scale):
    low, high = axis_range(values, scale, 0.05)
    assert low < min(values)
    assert max(values) < high


def marked(items) -> Drawing:
    marks = tuple(Mark("x", at, text) for at, text in items)
    return drawing(chart(Curve("a", [0, 100], [0, 1]), marks=marks))


def spans(drawn: Drawing) -> list[tuple[int, float, float, float]]:
    """Return row, line, and ends of the text of each flag, in characters."""
    found = []
    for flag in flags(drawn):
        stem = fraction(flag.mark.at, drawn.x_range, "linear") * MARK_COLUMNS
        start, end = (stem - len(flag.text), stem) if flag.leans_left else (stem, stem + len(flag.text))
        found.append((flag.row, stem, start, end))
    return found


def marks_between(low: float, high: float):
    items = st.tuples(st.floats(low, high), st.text("abc xyz", min_size=1, max_size=60))
    return st.lists(items, max_size=9, unique_by=lambda item: item[0])


@given(marks_between(0, 100))
def test_flags_do_not_overlap(items):
    drawn = marked(items)
    assert {flag.mark for flag in flags(drawn)} == set(drawn.chart.marks)
    for (row, _, start, end), (other_row, _, other_start, other_end) in itertools.combinations(spans(drawn), 2):
        assert row != other_row or end <= other_start or other_end <= start


@given(st.one_of(marks_between(0, 49), marks_between(51, 100)))
def test_no_flag_crosses_the_line_of_another_on_its_side(items):
    for (row, stem, *_), (other_row, _, start, end) in itertools.permutations(spans(marked(items)), 2):
        assert row <= other_row or not start < stem < end


def test_long_texts_are_cut_with_an_ellipsis():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abc defg", 5) == "abc…"


def test_a_band_widens_the_axis(text_chart):
    without = replace(text_chart, curves=tuple(replace(c, low=None, high=None) for c in text_chart.curves), marks=())
    assert drawing(text_chart).y_range[0] < drawing(without).y_range[0]


@pytest.mark.parametrize(
    ("span", "ticks"),
    [
        ((0.22, 9.0), [0.5, 1, 2, 5]),
        ((1.1, 5.5), [2, 3, 4, 5]),
        ((1e-3, 2e3), [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000]),
        ((1e-12, 1.0), [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1]),
        ((0.012995, 0.013105), [0.013, 0.01302, 0.01304, 0.01306, 0.01308, 0.0131]),
        ((1.03, 1.47), [1.1, 1.2, 1.3, 1.4]),
    ],
)
def test_a_logarithmic_axis_has_three_ticks_or_more_however_narrow_it_is(span, ticks):
    assert log_ticks(span) == ticks
