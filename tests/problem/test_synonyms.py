"""Exchanged synonyms: other rules at one level, everything above as it was, everything below drawn anew."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.synonyms import exchange_synonyms
from joma.problem.tree import balanced_tree
from joma.theory.belief import posterior

LAW = RandomHierarchy(3, 4, 3, branching=2, depth=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rules_used(law, samples, level):
    """The number of the rule that each latent of a level is written with."""
    rows = [samples.tokens, *samples.symbols, samples.labels[:, None]]
    tuples = rows[level].view(len(samples.labels), -1, 1, law.branching)
    is_rule = (law.rules[level][rows[level + 1]] == tuples).all(-1)
    assert is_rule.any(-1).all()
    return is_rule.long().argmax(-1)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_latent_of_the_level_has_another_rule_and_those_above_stay(level, tolerance):
    samples = LAW.sample(20_000, generator())
    changed = exchange_synonyms(LAW, samples, level, generator(1))
    before, after = (rules_used(LAW, one, level) for one in (samples, changed))
    assert bool((before != after).all())
    steps = torch.bincount(((after - before) % 3).flatten(), minlength=3) / before.numel()
    assert float(steps[1]) == pytest.approx(0.5, abs=2 * tolerance("hierarchy.sampled"))
    assert torch.equal(changed.labels, samples.labels)
    for above in range(level, 2):
        assert torch.equal(changed.symbols[above], samples.symbols[above])
        assert torch.equal(changed.presence[above], samples.presence[above])
    for below in range(level):
        same = rules_used(LAW, samples, below) == rules_used(LAW, changed, below)
        assert float(same.double().mean()) == pytest.approx(1 / 3, abs=2 * tolerance("hierarchy.sampled"))


def test_the_result_is_a_sample_of_the_law_with_the_same_latents():
    samples = LAW.sample(100, generator())
    changed = exchange_synonyms(LAW, samples, 1, generator(1))
    found = posterior(LAW, changed.tokens)
    assert torch.equal(found.labels.argmax(-1), changed.labels)
    for belief, symbols, present in zip(found.latents, changed.symbols, changed.presence, strict=True):
        assert torch.equal(belief.argmax(-1), symbols)
        assert torch.equal(present.view(*symbols.shape, 4).long().argmax(-1), symbols)


def test_samples_of_a_filtered_law_are_exchanged_up_to_its_level():
    law = filtered(LAW, 0)
    samples = law.sample(50, generator())
    assert bool(
        (rules_used(LAW, samples, 0) != rules_used(LAW, exchange_synonyms(law, samples, 0, generator()), 0)).all()
    )
    with pytest.raises(InvalidArgument, match="`level` is 1"):
        exchange_synonyms(law, samples, 1, generator())
    flat = filtered(LAW, -1)
    with pytest.raises(InvalidArgument, match="whose tokens depend on the label alone"):
        exchange_synonyms(flat, flat.sample(5, generator()), 0, generator())


@pytest.mark.parametrize(
    ("law", "level", "message"),
    [
        (LAW, 3, "`level`"),
        (LAW, -1, "`level`"),
        (RandomHierarchy(3, 4, 1), 0, "at least 2 synonyms"),
        (balanced_tree((2, 2), 0.5), 0, "whose latents have synonyms"),
        (RandomHierarchy(3, 4, 3, branching=2, depth=3, seed=1), 0, "tuples without a rule"),
    ],
)
def test_what_cannot_be_exchanged_is_refused(law, level, message):
    with pytest.raises(InvalidArgument, match=message):
        exchange_synonyms(law, LAW.sample(50, generator()), level, generator())


@pytest.mark.parametrize(("depth", "num_symbols"), [(2, 4), (4, 4), (3, 2)])
def test_samples_of_another_law_are_refused(depth, num_symbols):
    samples = RandomHierarchy(4, 4, 2, depth=3).sample(5, generator())
    other = RandomHierarchy(2, num_symbols, 2, depth=depth)
    with pytest.raises(InvalidArgument, match="samples of this law"):
        exchange_synonyms(other, samples, 0, generator())
    with pytest.raises(InvalidArgument, match="samples of this law"):
        exchange_synonyms(filtered(RandomHierarchy(4, 4, 2, depth=3), 0), samples, 0, generator())
