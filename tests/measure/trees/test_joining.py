import numpy as np
import pytest

from joma.errors import InvalidArgument
from joma.measure.trees.joining import LeafTree, neighbour_joining, robinson_foulds, tree_of_parents

BALANCED = [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]  # eight leaves, two for each inner node


def distances_of(tree: LeafTree) -> np.ndarray:
    """Sums of lengths along the tree, from its splits: an edge counts where the two leaves are on both sides of it."""
    found = np.zeros((tree.num_leaves, tree.num_leaves))
    for split, length in zip(tree.splits, tree.lengths, strict=True):
        side = np.array([split >> leaf & 1 for leaf in range(tree.num_leaves)])
        found += length * (side[:, None] != side[None])
    return found


def test_splits_of_a_small_tree_are_those_counted_by_hand():
    tree = tree_of_parents([-1, 0, 0, 1, 1, 2, 2])  # leaves 3, 4 | 5, 6, which become 0, 1 | 2, 3
    assert tree.inner_splits == {0b1100}
    assert sorted(tree.splits) == sorted([0b1110, 0b0010, 0b0100, 0b1000, 0b1100, 0b1100])


@pytest.mark.parametrize("parents", [BALANCED, [-1, 0, 0, 1, 1, 1], [-1, 0, 0, 0]])
def test_neighbour_joining_finds_the_tree_behind_exact_distances(parents):
    pytest.importorskip("skbio", reason="the extra trees")
    tree = tree_of_parents(parents)
    found = neighbour_joining(distances_of(tree))
    np.testing.assert_allclose(distances_of(found), distances_of(tree), atol=1e-12)
    positive = [split for split, length in zip(found.splits, found.lengths, strict=True) if length > 1e-12]
    assert {split for split in positive if 1 < split.bit_count() < tree.num_leaves - 1} == tree.inner_splits


def test_leaves_in_other_places_give_another_tree():
    pytest.importorskip("skbio", reason="the extra trees")
    tree = tree_of_parents(BALANCED)
    order = np.random.default_rng(0).permutation(8)
    found = neighbour_joining(distances_of(tree)[np.ix_(order, order)])
    assert robinson_foulds(neighbour_joining(distances_of(tree)), tree) == 0
    assert robinson_foulds(found, tree) > 0.5


def test_robinson_foulds_counts_splits_of_one_tree_only():
    one = tree_of_parents([-1, 0, 0, 1, 1, 2, 2])
    star = tree_of_parents([-1, 0, 0, 0, 0])
    other = tree_of_parents([-1, 0, 0, 1, 2, 2, 1])  # 3, 6 | 4, 5
    assert robinson_foulds(one, one) == robinson_foulds(star, star) == 0
    assert robinson_foulds(one, star) == robinson_foulds(one, other) == 1


@pytest.mark.parametrize("parents", [[-1, 0, 0], [-1, -1, 0, 0, 1, 1], [1, 0, 0, 0, 0], [-1, 0, 0, 0, 9]])
def test_parents_that_are_no_tree_are_refused(parents):
    with pytest.raises(InvalidArgument):
        tree_of_parents(parents)


@pytest.mark.parametrize(
    "distances",
    [np.zeros((2, 2)), np.zeros((3, 4)), np.full((3, 3), np.nan), np.ones((3, 3)), np.triu(np.ones((3, 3)), 1)],
)
def test_other_distances_are_refused(distances):
    with pytest.raises(InvalidArgument):
        neighbour_joining(distances)


def test_trees_of_different_leaves_are_not_compared():
    with pytest.raises(InvalidArgument):
        robinson_foulds(tree_of_parents([-1, 0, 0, 0]), tree_of_parents(BALANCED))
