"""Properties of all hierarchies and laws."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.problem.combinatorial import random_hierarchy
from joma.problem.laws import law_from_json
from joma.problem.tree import LatentTree
from joma.theory.hierarchy import label_marginals, tree_pair_marginals
from tolerances import TOLERANCES

EXACT = TOLERANCES["closed_form.sums"].bound
SIGN = st.sampled_from([-1, 1])


@st.composite
def trees(draw, most_nodes=9):
    """Generate a small tree whose leaves have the same depth."""
    parents, level = [-1], [0]
    for _ in range(draw(st.integers(1, 3))):
        counts = draw(st.lists(st.integers(1, 3), min_size=len(level), max_size=len(level)))
        if len(parents) + sum(counts) > most_nodes:
            counts = [1] * len(level)
        start = len(parents)
        parents += [parent for parent, count in zip(level, counts, strict=True) for _ in range(count)]
        level = list(range(start, len(parents)))
    num_top = parents.count(0)
    polarity = st.floats(-0.99, 0.99)
    polarities = [0.0, *draw(st.lists(polarity, min_size=len(parents) - 1, max_size=len(parents) - 1))]
    rows = st.tuples(*[SIGN] * num_top)
    signs = draw(st.lists(rows, min_size=1, max_size=3, unique=True))
    return LatentTree(tuple(parents), tuple(polarities), tuple(signs))


def hierarchies(**fixed):
    """Generate a hierarchy with levels of six latents, enough for two sets of two or three members each."""
    choices = {
        "num_classes": st.integers(1, 7),
        "level_sizes": st.lists(st.just(6), max_size=3),
        "set_size": st.integers(2, 3),
        "num_tokens": st.integers(6, 20),
        "num_alternatives": st.integers(1, 2),
        "show_probability": st.floats(0.01, 1.0),
        "seed": st.integers(0, 1000),
    }
    return st.builds(random_hierarchy, **{name: fixed.get(name, choice) for name, choice in choices.items()})


@settings(max_examples=30, deadline=None)
@given(trees())
def test_marginals_are_distributions_and_agree_with_each_other(tree):
    joint = tree_pair_marginals(tree)
    assert float((joint.sum((2, 3)) - 1).abs().max()) < EXACT
    assert float(joint.min()) > -EXACT
    assert float((joint.sum(3) - joint.sum(3)[:, :1]).abs().max()) < EXACT  # a's own law, whichever b is asked about
    assert float((joint - joint.permute(1, 0, 3, 2)).abs().max()) < EXACT
    assert float((label_marginals(tree).sum(0) - 1).abs().max()) < EXACT


@settings(max_examples=15, deadline=None)
@given(trees(most_nodes=7), st.data())
def test_sum_product_equals_the_sum_over_all_assignments(tree, data):
    label = data.draw(st.integers(0, tree.num_labels - 1))
    num = len(tree.parents) - 1
    signs = dict(zip(tree.levels[1], tree.label_signs[label], strict=True))
    joint = np.zeros((num, num, 2, 2))
    for state in itertools.product((0, 1), repeat=num):
        chance = 1.0
        for node in range(1, num + 1):
            parent = tree.parents[node]
            above = signs[node] if parent == 0 else 2 * state[parent - 1] - 1
            chance *= (1 + tree.polarities[node] * above * (2 * state[node - 1] - 1)) / 2
        for a, b in itertools.product(range(num), repeat=2):
            joint[a, b, state[a], state[b]] += chance
    assert np.abs(tree_pair_marginals(tree, label).numpy() - joint).max() < EXACT


@settings(max_examples=25, deadline=None)
@given(trees() | hierarchies(), st.integers(1, 40), st.integers(0, 1000), st.booleans())
def test_samples_have_valid_shapes_and_laws_read_from_json_are_equal(law, num, seed, shuffled):
    assert law_from_json(law.to_json()) == law
    samples = law.sample(num, torch.Generator().manual_seed(seed), shuffled=shuffled)
    assert samples.tokens.shape == (num, law.length)
    assert tuple(level.shape for level in samples.presence) == tuple((num, size) for size in law.level_sizes)
    assert int(samples.labels.min()) >= 0
    assert int(samples.labels.max()) < law.num_labels
    for row in samples.tokens.tolist():
        tokens = [token for token in row if token != law.padding]
        assert row == [law.padding] * (law.length - len(tokens)) + tokens
        assert len(set(tokens)) == len(tokens)
        assert all(0 <= token < law.num_tokens for token in tokens)
        assert shuffled or tokens == sorted(tokens)


def members_shown(law, samples):
    """Yield for each sample and level the present latents, the present nodes below, and all nodes below."""
    levels = [list(level) for level in samples.presence]
    for idx, row in enumerate(samples.tokens.tolist()):
        below = [{token for token in row if token != law.padding}]
        below += [set(level[idx].nonzero().flatten().tolist()) for level in levels]
        yield from zip(law.members, [*below[1:], {int(samples.labels[idx])}], below, strict=True)


@settings(max_examples=25, deadline=None)
@given(hierarchies(show_probability=st.just(1.0), num_alternatives=st.just(1)), st.integers(0, 1000))
def test_a_table_sample_has_exactly_the_members_of_its_latents(law, seed):
    samples = law.sample(20, torch.Generator().manual_seed(seed))
    for level, present, below in members_shown(law, samples):
        assert below == {child for latent in present for child in level[latent][0]}


@settings(max_examples=25, deadline=None)
@given(hierarchies(), st.integers(0, 1000))
def test_every_present_node_is_a_member_of_a_present_latent(law, seed):
    samples = law.sample(20, torch.Generator().manual_seed(seed))
    for level, present, below in members_shown(law, samples):
        assert below <= {child for latent in present for chosen in level[latent] for child in chosen}


@settings(max_examples=25, deadline=None)
@given(hierarchies(show_probability=st.just(1.0), num_alternatives=st.just(2)), st.integers(0, 1000))
def test_a_latent_shows_all_members_of_one_of_its_sets(law, seed):
    samples = law.sample(20, torch.Generator().manual_seed(seed))
    for level, present, below in members_shown(law, samples):
        for latent in present:
            assert any(set(chosen) <= below for chosen in level[latent])
