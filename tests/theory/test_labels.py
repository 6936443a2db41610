"""Ceilings of accuracy and loss, and label posteriors, against sums over all states of small trees."""

import itertools
import math

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.tree import LatentTree, balanced_tree
from joma.problem.unrelated import UnrelatedLabels
from joma.theory.labels import ceiling_of, label_posterior


def joint(tree: LatentTree) -> np.ndarray:
    """(token sets, labels) by the definition: one factor for each edge, summed over all latents."""
    num = len(tree.parents)
    found = np.zeros((2**tree.num_tokens, tree.num_labels))
    prior = tree.label_probabilities or (1 / tree.num_labels,) * tree.num_labels
    for label, signs in itertools.product(range(tree.num_labels), itertools.product((-1, 1), repeat=num - 1)):
        probability, state = prior[label], (0, *signs)
        for node in range(1, num):
            parent = tree.parents[node]
            above = state[parent] if parent else tree.label_signs[label][tree.levels[1].index(node)]
            probability *= (1 + tree.polarities[node] * above * state[node]) / 2
        row = int("".join("1" if state[leaf] > 0 else "0" for leaf in tree.leaves), 2)
        found[row, label] += probability
    return found


UNEVEN = LatentTree((-1, 0, 0, 1, 1, 1, 2), (0, 0.3, -0.9, 0.5, -0.2, 1.0, 0.8), ((-1, 1), (1, 1)), (0.3, 0.7))


@pytest.mark.parametrize(
    "tree", [balanced_tree((2, 2), (0.7, -0.5), num_labels=3, seed=1, jitter=0.2), balanced_tree((3,), 0.4), UNEVEN]
)
def test_the_posterior_is_the_sum_over_all_states(tree, tolerance):
    expected = joint(tree)
    rows = torch.tensor(list(itertools.product([False, True], repeat=tree.num_tokens)))
    found = label_posterior(tree, rows).numpy()
    assert np.abs(found - expected / expected.sum(1, keepdims=True)).max() < tolerance("simulation.sums")


def test_a_deterministic_tree_determines_its_label_and_refuses_impossible_tokens():
    tree = balanced_tree((2, 2), 1.0)
    everything, nothing = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    assert label_posterior(tree, torch.cat([everything, nothing])).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InvalidArgument, match="impossible under every label"):
        label_posterior(tree, torch.tensor([[True, False, True, True]]))


@pytest.mark.parametrize(
    "present",
    [
        torch.ones(2, 3, dtype=torch.bool),
        torch.ones(2, 4),
        torch.ones(4, dtype=torch.bool),
        torch.ones(1, 2, 4, dtype=torch.bool),
    ],
)
def test_anything_but_the_presence_of_all_tokens_is_refused(present):
    with pytest.raises(InvalidArgument, match="present"):
        label_posterior(balanced_tree((2, 2), 0.5), present)


def test_ceilings_equal_the_accuracy_and_loss_of_the_best_prediction():
    certain = ceiling_of(balanced_tree((2, 2), 1.0))
    assert certain is not None
    assert (certain.accuracy, certain.loss_nats) == (1.0, 0.0)
    chance = ceiling_of(balanced_tree((2, 2), 0.0))
    assert chance is not None
    assert (chance.accuracy, chance.loss_nats) == pytest.approx((0.5, math.log(2)))


def test_the_ceiling_of_many_equal_tokens_is_a_sum_over_their_number(tolerance):
    num, right = 101, 0.65
    shares = [math.comb(num, k) * right**k * (1 - right) ** (num - k) for k in range(num + 1)]
    found = ceiling_of(balanced_tree((num,), 2 * right - 1))
    assert found is not None
    assert found.exact
    assert found.accuracy == pytest.approx(sum(shares[num // 2 + 1 :]), abs=tolerance("belief.evidence"))


def test_the_ceiling_of_a_tree_with_much_evidence_is_a_mean_that_says_so():
    tree = balanced_tree((2, 10), 0.5, jitter=0.1)
    found = ceiling_of(tree)
    assert found is not None
    assert not found.exact
    assert found.num_samples == 20_000
    assert 0 < found.standard_error < 0.01
    assert 0 < found.loss_standard_error < 0.01


def test_the_exact_ceiling_is_within_the_errors_of_sample_means():
    tree = balanced_tree((2, 2, 3), 0.7, num_labels=3, jitter=0.1)
    exact = ceiling_of(tree)
    means = [ceiling_of(tree, tree.sample(5000, torch.Generator().manual_seed(seed))) for seed in range(5)]
    for value, error in (("accuracy", "standard_error"), ("loss_nats", "loss_standard_error")):
        for mean in means:
            assert abs(getattr(mean, value) - getattr(exact, value)) < 4 * getattr(mean, error)


def test_a_ceiling_counts_classes_with_the_same_input_once():
    shared = Combinatorial(((((0, 1),), ((1, 2),), ((0, 2),)), (((0, 1),), ((1, 2),), ((0,),))), 3, 3)
    found = ceiling_of(shared)  # the first two classes both show all three tokens
    assert found is not None
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss_nats == pytest.approx(2 / 3 * math.log(2))
    nothing = ceiling_of(UnrelatedLabels(shared))
    assert nothing is not None
    assert (nothing.accuracy, nothing.loss_nats) == pytest.approx((1 / 3, math.log(3)))


def test_the_ceiling_of_given_samples_is_the_mean_of_their_posteriors():
    samples = UNEVEN.sample(50, torch.Generator().manual_seed(1))
    found = ceiling_of(UNEVEN, samples)
    table = joint(UNEVEN)
    posterior = table / table.sum(1, keepdims=True)
    rows = [int("".join(str(int(n in row)) for n in range(UNEVEN.num_tokens)), 2) for row in samples.tokens.tolist()]
    assert found.accuracy == pytest.approx(posterior[rows].max(1).mean())
    assert found.num_samples == 50
