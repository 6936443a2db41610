"""The Random Hierarchy Model: rules, samples, exact marginals, filtering, and laws that cannot exist."""

import itertools
import json

import pytest
import torch

import joma
from joma.errors import InvalidArgument
from joma.problem.draws import random_choices
from joma.problem.laws import edges_of, law_from_json
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import digest
from joma.problem.unrelated import UnrelatedLabels

NUM = 100_000
FROZEN = [
    [[[2, 1], [0, 2]], [[1, 2], [2, 2]], [[2, 0], [0, 1]]],
    [[[0, 0], [1, 1]], [[2, 2], [0, 2]]],
]
"""The rules of seed 5: a saved law or network depends on them."""
LAWS = [
    RandomHierarchy(4, 4, 2, branching=2, depth=3),
    RandomHierarchy(3, 3, 3, branching=3, depth=2, seed=1),
    RandomHierarchy(5, 300, 2, branching=2, depth=2),  # symbols that do not fit in a byte
    RandomHierarchy(4, 6, 4, branching=2, depth=3, uncorrelated=True),
    RandomHierarchy(2, 4, 3, branching=2, depth=1),
]
IDS = ["binary", "ternary", "many-symbols", "uncorrelated", "one-level"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_no_two_rules_of_a_level_have_the_same_tuple(law):
    assert len(law.rules) == law.depth
    for level, rules in enumerate(law.rules):
        num_parents = law.num_classes if level == law.depth - 1 else law.num_symbols
        assert rules.shape == (num_parents, law.num_synonyms, law.branching)
        assert len(rules.flatten(0, 1).unique(dim=0)) == num_parents * law.num_synonyms
        assert 0 <= int(rules.min()) <= int(rules.max()) < law.num_symbols


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_every_latent_of_a_sample_is_written_as_one_of_its_rules(law):
    samples = law.sample(500, generator())
    assert (samples.tokens.shape, samples.tokens.dtype) == ((500, law.length), torch.int64)
    rows = [samples.tokens, *samples.symbols, samples.labels[:, None]]
    for below, above, rules in zip(rows[:-1], rows[1:], law.rules, strict=True):
        tuples = below.view(500, -1, 1, law.branching)
        assert (rules[above] == tuples).all(-1).any(-1).all()


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_presence_is_the_one_hot_symbols(law):
    samples = law.sample(50, generator())
    assert tuple(part.shape[1] for part in samples.presence) == law.level_sizes
    for present, symbols in zip(samples.presence, samples.symbols, strict=True):
        assert present.dtype == torch.bool
        assert torch.equal(present.view(50, -1, law.num_symbols).long().argmax(-1), symbols)
        assert int(present.sum()) == symbols.numel()


@pytest.mark.parametrize("filtered_above", [None, 1, 0, -1])
def test_samples_have_the_exact_marginals_given_the_label(filtered_above, tolerance):
    law = RandomHierarchy(3, 4, 3, branching=2, depth=3, filtered_above=filtered_above)
    samples = law.sample(NUM, generator(), torch.full((NUM,), 2))
    for level, symbols in enumerate([samples.tokens, *samples.symbols], start=-1):
        shares = torch.nn.functional.one_hot(symbols, 4).double().mean(0)
        assert torch.allclose(shares, law.label_marginals(level)[2], atol=tolerance("hierarchy.sampled"))


def test_all_rules_of_a_symbol_are_equally_likely_and_independent(tolerance):
    law = RandomHierarchy(1, 4, 4, branching=2, depth=2)
    samples = law.sample(NUM, generator())
    inputs, counts = samples.tokens.unique(dim=0, return_counts=True)
    assert len(inputs) == 4**3  # m rules at each of three nodes
    assert torch.allclose(counts / NUM, torch.full((64,), 1 / 64), atol=tolerance("hierarchy.sampled"))


def test_rules_are_uniform_over_all_tuples(tolerance):
    seen = torch.zeros(9)
    for seed in range(2000):
        rules = RandomHierarchy(2, 3, 2, branching=2, depth=1, seed=seed).rules[0].flatten(0, 1)
        seen[rules[:, 0] + 3 * rules[:, 1]] += 1
    assert torch.allclose(seen / 2000, torch.full((9,), 4 / 9), atol=0.05)  # four standard errors


def test_the_rules_of_a_seed_stay_the_same_over_versions():
    law = RandomHierarchy(2, 3, 2, branching=2, depth=2, seed=5)
    assert [rules.tolist() for rules in law.rules] == FROZEN


def test_different_seeds_have_different_rules():
    first, second = (RandomHierarchy(8, 8, 4, seed=seed) for seed in (0, 1))
    assert not any(torch.equal(*pair) for pair in zip(first.rules, second.rules, strict=True))
    assert digest(first) != digest(second)


def test_the_same_generator_state_gives_the_same_samples():
    first, second = (LAWS[0].sample(1000, generator(7)) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)
    assert all(torch.equal(*pair) for pair in zip(first.symbols, second.symbols, strict=True))


def test_a_law_read_from_its_json_has_equal_rules():
    for law in [*LAWS, RandomHierarchy(4, 4, 2, filtered_above=0), UnrelatedLabels(LAWS[0])]:
        back = law_from_json(json.loads(json.dumps(law.to_json())))
        assert back == law
        assert digest(back) == digest(law)


@pytest.mark.parametrize("law", [LAWS[3], RandomHierarchy(4, 4, 8, branching=3, depth=2, uncorrelated=True)])
def test_uncorrelated_rules_leave_no_single_symbol_that_depends_on_the_label(law):
    for level in range(-1, law.depth - 1):
        marginals = law.label_marginals(level)
        assert torch.equal(marginals, marginals[:1].expand_as(marginals))


def test_random_rules_leave_symbols_that_depend_on_the_label():
    marginals = LAWS[0].label_marginals(-1)
    assert float((marginals - marginals.mean(0)).abs().max()) > 0.1


def test_latents_of_the_filtered_level_are_independent_given_the_label(tolerance):
    law = RandomHierarchy(2, 3, 3, branching=2, depth=3)
    cut = joma.RandomHierarchy(2, 3, 3, branching=2, depth=3, filtered_above=1)
    assert cut.num_places == (4, 2)
    labels = torch.zeros(NUM, dtype=torch.int64)
    together = {}
    for name, one in (("whole", law), ("cut", cut)):
        left, right = one.sample(NUM, generator(), labels).symbols[1].T
        together[name] = torch.bincount(3 * left + right, minlength=9).view(3, 3) / NUM
    alone = law.label_marginals(1)[0].float()
    assert torch.allclose(together["cut"], alone[0][:, None] * alone[1], atol=tolerance("hierarchy.sampled"))
    assert int((together["whole"] > 0).sum()) == 3  # the label has three pairs only


def test_edges_lead_from_places_to_the_label():
    assert [edges.tolist() for edges in edges_of(LAWS[0])] == [
        [[i, i // 2] for i in range(8)],
        [[i, i // 2] for i in range(4)],
        [[0, 0], [1, 0]],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_synonyms": 5}, "at most 4, for 4 symbols have 16 tuples of 2"),
        ({"num_classes": 5, "num_synonyms": 4}, "num_classes` is 5: .*expected at most 4"),
        ({"num_synonyms": 0}, "without a rule a symbol or class has no tokens"),
        ({"num_classes": 0}, "`num_classes`"),
        ({"num_symbols": 1}, "at least 2"),
        ({"branching": 1}, "at least 2"),
        ({"depth": 0}, "`depth`"),
        ({"depth": 21}, r"branching \*\* depth"),
        ({"seed": -1}, "`seed`"),
        ({"uncorrelated": 1}, "True or False"),
        ({"uncorrelated": True, "num_classes": 3}, "at most 2 classes"),
        ({"uncorrelated": True, "branching": 3, "num_synonyms": 6}, "else a multiple of these"),
        ({"uncorrelated": True, "depth": 1, "num_synonyms": 8}, "and at most 4"),
        ({"filtered_above": 2}, "at most 1"),
        ({"filtered_above": -2}, "at least -1"),
    ],
)
def test_a_law_that_cannot_exist_is_refused_with_a_way_out(arguments, message):
    valid = {"num_classes": 2, "num_symbols": 4, "num_synonyms": 2, "branching": 2, "depth": 3}
    RandomHierarchy(**valid)
    with pytest.raises(InvalidArgument, match=message):
        RandomHierarchy(**(valid | arguments))


def test_shuffled_tokens_are_refused_because_their_places_matter():
    with pytest.raises(InvalidArgument, match="`shuffled`"):
        LAWS[0].sample(3, generator(), shuffled=True)


def test_labels_can_be_given():
    labels = torch.tensor(list(itertools.islice(itertools.cycle(range(4)), 10)))
    samples = LAWS[0].sample(10, generator(), labels)
    assert torch.equal(samples.labels, labels)
    assert torch.equal(labels, torch.arange(10) % 4)  # the law has not written into what was given


def test_more_presence_than_fits_in_memory_is_refused():
    law = RandomHierarchy(2, 10_000, 1, branching=2, depth=10)
    with pytest.raises(InvalidArgument, match="draw fewer at a time"):
        law.sample(10_000, generator())


def test_choices_are_uniform_for_powers_of_two_and_other_numbers(tolerance):
    for count in (1, 3, 8, 2**15):
        drawn = random_choices(count, (NUM, 2), generator()).long()
        assert 0 <= int(drawn.min()) <= int(drawn.max()) < count
        groups = drawn * min(count, 4) // count
        shares = torch.bincount(groups.flatten(), minlength=min(count, 4)) / drawn.numel()
        assert torch.allclose(shares, torch.full_like(shares, 1 / len(shares)), atol=tolerance("hierarchy.sampled"))
