"""Heatmaps: larger values darker, unreliable columns struck out, missing cells empty."""

from xml.etree import ElementTree

import numpy as np
import pytest
from made_scan import HOSTILE
from matplotlib.image import imread

from joma.charts import Heatmap
from joma.report.drawing.heatmaps import heatmap_plot, write_heatmap


def heatmap(**changes) -> Heatmap:
    parts = {"x": ["0", "1", "2"], "y": ["a", "b"], "values": [[0.0, 0.5, 1.0], [1.0, None, 0.25]]}
    return Heatmap("map", "A title " * 12, "caption", "step", "layer", value_label=HOSTILE, **(parts | changes))


def test_a_heatmap_has_the_same_bytes_each_time_and_larger_values_are_darker(tmp_path):
    first = [path.read_bytes() for path in write_heatmap(heatmap(), tmp_path / "one")]
    paths = write_heatmap(heatmap(), tmp_path / "two")
    assert [path.read_bytes() for path in paths] == first
    assert ElementTree.parse(paths[0]).getroot().tag.endswith("svg")
    picture = imread(paths[1])[..., :3].sum(-1)
    height, width = picture.shape
    row = picture[int(height * 0.62)]
    places = [int(width * share) for share in (0.15, 0.4, 0.7)]
    assert row[places[0]] > row[places[1]] > row[places[2]]


def test_a_heatmap_of_a_wrong_shape_or_with_nan_is_refused():
    with pytest.raises(ValueError, match="2 rows of 3"):
        heatmap(values=[[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="finite"):
        heatmap(values=[[1.0, 2.0, float("nan")], [1.0, 2.0, 3.0]])


def test_struck_columns_are_crossed_in_both_renderings(tmp_path):
    struck, plain = heatmap(struck=[1]), heatmap()
    shapes = heatmap_plot(struck)["layout"]["shapes"]
    assert {(shape["x0"], shape["x1"]) for shape in shapes} == {(0.5, 1.5)}
    assert heatmap_plot(plain)["layout"]["shapes"] == []
    pictures = [
        imread(write_heatmap(each, tmp_path / name)[1])[..., :3] for name, each in (("a", struck), ("b", plain))
    ]
    changed = np.flatnonzero((pictures[0] != pictures[1]).any(axis=(0, 2)))
    width = pictures[0].shape[1]
    assert 0.2 * width < changed.min() < changed.max() < 0.7 * width


def test_long_tick_labels_do_not_overlap():
    names = [str(1000 * place) for place in range(154)]
    shown = heatmap_plot(heatmap(x=names, y=["a"], values=[[0.5] * 154]))["layout"]["xaxis"]["ticktext"]
    assert shown[0] == "0"
    assert shown[-1] == "153000"
    letter, plot = (
        8,
        480,
    )  # CSS pixels of a 13 px digit with some space, and of a plot with its scale on a small screen
    assert len("  ".join(shown)) * letter <= plot


def test_missing_values_of_a_heatmap_stay_empty():
    trace = heatmap_plot(heatmap())["data"][0]
    assert trace["z"][1][1] is None
    assert heatmap_plot(heatmap())["layout"]["xaxis"]["ticktext"] == ["0", "1", "2"]
