"""Charts refuse values that no renderer can show when they are created, not when they are drawn."""

import math
from dataclasses import asdict

import pytest

from joma.charts import Chart, Curve, Mark
from joma.errors import InvalidArgument
from joma.serialization import shaped


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["x", "y", "low", "high"])
def test_a_curve_with_nan_or_infinity_is_refused(part, bad):
    parts = {name: [1.0, 2.0] for name in ("x", "y", "low", "high")} | {part: [1.0, bad]}
    with pytest.raises(ValueError, match=f"{part} must be finite"):
        Curve("loss", **parts)


def test_a_mark_at_nan_or_infinity_is_refused():
    with pytest.raises(ValueError, match="finite place"):
        Mark("x", math.nan, "blow-up")


@pytest.mark.parametrize("parts", [{"x": [1.0]}, {"low": [1.0, 2.0]}])
def test_a_curve_with_parts_of_different_lengths_is_refused(parts):
    with pytest.raises(ValueError, match="equal lengths"):
        Curve("loss", **{"x": [1.0, 2.0], "y": [1.0, 2.0]} | parts)


def test_a_chart_read_from_its_json_is_equal():
    chart = Chart("id", "t", "c", "x", "y", (Curve("a", (0.0, 1.0), (1.0, 2.0)),), (Mark("y", 1.0, "m"),), "log")
    assert shaped(asdict(chart), Chart) == chart


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Curve("a", (0.0,), (1.0,), role="foo"), "role"),
        (lambda: Mark("z", 1.0, "here"), "axis"),
        (lambda: Chart("a", "A", "", "x", "y", (), x_scale="logarithmic"), "x_scale"),
    ],
)
def test_unknown_roles_axes_and_scales_are_refused(make, name):
    with pytest.raises(InvalidArgument, match=f"`{name}` is"):
        make()
