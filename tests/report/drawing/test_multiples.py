"""Small curves of every head as a figure."""

import numpy as np
from matplotlib.collections import LineCollection

from joma.report.drawing.multiples import multiples_figure, write_multiples

CELLS = {(layer, head): [(0.0, 1.0), (0.5, head / 8), (1.0, 0.5)] for layer in range(3) for head in (0, 2, 5)}


def test_each_curve_lies_in_its_cell_with_the_first_layer_on_top():
    figure = multiples_figure(CELLS, "Entropy of every head", "From 0 to 4.", ("head", "layer"))
    (axes,) = figure.axes
    lines = [part for part in axes.collections if isinstance(part, LineCollection)][-1].get_segments()
    assert len(lines) == len(CELLS)
    for (layer, head), line in zip(CELLS, lines, strict=True):
        column = (0, 2, 5).index(head)
        assert (np.floor(line[:, 0]) == column).all()
        assert ((line[:, 1] >= -layer - 1) & (line[:, 1] <= -layer)).all()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "2", "5"]


def test_a_figure_of_thousands_of_curves_is_written(tmp_path):
    cells = {(layer, head): [(0.0, 1.0), (1.0, 0.0)] for layer in range(48) for head in range(32)}
    for path in write_multiples(cells, tmp_path / "heads", "Entropy", "Caption", ("head", "layer")):
        assert path.stat().st_size > 1000
