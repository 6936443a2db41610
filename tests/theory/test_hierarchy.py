"""Theorem 5 and pair marginals, against sums over all states of small trees."""

import itertools

import numpy as np
import pytest
import torch

from joma.domains import POLARITY
from joma.errors import InvalidArgument
from joma.problem.tree import LatentTree, balanced_tree
from joma.theory.hierarchy import (
    cooccurrence,
    label_marginals,
    pair_marginals,
    token_cooccurrence,
    token_marginals,
    tree_pair_marginals,
)


def all_states(parents, polarities, label_sign):
    """Every state of the tree with its probability."""
    for below in itertools.product((-1, 1), repeat=len(parents) - 1):
        state = (label_sign, *below)
        yield (
            state,
            np.prod(
                [
                    (1 + r * state[n] * state[p]) / 2
                    for n, (p, r) in enumerate(zip(parents, polarities, strict=True))
                    if n
                ]
            ),
        )


def binary_tree(depth):
    """Parents of a tree whose label has one child, and every other inner node two."""
    parents, level = [-1, 0], [1]
    for _ in range(depth - 1):
        level = [parents.append(node) or len(parents) - 1 for node in level for _ in range(2)]
    return parents, level


@pytest.mark.parametrize("label_sign", [-1, 1])
def test_pair_marginals_agree_with_the_sum_over_all_states(label_sign, tolerance):
    parents = [-1, 0, 0, 1, 1, 2, 3, 3]
    polarities = np.concatenate([[0.0], np.random.default_rng(0).uniform(-1, 1, len(parents) - 1)])
    joint = np.zeros((len(parents), len(parents), 2, 2))
    for state, probability in all_states(parents, polarities, label_sign):
        which = (np.array(state) + 1) // 2
        for a, b in itertools.product(range(len(parents)), repeat=2):
            joint[a, b, which[a], which[b]] += probability
    np.testing.assert_allclose(
        pair_marginals(parents, polarities, label_sign), joint, atol=tolerance("closed_form.sums")
    )


@pytest.mark.parametrize("label_sign", [-1, 1])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_cooccurrence_equals_sum_product_on_the_whole_tree(depth, label_sign, tolerance):
    rho, rho0 = 0.7, 0.6
    parents, leaves = binary_tree(depth)
    joint = pair_marginals(parents, [0.0, rho0] + [rho] * (len(parents) - 2), label_sign)
    for height in range(depth):
        other = leaves[2**height - 1]  # the first leaf whose common ancestor with leaf 0 has that height
        conditional = joint[other, leaves[0], 1, 1] / joint[other, leaves[0], :, 1].sum()
        expected = cooccurrence(rho, rho0, depth, height, label_sign)
        assert float(conditional) == pytest.approx(float(expected), abs=tolerance("closed_form.sums"))


def test_cooccurrence_of_tokens_with_only_the_label_in_common(tolerance):
    joint = pair_marginals([-1, 0, 0, 1, 2], [0.0, 0.6, 0.6, 0.7, 0.7])
    conditional = joint[3, 4, 1, 1] / joint[3, 4, :, 1].sum()
    assert float(cooccurrence(0.7, 0.6, 2, 2)) == pytest.approx(float(conditional), abs=tolerance("closed_form.sums"))


def test_tokens_with_a_lower_common_ancestor_co_occur_more_often():
    chances = torch.stack([cooccurrence(0.8, 0.5, 5, height) for height in range(6)])
    assert (chances.diff() < 0).all()
    assert chances[0] == 1.0


def test_gradients_agree_with_finite_differences():
    rho, rho0 = torch.tensor([0.3, -0.5]).double().requires_grad_(), torch.tensor(0.4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rho, rho0: cooccurrence(rho, rho0, 4, 2), (rho, rho0))
    edges = torch.tensor([0.0, 0.3, -0.5, 0.8]).double()
    assert torch.autograd.gradcheck(
        lambda inner: pair_marginals([-1, 0, 1, 1], torch.cat([edges[:1], inner])),
        (edges[1:].clone().requires_grad_(),),
    )


@pytest.mark.parametrize("name", ["rho", "rho0"])
def test_refuses_polarities_outside_their_domain(name):
    for bad in POLARITY.bad_values:
        with pytest.raises(InvalidArgument, match=f"`{name}`"):
            cooccurrence(**{"rho": 0.5, "rho0": 0.5, "depth": 3, "ancestor_height": 1} | {name: bad})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 0.5, 0, 0), "`depth`"),
        ((0.5, 0.5, 3, 4), "at most 3"),
        ((0.5, 0.5, 3, 1.0), "whole number"),
        ((0.5, 0.5, 3, 1, 0), "label_sign"),
        ((1.0, 1.0, 3, 1), "has a positive probability"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        cooccurrence(*arguments)


@pytest.mark.parametrize(
    ("parents", "polarities", "message"),
    [([-1, 2, 1], [0.0, 0.1, 0.1], "parents"), ([-1, 0], [0.0], "polarities"), ([0, 0], [0.0, 0.1], "parents"),
     ([-1, 0], [0.3, 0.1], "polarities"), ([], [], "polarities")],
)  # fmt: skip
def test_an_invalid_tree_is_refused(parents, polarities, message):
    with pytest.raises(InvalidArgument, match=f"`{message}`"):
        pair_marginals(parents, polarities)


def every_node_state(tree, label):
    """Every state of the nodes below the label with its probability, from the definition of the tree."""
    signs = dict(zip(tree.levels[1], tree.label_signs[label], strict=True))
    for below in itertools.product((-1, 1), repeat=len(tree.parents) - 1):
        state = (None, *below)
        chance = 1.0
        for node in range(1, len(tree.parents)):
            above = signs[node] if tree.parents[node] == 0 else state[tree.parents[node]]
            keep = (1 + tree.polarities[node]) / 2
            chance *= keep if state[node] == above else 1 - keep
        yield np.array(below), chance


UNEVEN = LatentTree(
    (-1, 0, 0, 1, 2, 1, 3, 4, 4, 5),
    (0.0, 0.9, -0.4, 0.3, 0.7, -0.8, 0.6, 0.2, 1.0, 0.5),
    ((-1, -1), (1, 1), (-1, 1)),
    (0.2, 0.5, 0.3),
)


@pytest.mark.parametrize("label", [0, 1, 2, None])
def test_sum_product_equals_the_sum_over_all_states(label, tolerance):
    joint = np.zeros((9, 9, 2, 2))
    for value, weight in [(label, 1.0)] if label is not None else enumerate(UNEVEN.label_probabilities):
        for state, chance in every_node_state(UNEVEN, value):
            which = (state + 1) // 2
            for a, b in itertools.product(range(9), repeat=2):
                joint[a, b, which[a], which[b]] += weight * chance
    found = tree_pair_marginals(UNEVEN, label)
    np.testing.assert_allclose(found, joint, atol=tolerance("closed_form.sums"))
    leaves = np.array(UNEVEN.leaves) - 1
    both = joint[leaves[:, None], leaves, 1, 1]
    conditional = both / both.diagonal()
    np.testing.assert_allclose(token_cooccurrence(UNEVEN, label), conditional, atol=tolerance("closed_form.sums"))


def test_label_marginals_equal_the_sum_over_all_states(tolerance):
    joint = np.zeros((3, 4))
    for label, weight in enumerate(UNEVEN.label_probabilities):
        for state, chance in every_node_state(UNEVEN, label):
            joint[label] += weight * chance * (state[np.array(UNEVEN.leaves) - 1] > 0)
    given_label = joint / np.array(UNEVEN.label_probabilities)[:, None]
    np.testing.assert_allclose(token_marginals(UNEVEN), given_label, atol=tolerance("closed_form.sums"))
    np.testing.assert_allclose(label_marginals(UNEVEN), joint / joint.sum(0), atol=tolerance("closed_form.sums"))


@pytest.mark.parametrize("label", [0, 1])
def test_sum_product_on_a_balanced_tree_equals_the_closed_form(label, tolerance):
    depth = 4
    tree = balanced_tree((2, 2, 2, 2), (0.6, 0.7, 0.7, 0.7))
    found = token_cooccurrence(tree, label)
    for m, l in itertools.product(range(tree.num_tokens), repeat=2):  # noqa: E741
        height = max(0, (l ^ m).bit_length())  # tokens in node order: the first bit that differs
        if height == depth:
            continue  # only the label in common, with two top latents
        expected = cooccurrence(0.7, 0.6, depth, height, -1 if label == 0 else 1)
        assert float(found[l, m]) == pytest.approx(float(expected), abs=tolerance("closed_form.sums"))


def test_only_the_label_in_common_of_a_balanced_tree(tolerance):
    found = token_cooccurrence(balanced_tree((2, 2, 2), (0.6, 0.7, 0.7)), 0)
    expected = cooccurrence(0.7, 0.6, 3, 3)
    assert float(found[0, -1]) == pytest.approx(float(expected), abs=tolerance("closed_form.sums"))


def test_tokens_that_are_never_present_are_refused():
    certain = balanced_tree((2, 2), 1.0)
    with pytest.raises(InvalidArgument, match="token 0 is never present"):
        token_cooccurrence(certain, 0)
    assert token_cooccurrence(certain).min() == 1.0
    with pytest.raises(InvalidArgument, match="token 0 is never present"):
        label_marginals(LatentTree((-1, 0), (0.0, 1.0), ((-1,),)))


@pytest.mark.parametrize("label", [-1, 2, 0.0, True])
def test_refuses_labels_that_do_not_exist(label):
    with pytest.raises(InvalidArgument, match="`label`"):
        tree_pair_marginals(balanced_tree((2, 2), 0.5), label)
