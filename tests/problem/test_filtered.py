"""Laws with correlations cut above a level keep everything below it, and nothing above it but the label."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.combinatorial import random_hierarchy
from joma.problem.filtered import filtered
from joma.problem.laws import hierarchy_of
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, balanced_tree
from joma.problem.unrelated import UnrelatedLabels
from joma.theory.correlations import token_correlations
from joma.theory.hierarchy import token_marginals

TREE = balanced_tree((2, 2, 2), (0.9, -0.8, 0.7), num_labels=3, jitter=0.1)
MODEL = RandomHierarchy(3, 4, 3, branching=2, depth=3)


@pytest.mark.parametrize("law", [TREE, MODEL], ids=["tree", "model"])
@pytest.mark.parametrize("level", [-1, 0, 1])
@pytest.mark.parametrize("label", [0, 2])
def test_given_the_label_pairs_within_a_sub_tree_are_kept_and_others_independent(law, level, label, tolerance):
    whole, cut = (token_correlations(one, label) for one in (law, filtered(law, level)))
    sub_tree = torch.arange(8) // 2 ** (level + 1)
    together = sub_tree[:, None] == sub_tree
    within = tolerance("belief.sums")
    assert float((whole - cut)[together].abs().max()) < within
    assert float(cut[~together].abs().max()) < within
    if law is MODEL or level < 1:  # of a tree, the top latents are independent already
        assert float(whole[~together].abs().max()) > 0.005


@pytest.mark.parametrize("level", [-1, 0, 1])
def test_single_tokens_keep_their_distribution_given_the_label(level, tolerance):
    within = tolerance("belief.sums")
    assert torch.allclose(token_marginals(filtered(TREE, level)), token_marginals(TREE), atol=within, rtol=0)
    cut = filtered(MODEL, level)
    for kept in range(-1, level + 1):
        assert torch.equal(cut.label_marginals(kept), MODEL.label_marginals(kept))


def test_levels_above_are_not_part_of_the_law():
    assert filtered(TREE, 0).level_sizes == (4,)
    assert filtered(MODEL, 0).num_places == (4,)
    assert filtered(MODEL, -1).level_sizes == filtered(TREE, -1).level_sizes == ()
    assert filtered(TREE, 1) == TREE


def test_a_filtered_law_can_be_filtered_further_down_only():
    assert filtered(filtered(MODEL, 1), 0) == filtered(MODEL, 0)
    for law in (MODEL, TREE):
        for level in (-1, 0):
            assert filtered(filtered(law, level), level) == filtered(law, level)
            with pytest.raises(InvalidArgument, match=rf"`level` is {level + 1}.*at least -1 and at most {level};"):
                filtered(filtered(law, level), level + 1)


def test_the_tokens_of_an_uneven_tree_stay_in_their_order(tolerance):
    tree = LatentTree((-1, 0, 0, 2, 1, 2, 1), (0.0, 0.9, 0.5, 0.8, -0.7, 0.6, 0.1), ((-1, -1), (1, -1)), (0.3, 0.7))
    for level in (-1, 0):
        found = token_marginals(filtered(tree, level))
        assert torch.allclose(found, token_marginals(tree), atol=tolerance("belief.sums"), rtol=0)


@pytest.mark.parametrize("law", [random_hierarchy(5), UnrelatedLabels(TREE), "tree"])
def test_laws_without_sub_trees_are_refused(law):
    with pytest.raises(InvalidArgument, match="a LatentTree or a RandomHierarchy"):
        filtered(law, 0)


@pytest.mark.parametrize("level", [2, -2, 0.0])
@pytest.mark.parametrize("law", [TREE, MODEL], ids=["tree", "model"])
def test_levels_that_do_not_exist_are_refused(law, level):
    with pytest.raises(InvalidArgument, match="`level`"):
        filtered(law, level)


def test_the_hierarchy_of_unrelated_filtered_labels_is_the_filtered_law():
    assert hierarchy_of(UnrelatedLabels(filtered(MODEL, 0))).num_places == (4,)
