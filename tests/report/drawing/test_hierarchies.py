"""The picture of a hierarchy: each latent in its colour, scores readable, the same bytes each time."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from joma.problem.combinatorial import random_hierarchy
from joma.problem.tree import balanced_tree
from joma.report.drawing.figures import SCALE
from joma.report.drawing.hierarchies import Found, Level, write_found, write_present
from joma.report.drawing.looks import LIGHT
from joma.report.drawing.rows import rows_of

DPI = 200


def found(law, values, missing=""):
    levels = [Level(f"level {level} · layer {level}", "mean", row) for level, row in enumerate(values)]
    before = [[0.0] * len(row) for row in values]
    grid = [[0.5] * len(values)] * len(values)
    grids = {"After training": grid, "Before": grid}
    return Found(rows_of(law), "label", levels, before, grids, "Title", "What the colours mean", missing)


def num_pixels(png, colour):
    pixels = (imread(png)[..., :3] * 255).round().astype(int)
    wanted = np.array([round(255 * part) for part in to_rgb(colour)])
    return int((pixels == wanted).all(-1).sum())


def half_a_disc(radius):
    """Return the least number of pixels of a disc's colour; texts and its edge may cover half of it."""
    return math.pi * (radius * DPI / 72) ** 2 / 2


TREE = balanced_tree((2, 2, 2), 0.8)
VALUES = [[0.05, 0.3, 0.6, 0.95], [0.2, 0.8]]


def test_pictures_have_the_same_bytes_each_time_and_a_title_in_their_metadata(tmp_path):
    pairs = [write_found(found(TREE, VALUES), tmp_path / name / "tree") for name in "ab"]
    for first, second in zip(*pairs, strict=True):
        assert first.read_bytes() == second.read_bytes()
    titles = ElementTree.parse(pairs[0][0]).iter("{http://purl.org/dc/elements/1.1/}title")
    assert next(titles).text == "Title"


@pytest.mark.parametrize(
    ("law", "radius"),
    [(TREE, 11), (balanced_tree((2, 2, 2, 2), 0.8), 11), (random_hierarchy(50, (20, 30), 3, seed=1), 4)],
    ids=["tree", "deep", "50 classes"],
)
def test_each_latent_is_a_disc_in_the_colour_of_its_score(law, radius, tmp_path):
    """Give one latent after the other the only score above chance: one disc must have its colour, and no other."""
    nothing = [[0.0] * size for size in law.level_sizes]
    colour = to_hex(SCALE(0.37))
    _, png = write_found(found(law, nothing), tmp_path / "none")
    background = num_pixels(png, colour)
    for level in range(len(law.level_sizes)):
        values = [list(row) for row in nothing]
        values[level][-1] = 0.37
        _, png = write_found(found(law, values), tmp_path / f"{level}")
        assert num_pixels(png, colour) - background > half_a_disc(radius)


def test_a_latent_without_a_score_is_grey_and_the_reason_is_written_below(tmp_path):
    without = found(TREE, [[None, 0.3, 0.6, 0.95], [0.2, 0.8]], "the latent is constant (1)")
    _, plain = write_found(found(TREE, VALUES), tmp_path / "plain")
    _, png = write_found(without, tmp_path / "without")
    _, silent = write_found(replace(without, missing=""), tmp_path / "silent")
    assert num_pixels(png, LIGHT["grid"]) > num_pixels(plain, LIGHT["grid"]) + half_a_disc(11)
    assert imread(png).shape[0] > imread(silent).shape[0]


@pytest.mark.parametrize("value", [-0.4, 0.0, 1.0, 1.3])
def test_values_outside_the_scale_have_the_colour_of_its_end(value, tmp_path):
    _, png = write_found(found(TREE, [[value] * 4, [0.5, 0.5]]), tmp_path / "tree")
    assert num_pixels(png, to_hex(SCALE(min(1.0, max(0.0, value))))) > 4 * half_a_disc(11)


def test_nothing_is_cut_off_at_the_edges(tmp_path):
    for name, law in (("tree", TREE), ("large", random_hierarchy(50, (20, 30), 3, seed=1))):
        values = [[0.5] * size for size in law.level_sizes]
        _, png = write_found(found(law, values, "the latent is constant (1)"), tmp_path / name)
        pixels = imread(png)[..., :3].min(-1)
        for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
            assert (edge == 1).all()


def test_present_nodes_are_dark_and_connected_by_dark_lines(tmp_path):
    law = TREE
    nothing = [[False] * size for size in (law.num_tokens, *law.level_sizes, 1)]
    everything = [[True] * len(row) for row in nothing]
    names = ["tokens", "level 0", "level 1", "label"]
    _, empty = write_present(rows_of(law), nothing, names, tmp_path / "empty")
    _, full = write_present(rows_of(law), everything, names, tmp_path / "full")
    dark = to_hex(SCALE(1.0))
    assert num_pixels(empty, dark) == 0
    assert num_pixels(full, dark) > 7 * half_a_disc(11)
