"""Figures: the same bytes each time, everything drawn, the caller's settings unchanged."""

import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from joma.charts import Curve
from joma.report.drawing.figures import chart_figure, write_figures
from joma.report.drawing.looks import LIGHT


def colours_in(path) -> set[tuple[int, ...]]:
    pixels = (imread(io.BytesIO(path.read_bytes()))[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {tuple(int(part) for part in pixel) for pixel in np.unique(pixels, axis=0)}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def test_two_files_named_after_the_chart_with_the_same_bytes_each_time(text_chart, tmp_path):
    first, second = (write_figures([text_chart], tmp_path / name)[0] for name in ("a", "b"))
    assert [path.name for path in first] == ["entropy.svg", "entropy.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["entropy.png", "entropy.svg"]


def test_every_curve_is_in_the_picture_in_its_colour(text_chart, tmp_path):
    ((_, png),) = write_figures([text_chart], tmp_path)
    seen = colours_in(png)
    for name in ("series-1", "series-2", "series-3", "series-4", "series-5", "context"):
        assert rgb(LIGHT[name]) in seen, name


def test_a_group_has_the_same_colour_in_every_chart_of_a_page(text_chart, tmp_path):
    alone = replace(text_chart, id="alone", curves=(text_chart.curves[2],))
    _, (_, png) = write_figures([text_chart, alone], tmp_path)
    assert rgb(LIGHT["series-3"]) in colours_in(png)
    assert rgb(LIGHT["series-1"]) not in colours_in(png)


@pytest.mark.parametrize("name", ["text_chart", "residual_chart", "hostile_chart"])
def test_the_svg_is_well_formed_and_carries_its_title(name, request, tmp_path):
    chart = request.getfixturevalue(name)
    ((svg, _),) = write_figures([chart], tmp_path)
    root = ElementTree.fromstring(svg.read_bytes())
    titles = [node.text for node in root.iter("{http://purl.org/dc/elements/1.1/}title")]
    assert titles[0] == chart.title


def test_an_empty_chart_and_a_single_point_are_drawn(text_chart, tmp_path):
    empty = replace(text_chart, id="empty", curves=(), marks=())
    point = replace(text_chart, id="point", curves=(Curve("one", [5.0], [1.0]),))
    _, (_, png) = write_figures([empty, point], tmp_path)
    assert rgb(LIGHT["series-1"]) in colours_in(png)


def test_points_that_are_not_joined_have_no_line(text_chart):
    dots = Curve("dots", (0.0, 1.0, 2.0), (1.0, 0.0, 1.0), joined=False)
    figure = chart_figure([replace(text_chart, curves=(dots, replace(dots, joined=True)), marks=())], {})
    scattered, line = (one for one in figure.axes[0].get_lines() if one.get_gid() == "curve")
    assert (scattered.get_linestyle(), scattered.get_marker()) == ("None", "o")
    assert (line.get_linestyle(), line.get_marker()) == ("-", "None")


def test_matplotlib_settings_of_the_caller_are_not_changed(text_chart, tmp_path):
    before = dict(matplotlib.rcParams)
    write_figures([text_chart], tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_a_folder_that_cannot_be_created_raises_an_error(text_chart, tmp_path):
    blocked = tmp_path / "taken"
    blocked.write_text("a file")
    with pytest.raises(OSError, match="taken"):
        write_figures([text_chart], blocked)
    assert blocked.read_text() == "a file"
