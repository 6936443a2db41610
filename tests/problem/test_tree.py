"""Latent trees: samples have the exact distribution and the documented shape and order; bad trees are refused."""

import math

import pytest
import torch

from joma.domains import POLARITY
from joma.errors import InvalidArgument
from joma.problem.tree import LatentTree, balanced_tree, digest
from joma.theory.hierarchy import cooccurrence, label_marginals, token_cooccurrence, tree_pair_marginals

UNEVEN = LatentTree(
    (-1, 0, 0, 1, 2, 1, 3, 4, 4, 5),
    (0.0, 0.9, -0.4, 0.3, 0.7, -0.8, 0.6, 0.2, 1.0, 0.5),
    ((-1, -1), (1, 1), (-1, 1)),
    (0.2, 0.5, 0.3),
)
NUM = 200_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def nodes_of(tree, samples):
    """Presence of every node below the label, (B, n − 1), from a sample."""
    there = torch.zeros(len(samples.labels), tree.vocabulary_size, dtype=torch.bool).scatter_(1, samples.tokens, True)
    columns = torch.zeros(len(samples.labels), len(tree.parents), dtype=torch.bool)
    for level, present in zip(tree.levels[1:], [*reversed(samples.presence), there[:, :-1]], strict=True):
        columns[:, list(level)] = present
    return columns[:, 1:]


@pytest.mark.parametrize("tree", [UNEVEN, balanced_tree((2, 3, 2), (0.9, 0.6, -0.7), num_labels=3, jitter=0.1)])
@pytest.mark.parametrize("label", [0, 2, None])
def test_samples_have_the_exact_pair_marginals(tree, label, tolerance):
    labels = None if label is None else torch.full((NUM,), label)
    nodes = nodes_of(tree, tree.sample(NUM, generator(), labels)).double()
    both = nodes.T @ nodes / NUM
    exact = tree_pair_marginals(tree, label)[..., 1, 1]
    assert float((both - exact).abs().max()) < tolerance("hierarchy.sampled")


def test_samples_closed_form_and_sum_product_agree(tolerance):
    tree = balanced_tree((1, 2, 2, 2), (0.6, 0.8, 0.8, 0.8))
    tokens = nodes_of(tree, tree.sample(NUM, generator(), torch.zeros(NUM, dtype=torch.int64)))[:, -8:].double()
    sampled = (tokens.T @ tokens)[:, 0] / tokens[:, 0].sum()
    for token, height in [(0, 0), (1, 1), (2, 2), (7, 3)]:
        closed = float(cooccurrence(0.8, 0.6, 4, height, label_sign=-1))
        assert float(token_cooccurrence(tree, 0)[token, 0]) == pytest.approx(closed, abs=tolerance("closed_form.sums"))
        assert float(sampled[token]) == pytest.approx(closed, abs=tolerance("hierarchy.sampled"))


def test_labels_follow_their_probabilities_and_the_tokens(tolerance):
    samples = UNEVEN.sample(NUM, generator())
    shares = torch.bincount(samples.labels, minlength=3) / NUM
    assert shares.tolist() == pytest.approx(UNEVEN.label_probabilities, abs=tolerance("hierarchy.sampled"))
    for token, exact in enumerate(label_marginals(UNEVEN).T):
        with_token = samples.labels[(samples.tokens == token).any(1)]
        found = torch.bincount(with_token, minlength=3) / len(with_token)
        assert found.tolist() == pytest.approx(exact.tolist(), abs=tolerance("hierarchy.sampled"))


def test_labels_without_probabilities_are_equally_likely(tolerance):
    labels = balanced_tree((3,), 0.5, num_labels=5).sample(NUM, generator()).labels
    assert (torch.bincount(labels, minlength=5) / NUM).tolist() == pytest.approx(
        [0.2] * 5, abs=tolerance("hierarchy.sampled")
    )


def test_rare_flips_are_neither_lost_nor_doubled():
    rare = 1e-5  # below 1/65536, the resolution of the draws
    tree = balanced_tree((100,), 1 - 2 * rare)
    draws = generator()
    present = sum(
        int((tree.sample(1000, draws, torch.zeros(1000, dtype=torch.int64)).tokens < 100).sum()) for _ in range(100)
    )
    mean = 1e7 * rare
    assert abs(present - mean) < 5 * math.sqrt(mean)


def test_polarities_of_size_one_make_samples_deterministic():
    samples = balanced_tree((3, 2), 1.0).sample(50, generator())
    assert torch.equal(samples.presence[0], (samples.labels == 1)[:, None].expand(50, 3))
    assert torch.equal(samples.tokens, torch.where(samples.labels[:, None] == 1, torch.arange(6), 6))
    inverted = balanced_tree((3, 2), (1.0, -1.0)).sample(50, generator())
    assert torch.equal(inverted.tokens, torch.where(inverted.labels[:, None] == 0, torch.arange(6), 6))


def test_properties_of_a_tree():
    assert UNEVEN.levels == ((0,), (1, 2), (3, 4, 5), (6, 7, 8, 9))
    assert (UNEVEN.num_tokens, UNEVEN.num_labels, UNEVEN.length, UNEVEN.level_sizes) == (4, 3, 4, (3, 2))
    assert (UNEVEN.padding, UNEVEN.vocabulary_size) == (4, 5)


def test_samples_have_the_documented_shapes():
    samples = UNEVEN.sample(7, generator())
    assert (samples.tokens.shape, samples.tokens.dtype) == ((7, 4), torch.int64)
    assert (samples.labels.shape, samples.labels.dtype) == ((7,), torch.int64)
    assert [(level.shape, level.dtype) for level in samples.presence] == [((7, 3), torch.bool), ((7, 2), torch.bool)]
    assert all(part.is_contiguous() for part in (samples.tokens, samples.labels, *samples.presence))


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_same_seed_gives_the_same_samples_and_another_seed_different_ones(shuffled):
    first, again = (UNEVEN.sample(100, generator(3), shuffled=shuffled) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.labels, again.labels)
    assert all(torch.equal(*pair) for pair in zip(first.presence, again.presence, strict=True))
    assert not torch.equal(first.tokens, UNEVEN.sample(100, generator(4), shuffled=shuffled).tokens)


def test_shuffling_changes_only_the_order_of_tokens():
    tree = balanced_tree((4, 4), 0.3)
    plain, shuffled = tree.sample(500, generator()), tree.sample(500, generator(), shuffled=True)
    assert torch.equal(plain.tokens == tree.padding, shuffled.tokens == tree.padding)
    order = torch.where(shuffled.tokens == tree.padding, -1, shuffled.tokens).sort(1).values
    assert torch.equal(order, torch.where(plain.tokens == tree.padding, -1, plain.tokens))
    last = torch.bincount(shuffled.tokens[:, -1], minlength=17)
    assert (last[:16] > 0).all()  # any token may come last; in increasing order it would be the highest


def test_jitter_and_many_labels():
    tree = balanced_tree((2, 2), 0.5, num_labels=4, jitter=0.25, seed=1)
    assert sorted(tree.label_signs) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    assert len(set(tree.polarities[1:])) == 6
    assert all(0.25 <= polarity <= 0.75 for polarity in tree.polarities[1:])
    assert tree == balanced_tree((2, 2), 0.5, num_labels=4, jitter=0.25, seed=1)
    assert tree != balanced_tree((2, 2), 0.5, num_labels=4, jitter=0.25, seed=2)
    assert len(set(balanced_tree((9,), 0.5, num_labels=100).label_signs)) == 100


def test_digests_are_equal_only_for_equal_trees():
    same = LatentTree(list(UNEVEN.parents), list(UNEVEN.polarities), UNEVEN.label_signs, UNEVEN.label_probabilities)
    assert digest(same) == digest(UNEVEN)
    assert digest(balanced_tree((2, 2), 0.5)) != digest(balanced_tree((2, 2), 0.5000001))


@pytest.mark.parametrize("bad", POLARITY.bad_values)
def test_refuses_polarities_outside_their_domain(bad):
    with pytest.raises(InvalidArgument, match="`polarities`"):
        LatentTree((-1, 0), (0.0, bad), ((1,),))
    with pytest.raises(InvalidArgument, match="`polarities`"):
        balanced_tree((2, 2), (0.5, bad))


SIGNS = ((-1,), (1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (), SIGNS), "is 0; expected a whole number of at least 2"),
        (((-1,), (0.0,), SIGNS), "is 1; expected a whole number of at least 2"),
        (((0, 0), (0.0, 0.5), SIGNS), "−1 for node 0"),
        (((-1, 2, 1), (0.0, 0.5, 0.5), SIGNS), "an earlier node"),
        (((-1, 0.0), (0.0, 0.5), SIGNS), "an earlier node"),
        (((-1, 0), (0.5, 0.5), SIGNS), "put a 0 in front"),
        (((-1, 0), (0.5,), SIGNS), "put a 0 in front"),
        (((-1, 0, 0, 1), (0.0, 0.5, 0.5, 0.5), ((-1, 1),)), "leaf 2 has depth 1 and others 2"),
        (((-1, 0), (0.0, 0.5), ((-1,), (1,), (1,))), "at most 2 labels"),
        (((-1, 0, 0), (0.0, 0.5, 0.5), ((-1, 1), (-1, 1))), "all rows different"),
        (((-1, 0), (0.0, 0.5), ((0,),)), "signs, −1 or 1"),
        (((-1, 0), (0.0, 0.5), ((1, 1),)), "signs, −1 or 1"),
        (((-1, 0), (0.0, 0.5), ()), "at least one row"),
        (((-1, 0), (0.0, 0.5), SIGNS, (1.0, 0.0)), "0 for label 1, which would never be sampled"),
        (((-1, 0), (0.0, 0.5), SIGNS, (0.5, 0.6)), "of sum 1.1"),
        (((-1, 0), (0.0, 0.5), SIGNS, (1.0,)), "of length 1"),
        (((-1, 0), (0.0, 0.5), SIGNS, (math.nan, 1.0)), "`label_probabilities` is nan"),
    ],
)
def test_an_invalid_tree_is_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        LatentTree(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 0.5), "at least one level"),
        (((2, 0), 0.5), "`branching` is 0"),
        (((2, 2.0), 0.5), "`branching` is 2.0"),
        (((2, 2), (0.5,)), "of length 1"),
        (((1, 2), 0.5, 3), "at most 2 labels"),
        (((2, 2), 0.5, 0), "`num_labels` is 0"),
        (((2, 2), 0.9, 2, 0, 0.2), "at most 0.1"),
        (((2, 2), 0.5, 2, 0, -0.1), "`jitter`"),
    ],
)
def test_invalid_arguments_of_balanced_tree_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        balanced_tree(*arguments)


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 2]), torch.tensor([0]), torch.tensor([0.0, 1.0]), torch.tensor([-1, 0])]
)
def test_refuses_labels_that_do_not_fit(labels):
    with pytest.raises(InvalidArgument, match="`labels`"):
        balanced_tree((2, 2), 0.5).sample(2, generator(), labels)


@pytest.mark.parametrize("num", [0, -1, 1.0, True])
def test_an_invalid_number_of_samples_is_refused(num):
    with pytest.raises(InvalidArgument, match="`num`"):
        balanced_tree((2, 2), 0.5).sample(num, generator())


def test_a_tree_of_more_levels_than_can_be_drawn_from_is_refused():
    with pytest.raises(InvalidArgument, match="`number of levels of branching` is 70000"):
        balanced_tree([1] * 70_000, 0.5)
