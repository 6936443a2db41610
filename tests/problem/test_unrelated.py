"""Labels that are independent of sequences and latents; these equal those of the wrapped law."""

import pytest
import torch

from joma.errors import BadInput
from joma.problem.combinatorial import random_hierarchy
from joma.problem.tree import balanced_tree
from joma.problem.unrelated import UnrelatedLabels

TREE = balanced_tree((2, 2), 1.0)  # the first token determines the label


def _generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("law", [TREE, random_hierarchy(5, show_probability=0.8)], ids=lambda law: type(law).__name__)
def test_sequences_and_latents_equal_those_of_the_wrapped_law(law):
    plain, apart = law.sample(200, _generator()), UnrelatedLabels(law).sample(200, _generator())
    assert torch.equal(apart.tokens, plain.tokens)
    assert all(torch.equal(one, two) for one, two in zip(apart.presence, plain.presence, strict=True))
    assert not torch.equal(apart.labels, plain.labels)


def test_labels_are_independent_of_the_tokens_and_keep_their_frequencies(tolerance):
    tree = balanced_tree((2, 2), 1.0)
    tree = type(tree)(tree.parents, tree.polarities, tree.label_signs, (0.2, 0.8))
    samples = UnrelatedLabels(tree).sample(20_000, _generator())
    there = samples.presence[0][:, 0]
    within = tolerance("hierarchy.unrelated")
    for part in (samples.labels, samples.labels[there], samples.labels[~there]):
        assert float(part.double().mean()) == pytest.approx(0.8, abs=within)


def test_given_labels_are_returned():
    labels = torch.tensor([1, 0, 1])
    samples = UnrelatedLabels(TREE).sample(3, _generator(), labels)
    assert torch.equal(samples.labels, labels)


def test_unrelated_labels_of_unrelated_labels_are_refused():
    with pytest.raises(BadInput, match="`law` is UnrelatedLabels"):
        UnrelatedLabels(UnrelatedLabels(TREE))
