"""Learning curves on Random Hierarchy Models: inputs, crossings, and what a network sees."""

import numpy as np
import pytest
import torch

from joma.claims.rhm.learning import Case, Crossing, Sizes, crossing, different_inputs, learned
from joma.errors import RunFailed
from joma.problem.random_hierarchy import RandomHierarchy
from joma.train.tree_networks import Schedule

SMALL = RandomHierarchy(4, 4, 2, depth=2)  # 4 · 2³ = 32 inputs
SIZES = Sizes((0.5, 4.0), 64, 32, Schedule(250, learning_rate=1e-2))


def test_inputs_differ_and_have_the_labels_of_the_law():
    tokens, labels = different_inputs(SMALL, 20, seed=0)
    assert len(tokens.unique(dim=0)) == len(tokens) == len(labels) == 20
    tuples = tokens.unflatten(-1, (2, 2))
    above = (SMALL.rules[0][None, None] == tuples[:, :, None, None]).all(-1).any(-1).int().argmax(-1)
    parents = (SMALL.rules[1][None] == above[:, None, None]).all(-1).any(-1).int().argmax(-1)
    assert torch.equal(parents, labels)


def test_every_input_is_equally_likely_to_be_drawn(tolerance):
    counts = torch.zeros(32)
    order = {tuple(row): place for place, row in enumerate(different_inputs(SMALL, 30, seed=0)[0].tolist())}
    for seed in range(300):
        for row in different_inputs(SMALL, 5, seed)[0].tolist():
            counts[order.get(tuple(row), 31)] += 1
    shares = counts[:30] / 300
    assert float((shares - 5 / 32).abs().max()) < tolerance("rhm.inputs")


def test_more_inputs_than_the_law_has_are_refused():
    with pytest.raises(RunFailed, match="33 different inputs"):
        different_inputs(SMALL, 33, seed=0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 0.6, 0.4, 0.1], Crossing(2 * 2**0.5)),
        ([1.0, 0.5, 0.4, 0.1], Crossing(2.0)),
        ([1.0, 0.9, 0.8, 0.7], Crossing(8.0, "lower")),
        ([0.4, 0.3, 0.2, 0.1], Crossing(1.0, "upper")),
    ],
)
def test_crossing_is_interpolated_in_the_logarithm_and_bounded_by_the_numbers_tried(values, expected):
    found = crossing((1, 2, 4, 8), np.array(values), 0.5)
    assert found.number == pytest.approx(expected.number)
    assert found.bound == expected.bound


def test_many_samples_are_learned_and_few_are_not():
    found = learned(Case(2, 3), [0, 1], SIZES)
    assert found.numbers == (32, 256)
    assert found.errors.shape == (2, 2)
    assert found.errors[:, 0].min() > 0.3
    assert found.errors[:, 1].max() < 0.1


def test_scales_are_those_of_the_theory():
    case = Case(4, 3)
    assert case.scale == 8 * 4**3
    assert case.scale_of_shallow == 8 * 4**7
    assert case.guessing == 7 / 8


@pytest.mark.parametrize("kind", ["tree", "convolutional", "permuted", "decoder"])
def test_every_kind_of_network_learns_from_the_same_inputs(kind):
    sizes = Sizes((0.5, 1.0), 16, 8, Schedule(3))
    found = learned(Case(2, 3), [0], sizes, kind=kind)
    assert found.errors.shape == (1, 2)
    assert found.networks(torch.zeros(2, 5, 8, dtype=torch.long)).shape == (2, 5, 8)
