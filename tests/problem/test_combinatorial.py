"""Combinatorial hierarchies: the table by definition, the exact distribution of the random extension, bad input."""

import itertools
import math

import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial, ambiguous_labels, random_hierarchy

NUM = 200_000
SMALL = Combinatorial(  # two classes share latent 1 of level 1; latents 0 and 1 of level 0 share token 2
    members=(
        (((0, 2), (1, 3)), ((2, 4),), ((0, 5),)),
        (((0, 1),), ((1, 2), (0,))),
        (((0, 1),), ((1,),)),
    ),
    num_tokens=6,
    length=6,
    show_probability=0.7,
)
WIDE = Combinatorial(  # level 0 has more latents than a sample shows, and every token is a member of two latents
    members=(
        tuple(((latent % 4,),) for latent in range(8)),
        (((0, 1, 4),), ((1, 5, 7),), ((2, 3, 6),)),
        (((0, 1),),),
    ),
    num_tokens=4,
    length=4,
    show_probability=0.6,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sets_of(samples, padding):
    """Return each sample as sets: its tokens, and the latents of each level."""
    levels = [[set(row.nonzero().flatten().tolist()) for row in level] for level in samples.presence]
    tokens = [{token for token in row if token != padding} for row in samples.tokens.tolist()]
    return list(zip(tokens, *levels, strict=True))


def exact_law(law, label):
    """Return the probability of every outcome (tokens, then latents from the lowest level up), from the definition."""
    outcomes = {(): {frozenset({label}): 1.0}}
    for level in reversed(law.members):
        further = {}
        for path, ends in outcomes.items():
            for present, chance in ends.items():
                for below, extra in shown_by(level, present, law.show_probability).items():
                    found = further.setdefault((present, *path), {})
                    found[below] = found.get(below, 0.0) + chance * extra
        outcomes = further
    return {(below, *path[:-1]): chance for path, ends in outcomes.items() for below, chance in ends.items()}


def shown_by(level, present, show_probability):
    """Return the probability of every set of members shown by the present latents."""
    union = {frozenset(): 1.0}
    for latent in present:
        further = {}
        for chosen in level[latent]:
            for shown in itertools.product((False, True), repeat=len(chosen)):
                num = sum(shown)
                chance = show_probability**num * (1 - show_probability) ** (len(chosen) - num) / len(level[latent])
                members = frozenset(itertools.compress(chosen, shown))
                for before, weight in union.items():
                    further[before | members] = further.get(before | members, 0.0) + weight * chance
        union = further
    return union


@pytest.mark.parametrize(("law", "label"), [(SMALL, 0), (SMALL, 1), (WIDE, 0)])
def test_the_extension_has_its_exact_distribution(law, label, tolerance):
    exact = exact_law(law, label)
    assert sum(exact.values()) == pytest.approx(1.0, abs=tolerance("closed_form.sums"))
    samples = law.sample(NUM, generator(), torch.full((NUM,), label))
    columns = torch.zeros(NUM, law.vocabulary_size, dtype=torch.int64).scatter_(1, samples.tokens, 1)[:, :-1]
    bits = torch.cat([columns, *(level.long() for level in samples.presence)], 1)
    codes = (bits << torch.arange(bits.shape[1])).sum(1)
    found = torch.bincount(codes, minlength=2 ** bits.shape[1]) / NUM
    expected = torch.zeros(2 ** bits.shape[1])
    starts = list(itertools.accumulate((law.num_tokens, *law.level_sizes), initial=0))
    for levels, chance in exact.items():
        expected[sum(1 << (start + idx) for start, level in zip(starts, levels, strict=False) for idx in level)] = (
            chance
        )
    assert float((found - expected).abs().max()) < tolerance("hierarchy.sampled")
    assert not found[expected == 0].any()


def test_a_latent_with_several_present_parents_draws_once(tolerance):
    shared = Combinatorial((((tuple(range(8)),),), (((0,),), ((0,),)), (((0, 1),),)), 8, 8, show_probability=0.5)
    samples = shared.sample(NUM, generator())
    both = samples.presence[1].all(1)
    shares = (samples.tokens[both] != 8).double().sum(1).mean() / 8
    # One parent or both show it: the latent is present in three of four samples, and then it shows half.
    there = (samples.presence[0][both, 0]).double().mean()
    assert float(there) == pytest.approx(0.75, abs=tolerance("hierarchy.sampled"))
    assert float(shares / there) == pytest.approx(0.5, abs=tolerance("hierarchy.sampled"))


@pytest.mark.parametrize("num_tokens", [100, 40_000])
@pytest.mark.parametrize("set_size", [2, 3, (2, 3, 1)])
def test_a_table_sample_is_the_union_of_all_tokens_below_the_class(set_size, num_tokens):
    law = random_hierarchy(20, set_size=set_size, num_tokens=num_tokens, seed=3)
    assert law.is_table
    samples = law.sample(300, generator())
    lower, upper, classes = ([latent[0] for latent in level] for level in law.members)
    for label, (tokens, first, second) in zip(samples.labels.tolist(), sets_of(samples, law.padding), strict=True):
        assert second == set(classes[label])
        assert first == {member for latent in second for member in upper[latent]}
        assert tokens == {token for latent in first for token in lower[latent]}
    sizes = [set_size] * 3 if isinstance(set_size, int) else set_size
    for level, size in zip(law.members, sizes, strict=True):
        assert len(set(level)) == len(level)
        assert all(len(latent[0]) == size for latent in level)
    assert law.level_sizes == (10, 20)


def test_sequences_are_left_padded_and_increasing():
    for law in (random_hierarchy(30), random_hierarchy(30, num_alternatives=2, show_probability=0.6)):
        tokens = law.sample(500, generator()).tokens
        assert tokens.shape == (500, 30)
        padded = tokens == law.padding
        assert (padded[:, :-1] | ~padded[:, 1:]).all()  # padding never follows a token
        assert ((tokens.diff() > 0) | padded[:, :-1]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"set_size": 1, "level_sizes": (20, 20)},
        {"set_size": 3},  # more members than a level has latents
        {"set_size": 3, "level_sizes": (40, 40)},
        {"set_size": (2, 3, 1), "num_tokens": 40_000},  # more than 16 bits can represent
    ],
)
def test_show_probability_one_and_one_alternative_give_the_table(settings):
    table = random_hierarchy(20, seed=5, **settings)
    almost = Combinatorial(table.members, table.num_tokens, table.length, show_probability=1 - 1e-12)
    labels = torch.arange(20).repeat(1000)  # enough to be drawn in several batches
    assert not almost.is_table  # so that the code of the random extension runs
    first, second = table.sample(20_000, generator(), labels), almost.sample(20_000, generator(), labels)
    assert torch.equal(first.tokens, second.tokens)
    assert all(torch.equal(*pair) for pair in zip(first.presence, second.presence, strict=True))


def test_alternatives_are_drawn_with_equal_probability(tolerance):
    law = Combinatorial(((((0,), (1,), (2,)), ((3,),)), (((0, 1),),)), 4, 4)
    tokens = law.sample(NUM, generator()).tokens
    shares = torch.bincount(tokens.flatten(), minlength=5)[:4] / NUM
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0], abs=tolerance("hierarchy.sampled"))


def test_the_extension_has_many_inputs_per_class():
    law = random_hierarchy(5, show_probability=0.7, num_alternatives=2)
    tokens = law.sample(2000, generator(), torch.zeros(2000, dtype=torch.int64)).tokens
    assert len(tokens.unique(dim=0)) > 100


def test_labels_follow_their_probabilities(tolerance):
    table = random_hierarchy(3)
    law = Combinatorial(table.members, 100, label_probabilities=(0.5, 0.2, 0.3))
    shares = torch.bincount(law.sample(NUM, generator()).labels, minlength=3) / NUM
    assert shares.tolist() == pytest.approx([0.5, 0.2, 0.3], abs=tolerance("hierarchy.sampled"))


@pytest.mark.parametrize("settings", [{}, {"show_probability": 0.5, "num_alternatives": 2}])
def test_the_same_seed_gives_the_same_samples(settings):
    law = random_hierarchy(20, **settings)
    first, again = (law.sample(64, generator(9), shuffled=True) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    assert all(torch.equal(*pair) for pair in zip(first.presence, again.presence, strict=True))
    assert not torch.equal(first.tokens, law.sample(64, generator(10), shuffled=True).tokens)


def test_changing_returned_samples_in_place_does_not_change_the_law():
    law = random_hierarchy(4)
    labels = torch.arange(4)
    samples = law.sample(4, generator(), labels)
    kept = samples.tokens.clone()
    samples.tokens.zero_()
    samples.presence[0].fill_(True)
    assert torch.equal(law.sample(4, generator(), labels).tokens, kept)
    assert int(law.sample(4, generator(), labels).presence[0].sum(1).max()) <= 4


def test_classes_with_the_same_input_are_reported():
    law = Combinatorial(((((0, 1),), ((2, 3),), ((0, 2),), ((1, 3),)), (((0, 1),), ((2, 3),), ((0, 2),))), 4, 4)
    assert ambiguous_labels(law) == ((0, 1),)
    assert ambiguous_labels(random_hierarchy(50, distinct_inputs=True)) == ()
    with pytest.raises(InvalidArgument, match="a table"):
        ambiguous_labels(random_hierarchy(4, show_probability=0.5))


def test_distinct_inputs_change_what_would_be_ambiguous():
    seed = next(seed for seed in range(50) if ambiguous_labels(random_hierarchy(50, seed=seed)))
    law = random_hierarchy(50, seed=seed, distinct_inputs=True)
    inputs = law.sample(50, generator(), torch.arange(50)).tokens
    assert len(inputs.unique(dim=0)) == 50
    assert len(set(law.members[-1])) == 50


def test_all_existing_sets_can_be_used():
    law = random_hierarchy(6, level_sizes=(4,), num_tokens=4, set_size=(1, 2))
    assert sorted(latent[0] for latent in law.members[1]) == list(itertools.combinations(range(4), 2))
    assert math.comb(4, 2) == len(law.members[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 7, "level_sizes": (4,)}, "only 6 sets"),
        (
            {"num_classes": 2, "level_sizes": (4,), "num_alternatives": 4},
            "such that 8 different sets exist for classes",
        ),
        ({"num_classes": 2, "level_sizes": (5,), "num_tokens": 2}, "different sets exist for level 0"),
        ({"num_classes": 2, "level_sizes": (2,), "set_size": 3}, "gives only 0 sets"),
        ({"num_classes": 0}, "`num_classes` is 0"),
        ({"num_classes": 2.0}, "`num_classes` is 2.0"),
        ({"num_classes": 2, "level_sizes": (10, 0)}, "`level_sizes` is 0"),
        ({"num_classes": 2, "set_size": 0}, "`set_size` is 0"),
        ({"num_classes": 2, "set_size": 2.0}, "`set_size` is 2.0"),
        ({"num_classes": 2, "set_size": (2, 2)}, "one for each level and one for the classes"),
        ({"num_classes": 2, "num_tokens": 0}, "`num_tokens` is 0"),
        ({"num_classes": 2, "num_alternatives": 0}, "`num_alternatives` is 0"),
        ({"num_classes": 20, "length": 5}, "`length` is 5; expected at least 8"),
        ({"num_classes": 3, "level_sizes": (3,), "num_tokens": 3, "distinct_inputs": True}, "distinct_inputs"),
        *(({"num_classes": 2, "show_probability": bad}, "show_probability") for bad in (0.0, -0.1, 1.1, math.nan)),
    ],
)
def test_impossible_hierarchies_are_refused(settings, message):
    with pytest.raises(InvalidArgument, match=message):
        random_hierarchy(**settings)


TOP = (((0,),),)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "at least one level"),
        (((),), "at least one level"),
        (((((),),), TOP), "at least one member of every latent"),
        (((((0,), ()),), TOP), "at least one member of every latent"),
        ((((),), TOP), "at least one member of every latent"),
        (((((0, 3),),), TOP), "whole numbers from 0 to 2"),
        (((((0.0,),),), TOP), "whole numbers"),
        (((((1, 0),),), TOP), "increasing"),
        (((((1, 1),),), TOP), "increasing"),
        (((((0,), (0,)),), TOP), "different alternatives"),
        (((((0,),),), (((1,),),)), "whole numbers from 0 to 0"),
    ],
)
def test_invalid_members_are_refused(members, message):
    with pytest.raises(InvalidArgument, match=message):
        Combinatorial(members, 3)


def test_refuses_a_class_that_is_never_sampled():
    with pytest.raises(InvalidArgument, match="0 for label 1, which would never be sampled"):
        Combinatorial(((((0,),),), (((0,),), ((0,),))), 1, label_probabilities=(1.0, 0.0))


@pytest.mark.parametrize("labels", [torch.tensor([0, 2]), torch.tensor([[0, 1]]), torch.tensor([True, False])])
def test_refuses_labels_that_do_not_fit(labels):
    with pytest.raises(InvalidArgument, match="`labels`"):
        SMALL.sample(2, generator(), labels)
