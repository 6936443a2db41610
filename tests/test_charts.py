"""Charts refuse what no renderer could show honestly, when they are made and not when they are drawn."""

import math
from dataclasses import asdict

import pytest

from joma.charts import Chart, Curve, Mark, chart_from_json


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["x", "y", "low", "high"])
def test_a_curve_refuses_what_is_not_finite(part, bad):
    parts = {name: [1.0, 2.0] for name in ("x", "y", "low", "high")} | {part: [1.0, bad]}
    with pytest.raises(ValueError, match=f"{part} must be finite"):
        Curve("loss", **parts)


def test_a_mark_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="finite place"):
        Mark("x", math.nan, "blow-up")


@pytest.mark.parametrize("parts", [{"x": [1.0]}, {"low": [1.0, 2.0]}])
def test_a_curve_refuses_parts_that_do_not_fit(parts):
    with pytest.raises(ValueError, match="equally long"):
        Curve("loss", **{"x": [1.0, 2.0], "y": [1.0, 2.0]} | parts)


def test_a_chart_survives_json():
    chart = Chart("id", "t", "c", "x", "y", (Curve("a", (0.0, 1.0), (1.0, 2.0)),), (Mark("y", 1.0, "m"),), "log")
    assert chart_from_json(asdict(chart)) == chart
