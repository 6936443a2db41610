"""Paths become points, and points become ink where the pen went."""

import numpy as np
import pytest
import torch

from joma.train.images.strokes import drawn, path_curves, points_of


def test_relative_and_smooth_curves_are_the_absolute_ones():
    absolute = path_curves("M10,20C11,22 13,24 15,25C17,26 19,25 20,20")
    assert path_curves("M10,20c1,2,3,4,5,5s4,0,5-5") == absolute
    assert path_curves("m 10 20 c 1 2 3 4 5 5 2 1 4 0 5 -5") == absolute
    assert absolute[1] == (15 + 25j, 17 + 26j, 19 + 25j, 20 + 20j)


def test_numbers_may_lack_separators_and_leading_zeros():
    assert path_curves("M1-.5c.5.5-1,2,3,4") == [(1 - 0.5j, 1.5 + 0j, 0 + 1.5j, 4 + 3.5j)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("M1,2L3,4", "more than moves"),
        ("1,2", "begins with a number"),
        ("M1,2c3,4", "another number"),
        ("M1,2 3,4", "another number"),
        ("", "another number"),
        ("M1,2c1e,2,3,4,5,6", "more than moves"),
    ],
)
def test_other_paths_are_refused(path, message):
    with pytest.raises(ValueError, match=message):
        path_curves(path)


def test_points_lie_on_the_curve_and_close_together(tolerance):
    points, nums = points_of(path_curves("M0,0c10,0,20,0,30,0M50,50c0,1,0,2,0,3"))
    assert nums.sum() == len(points)
    line, short = points[: nums[0]], points[nums[0] :]
    np.testing.assert_allclose(line[[0, -1]], [[0, 0], [30, 0]], atol=tolerance("sums.float64"))
    np.testing.assert_allclose(short[[0, -1]], [[50, 50], [50, 53]], atol=tolerance("sums.float64"))
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).max() <= 3  # three times the spacing where a curve is fast


def test_ink_is_where_the_stroke_is_and_every_view_differs():
    line = path_curves("M20,50c20,0,40,0,60,0")
    (views,) = drawn([line], 100, 32, 3, seed=0)
    assert views.dtype == torch.uint8
    assert (views[:, 12:20].long().sum((1, 2)) > 0.9 * views.long().sum((1, 2))).all()
    assert views[:, 12:20].amax() > 200
    assert not torch.equal(views[0], views[1])
    assert torch.equal(views, drawn([line], 100, 32, 3, seed=0)[0])


def test_strokes_beyond_the_edge_are_cut_off_and_leave_no_ink_on_other_subjects():
    outside = path_curves("M-90,-90c0,10,0,20,0,30")
    pictures = drawn([outside, path_curves("M20,50c20,0,40,0,60,0"), outside], 100, 16, 1, seed=1)
    assert pictures[[0, 2]].amax() == 0
    assert pictures[1].amax() > 0
