"""Alignment of a network after and before training, on held-out samples."""

import pytest
import torch
from tiny import tiny_law, tiny_law_recipe

from joma.measure.latents.alignment import alignment
from joma.train.decoder import seed_of
from joma.train.hidden import pooled_hidden
from joma.train.hierarchies import seeded_samples
from joma.train.latents import aligned, level_by_level, untrained
from joma.train.run import Run
from joma.train.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return train(tiny_law_recipe(num_steps=32), tiny_law(), tmp_path_factory.mktemp("run") / "tiny")


def test_every_layer_is_aligned_with_every_level(run):
    seen = []
    found = aligned(run, None, 100, 3, 5, progress=lambda *progress: seen.append(progress))
    layers, levels = run.recipe.decoder.num_layers, len(run.law().level_sizes)
    assert [len(row) for row in found.trained] == [len(row) for row in found.untrained] == [levels] * layers
    assert found.step == 32
    assert {what for what, _, _ in seen} == {"alignment"}
    samples = seeded_samples(run.law(), 100, seed_of(3, "alignment"))
    units = pooled_hidden(run.decoder(), samples.tokens)[1]
    assert found.trained[1][0] == alignment(units, samples.presence[0], num_permutations=5, seed=3)


def test_network_of_step_0_is_untrained(run):
    first, before = run.decoder(0), untrained(run)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), before.parameters(), strict=True))


def test_level_by_level_is_the_diagonal_of_layers_and_levels(run):
    samples = seeded_samples(run.law(), 100, 0)
    layers = pooled_hidden(run.decoder(), samples.tokens)
    found = level_by_level(run.decoder(), samples.tokens, samples.presence)
    expected = [alignment(*pair, num_permutations=1) for pair in zip(layers, samples.presence, strict=True)]
    assert found == expected
