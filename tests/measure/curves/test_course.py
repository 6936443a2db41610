"""Parts, permutations and curves of a course agree with its values."""

import numpy as np
import pytest

from joma.intervals import student
from joma.measure.curves.course import Course
from joma.records import Estimate

WHOLE = Course((0, 10, 20, 30), np.arange(8.0).reshape(2, 4) ** 2)


def test_between_keeps_the_steps_from_first_to_last():
    assert WHOLE.between(10, 20).steps == (10, 20)
    np.testing.assert_array_equal(WHOLE.between(10, 20).values, [[1, 4], [25, 36]])
    np.testing.assert_array_equal(WHOLE.between(20).values, [[4, 9], [36, 49]])


def test_a_random_order_keeps_each_rows_values():
    mixed = WHOLE.in_random_order(3)
    assert sorted(mixed.values[0]) == [0, 1, 4, 9]
    assert mixed.steps == WHOLE.steps
    np.testing.assert_array_equal(mixed.values, WHOLE.in_random_order(3).values)


@pytest.mark.parametrize("band", ["deviation", "interval"])
def test_the_curve_is_the_mean_with_the_requested_band(band):
    curve = WHOLE.curve("name", "control", band=band)
    assert (curve.label, curve.role, curve.group) == ("name", "control", "name")
    assert list(curve.y) == WHOLE.mean.tolist()
    for low, mean, high, values in zip(curve.low, curve.y, curve.high, WHOLE.values.T.tolist(), strict=True):
        expected = student(values) if band == "interval" else (mean - Estimate(tuple(values)).standard_deviation, None)
        assert low == pytest.approx(expected[0])
        assert high - mean == pytest.approx(mean - low)


def test_one_repetition_has_no_band():
    curve = Course(WHOLE.steps, WHOLE.values[:1]).curve("name", group="")
    assert curve.low is curve.high is None
    assert curve.group == ""


def test_the_levels_that_are_read_are_those_of_fall_and_rise():
    steps = tuple(range(0, 300, 10))
    dip = np.concatenate([np.linspace(2.0, 1.0, 10), np.full(10, 1.0), np.linspace(1.0, 1.5, 10)])
    course = Course(steps, np.stack([dip, dip + 0.1, dip - 0.1]))
    read, found = course.read_levels("read", "dip"), course.rebounds()
    assert read.y[0] - read.y[2] == pytest.approx(np.mean([one.fall for one in found]))
    assert read.y[4] - read.y[2] == pytest.approx(np.mean([one.rise for one in found]))
    assert list(read.x) == sorted(read.x)
    assert (read.y[0], read.y[2], read.y[4]) == (read.y[1], read.y[3], read.y[5])
