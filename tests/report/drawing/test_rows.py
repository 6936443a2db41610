"""The layout of a hierarchy: few lines cross, parents are above their children."""

import itertools

import numpy as np
import pytest

from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import LatentTree, balanced_tree
from joma.report.drawing.rows import Rows, num_crossings, rows_of

TANGLED = LatentTree((-1, 0, 0, 2, 1, 2, 1), (0.0, *(0.5,) * 6), ((-1, -1), (1, 1)))


@pytest.mark.parametrize("tree", [balanced_tree((2, 2, 2, 2), 0.8), balanced_tree((3, 2), 0.5), TANGLED])
def test_no_lines_of_a_tree_cross_and_parents_stand_above_the_middle(tree):
    rows = rows_of(tree)
    assert num_crossings(rows) == 0
    assert [len(places) for places in rows.places] == [tree.num_tokens, *tree.level_sizes, 1]
    for below, above, pairs in zip(rows.places[:-1], rows.places[1:], rows.edges, strict=True):
        for parent in range(len(above)):
            children = below[pairs[pairs[:, 1] == parent, 0]]
            assert above[parent] == pytest.approx((children.min() + children.max()) / 2)


def test_crossings_are_counted_as_by_hand():
    pairs = np.array([[0, 1], [1, 0], [2, 2]])
    rows = Rows((np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.6, 0.8])), (pairs,))
    assert num_crossings(rows) == 1
    assert num_crossings(Rows(rows.places, (np.array([[0, 2], [1, 1], [2, 0]]),))) == 3
    assert num_crossings(Rows(rows.places, (np.array([[0, 0], [0, 1], [1, 1]]),))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_layout_of_a_random_hierarchy_has_fewer_crossings_than_most_random_orders(seed):
    law = random_hierarchy(20, (10, 20), 2, seed=seed)
    rows, noise = rows_of(law), np.random.default_rng(seed)
    shuffled = []
    for _ in range(20):
        places = []
        for row in rows.places:
            at = row.copy()
            there = np.flatnonzero(~np.isnan(row))
            at[there] = noise.permutation(row[there])
            places.append(at)
        shuffled.append(num_crossings(Rows(tuple(places), rows.edges)))
    assert num_crossings(rows) < min(shuffled) / 2


def test_a_hierarchy_that_can_be_drawn_without_crossings_is_for_any_numbering():
    for order in itertools.permutations(range(3)):
        level = tuple(((2 * order[n], 2 * order[n] + 1),) for n in range(3))
        assert num_crossings(rows_of(Combinatorial((level, (((0,),), ((1,),), ((2,),))), 6))) == 0


def test_tokens_in_no_latent_have_no_position_and_are_counted():
    rows = rows_of(Combinatorial(((((1, 3),),), (((0,),),)), 5))
    assert np.isnan(rows.places[0]).tolist() == [True, False, True, False, True]
    assert rows.num_hidden == 3
