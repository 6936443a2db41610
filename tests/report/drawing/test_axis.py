"""Positions of values and threshold on the axis, and the side that supports the claim."""

from dataclasses import replace

import pytest

from joma.records import Agreement, Control, Criterion, Estimate
from joma.report.drawing.axis import Axis


def agreement(measured, control, relation="<=", threshold=2.0) -> Agreement:
    criterion = Criterion("quantity", relation, threshold, "reason")
    return Agreement(criterion, Estimate(measured), (Control("control", Estimate(control)),), "")


def test_all_values_and_the_threshold_are_on_the_axis_in_order():
    axis = Axis(agreement((1.0, 1.5), (4.0,)))
    places = [axis.at(value) for value in (1.0, 1.5, 2.0, 4.0)]
    assert places == sorted(places)
    assert 0 < places[0] < axis.threshold == places[2] < places[3] < 100


def test_values_that_differ_by_large_factors_give_a_logarithmic_axis():
    axis = Axis(agreement((1e-6,), (1.0,), threshold=1e-3))
    assert axis.threshold == pytest.approx((axis.at(1e-6) + axis.at(1.0)) / 2)
    assert axis.at(-1.0) == 0.0  # an end of an interval below zero on a logarithmic axis


@pytest.mark.parametrize("relation", ["<=", ">="])
def test_the_side_that_counts_begins_at_the_threshold(relation):
    axis = Axis(agreement((1.0, 1.5), (4.0,), relation))
    assert axis.counting == ((0.0, axis.threshold) if relation == "<=" else (axis.threshold, 100.0))


def test_one_value_at_its_threshold_lies_in_the_middle():
    alone = replace(agreement((2.0,), (2.0,)), controls=())
    assert Axis(alone).at(2.0) == pytest.approx(50.0)


def test_an_interval_without_ends_spans_the_axis():
    axis = Axis(agreement((1.0,), (4.0,)))
    assert [axis.at(end) for end in Estimate((1.0,)).interval] == [0.0, 100.0]
    assert 0 < axis.at(1.0) < axis.at(4.0) < 100
