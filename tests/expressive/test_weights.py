from dataclasses import replace

import numpy as np
import pytest
import torch

from joma.errors import BadInput, InvalidArgument
from joma.expressive.separable import inseparable, table
from joma.expressive.weights import check_expressive, expressive_decoder, needs
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.train.decoder import Decoder


def hierarchy(*levels: list[tuple[int, ...]], num_tokens: int, length: int = 8) -> Combinatorial:
    """One member set for each latent, the classes last."""
    return Combinatorial(tuple(tuple((members,) for members in level) for level in levels), num_tokens, length)


# Class 0 has the latents ab and cd, so that b and c are present without the latent bc; class 1 has bc.
LEVEL_0_ACCIDENT = hierarchy([(0, 1), (2, 3), (1, 2), (3, 4)], [(0, 1), (2, 3), (0, 3)], num_tokens=5)
# Latent 2, {0, 3}, is present in classes 1, 3 and 4; in class 2 it is absent but all its members are present. The
# inputs are 013, 0123, 034 and 0234: an affine function that is 1 on the first three is 1 on the fourth too, because
# 0234 = 034 + 0123 − 013.
FRONT = hierarchy([(0, 1), (0, 2), (0, 3), (1, 2), (3, 4)], [(0, 1), (0, 2), (1, 4), (2, 3), (2, 4)], num_tokens=5)
# Latents 0..3 are disjoint pairs; all members of P = {0, 1} are present in class 0 through Q = {0, 2} and R = {1, 3}.
LEVEL_1_ACCIDENT = hierarchy(
    [(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 1), (0, 2), (1, 3)], [(1, 2), (0, 1), (0, 2)], num_tokens=8
)
THREE_LEVELS = random_hierarchy(12, (8, 9, 10), num_tokens=30, distinct_inputs=True, seed=1)
FOUR_LEVELS = random_hierarchy(8, (12, 12, 12, 12), (2, 1, 2, 1, 2), num_tokens=20, distinct_inputs=True, seed=2)
UNEVEN = random_hierarchy(10, (6, 8), (1, 3, 2), num_tokens=9, distinct_inputs=True, seed=3)
LONG = random_hierarchy(10, (6, 8), num_tokens=40, length=128, distinct_inputs=True, seed=4)
TIGHT = hierarchy([(0, 1), (2, 3), (1, 2)], [(0, 1), (1, 2), (0, 2)], num_tokens=4, length=4)
UNUSED = hierarchy([(0, 1), (2, 3), (1, 4)], [(0,), (1,)], num_tokens=6)
MORE_TOKENS = hierarchy([(0, 30), (1, 2)], [(0,), (1,)], [(0,), (1,)], num_tokens=40)
ONE_CLASS = hierarchy([(0, 1), (2, 3)], [(0, 1)], num_tokens=4)
GRID = {
    f"{classes} classes, {set_size} of {sizes}": random_hierarchy(
        classes, sizes, set_size, distinct_inputs=True, seed=classes
    )
    for classes in (20, 30, 50)
    for set_size in (2, 3)
    for sizes in ((10, 20), (20, 30))
}
LAWS = GRID | {
    "accident at level 0": LEVEL_0_ACCIDENT,
    "layer in front": FRONT,
    "accident at level 1": LEVEL_1_ACCIDENT,
    "three levels": THREE_LEVELS,
    "four levels": FOUR_LEVELS,
    "sets of 1 to 3": UNEVEN,
    "long": LONG,
    "no padding": TIGHT,
    "a latent never drawn": UNUSED,
}


@pytest.mark.parametrize("shuffled", [False, True], ids=["rising", "shuffled"])
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_latent_equals_a_hidden_unit_and_every_class_is_predicted(law, shuffled, tolerance):
    found = check_expressive(expressive_decoder(law), law, shuffled=shuffled)
    assert found.accuracy == 1
    assert found.worst_unit_error <= tolerance("expressive.units")
    assert found.score is not None
    assert 1 - found.score <= tolerance("expressive.units")


@pytest.mark.parametrize("seed", range(40))
def test_small_random_hierarchies_are_expressed_exactly(seed, tolerance):
    """With few tokens and many classes, absent latents have all their members at every level."""
    num_tokens, sizes, set_size = {
        0: (6, (7,), (2, 2)),
        1: (7, (7, 7), (2, 1, 2)),
        2: (8, (8, 8, 8), (2, 1, 1, 2)),
        3: (9, (8, 9), (1, 2, 2)),
    }[seed % 4]
    law = random_hierarchy(6, sizes, set_size, num_tokens=num_tokens, length=9, distinct_inputs=True, seed=seed)
    found = check_expressive(expressive_decoder(law), law, shuffled=True, seed=seed)
    assert found.accuracy == 1
    assert found.worst_unit_error <= tolerance("expressive.units")


def test_law_with_one_class_has_no_score(tolerance):
    found = check_expressive(expressive_decoder(ONE_CLASS), ONE_CLASS)
    assert (found.accuracy, found.score) == (1, None)
    assert found.worst_unit_error <= tolerance("expressive.units")


def test_examples_have_all_members_of_an_absent_latent():
    """Conjunctions of members alone would be wrong for these hierarchies."""
    for law, level, latent, label in ((LEVEL_0_ACCIDENT, 0, 2, 0), (LEVEL_1_ACCIDENT, 1, 0, 0)):
        seen = table(law)
        below = (seen.tokens, *seen.presence)[level][label]
        members = law.members[level][latent][0]
        assert below[list(members)].all()
        assert not seen.presence[level][label, latent]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_needs_equal_the_size_of_the_constructed_decoder(law):
    size, config = needs(law), expressive_decoder(law).config
    assert (size.num_layers, size.width, size.hidden, size.num_heads) == (
        config.num_layers,
        config.width,
        config.hidden,
        config.num_heads,
    )
    assert size.num_layers == len(law.level_sizes) + size.num_front_layers
    assert size.num_front_layers == bool(inseparable(table(law), 0))


def test_front_layer_is_needed_only_if_a_latent_of_level_0_is_inseparable():
    assert needs(FRONT).num_front_layers == 1
    assert needs(LEVEL_0_ACCIDENT).num_front_layers == 0


def test_constructed_decoder_has_the_architecture_of_the_trained_one():
    config = expressive_decoder(THREE_LEVELS).config
    trained = replace(config, dropout=0.2)
    fresh = Decoder(trained, seed=1)
    assert fresh.state_dict().keys() == expressive_decoder(THREE_LEVELS).state_dict().keys()
    assert (config.layer_norm, config.mlp, config.activation) == (True, True, "relu")
    assert check_expressive(fresh.eval(), THREE_LEVELS).accuracy < 1


@pytest.mark.parametrize("part", ["member", "gate", "norm", "attention"])
def test_check_fails_if_a_part_of_the_construction_is_broken(part):
    """Every part of the construction is needed."""
    law = next(iter(GRID.values()))
    decoder = expressive_decoder(law)
    block = decoder.blocks[0]
    tokens = block.value.weight.any(1)  # the coordinates that presence is written to
    with torch.no_grad():
        if part == "member":  # the unit of latent 0 no longer reads one of its members
            member = (tokens & (block.mlp_lower.weight[0] > 0)).nonzero()[0]
            block.mlp_lower.weight[0, member] = 0
        elif part == "gate":  # units no longer distinguish the last position from the others
            block.mlp_lower.weight[:, ~tokens] = 0
        elif part == "norm":
            block.norm_attention.weight.mul_(1.1)
        else:
            block.query_key.weight.fill_(0.1)
    assert check_expressive(decoder, law).worst_unit_error > 0.04


def test_construction_is_exact_for_any_order_of_tokens(tolerance):
    decoder = expressive_decoder(LONG)
    errors = [check_expressive(decoder, LONG, shuffled=True, seed=seed).worst_unit_error for seed in range(5)]
    assert max(errors) <= tolerance("expressive.units")


def test_classes_with_the_same_tokens_are_refused_by_name():
    same = hierarchy([(0, 1), (1, 2), (0, 2)], [(0, 1), (1, 2)], num_tokens=3)
    with pytest.raises(BadInput, match="classes 0, 1 have the same tokens") as caught:
        expressive_decoder(same)
    assert "distinct_inputs=True" in caught.value.remedy


def test_hierarchy_with_hidden_members_is_refused():
    with pytest.raises(BadInput, match="show_probability=1"):
        expressive_decoder(replace(TIGHT, show_probability=0.5))


def test_latent_with_alternative_members_is_refused_by_name():
    law = random_hierarchy(4, (5,), num_tokens=20, num_alternatives=2)
    with pytest.raises(BadInput, match="latent 0 of level 0 has 2 alternative sets"):
        needs(law)


def test_a_hierarchy_without_latents_is_refused():
    with pytest.raises(BadInput, match="no latents"):
        needs(hierarchy([(0, 1), (1, 2)], num_tokens=3))


@pytest.mark.parametrize(
    ("other", "lacks"),
    [
        (THREE_LEVELS, "num_layers"),
        (GRID["50 classes, 3 of (20, 30)"], "hidden"),
        (MORE_TOKENS, "vocabulary_size"),
    ],
    ids=["layers", "units", "tokens"],
)
def test_decoder_of_another_hierarchy_is_refused(other, lacks):
    with pytest.raises(InvalidArgument, match=lacks):
        check_expressive(expressive_decoder(LEVEL_1_ACCIDENT), other)


def test_hierarchy_with_random_inputs_is_refused():
    with pytest.raises(InvalidArgument, match="random inputs"):
        check_expressive(expressive_decoder(TIGHT), replace(TIGHT, show_probability=0.5))


def test_table_equals_samples_of_the_law():
    for law in LAWS.values():
        samples = law.sample(law.num_labels, torch.Generator(), torch.arange(law.num_labels))
        seen = table(law)
        shown = torch.zeros(law.num_labels, law.vocabulary_size).scatter_(1, samples.tokens, 1.0)[:, :-1]
        assert np.array_equal(shown.bool().numpy(), seen.tokens)
        for mine, theirs in zip(seen.presence, samples.presence, strict=True):
            assert np.array_equal(mine, theirs.numpy())
