import math
from pathlib import Path

import pytest

from joma.expressive.counts import count_small, grid_row, main, small_hierarchies
from joma.expressive.separable import accidents, separating_unit, table_of


def test_every_small_hierarchy_is_generated_once():
    """Three edges on four points are, up to renaming, a triangle, a star or a path."""
    assert len(list(small_hierarchies((4, 3)))) == 3
    assert len(list(small_hierarchies((4, 3, 2)))) == 3 * math.comb(3, 2)
    assert len(list(small_hierarchies((5, 5, 4, 3), 1))) == math.comb(10, 4) * math.comb(6, 3)


def test_counts_equal_those_of_one_linear_program_per_latent():
    """The reference has no shortcut and no cache: one linear program for every latent of every hierarchy."""
    wanted, with_accidents = 0, 0
    for members in small_hierarchies((5, 5, 8)):
        seen = table_of(members, 5)
        if len({tuple(row) for row in seen.tokens}) < 8:
            continue
        wanted += any(separating_unit(seen.tokens, present) is None for present in seen.presence[0].T)
        with_accidents += bool(accidents(members[0], seen.tokens, seen.presence[0]).any())
    counted = count_small((5, 5, 8))
    assert wanted > 0
    assert (counted.front_layer, counted.accidents) == (wanted, with_accidents)


def test_hierarchies_of_two_classes_need_one_layer_fewer():
    """Two different inputs are affinely independent, so that any function of them is affine."""
    counted = count_small((5, 4, 3, 2))
    assert counted.accidents > 0
    assert counted.one_fewer == counted.hierarchies - counted.ambiguous


def test_a_single_level_has_no_count_of_one_layer_fewer():
    assert count_small((5, 4, 4)).one_fewer is None


def test_grid_row_counts_ambiguous_seeds_and_needed_units():
    """Some of 50 classes over ten latents have the same tokens, and their inputs are not affinely independent."""
    row = grid_row(50, 2, (10, 20), seeds=range(2))
    assert row.ambiguous == 2
    assert row.one_fewer == 0
    assert row.hidden >= 20  # the latents of level 1 at least


@pytest.mark.slow
def test_command_prints_the_tables_of_the_documentation(capsys):
    main()
    page = (Path(__file__).parents[2] / "docs" / "expressiveness.md").read_text()
    for printed in capsys.readouterr().out.split("\n\n"):
        assert printed.strip() in page
