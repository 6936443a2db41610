"""Errors of probes for the latents of every level, next to those of exact inference."""

import pytest
import torch

import joma
from joma.errors import InvalidArgument
from joma.measure.latents.levels import level_errors
from joma.measure.latents.posteriors import against_posterior
from joma.measure.latents.probes import linear_probe

TREE = joma.balanced_tree((2, 2, 2), (0.7, 0.8, 0.9))


@pytest.fixture(scope="module")
def drawn():
    samples = TREE.sample(2000, torch.Generator().manual_seed(0))
    units = torch.zeros(2000, 9).scatter_(1, samples.tokens, 1.0)[:, :8]
    noise = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    exact = joma.posterior(TREE, samples.tokens)
    levels = [*samples.presence, samples.labels[:, None]]
    return units, noise, levels, [*exact.latents, exact.labels[:, None]]


def test_probe_is_between_belief_propagation_and_its_controls_at_every_level_and_the_label(drawn):
    found = level_errors(*drawn)
    assert len(found) == 3
    lowest = [one.trained.lowest_error for one in found]
    assert lowest == sorted(lowest)  # what is farther from the tokens is known less well
    assert lowest[0] > 0.02
    for one in found:
        assert one.trained.lowest_error <= one.trained.error < min(one.untrained.error, one.shuffled.error)
        assert one.untrained.lowest_error == one.trained.lowest_error  # the same samples


def test_errors_are_those_of_the_probe_on_its_held_out_samples(drawn):
    units, noise, levels, posteriors = drawn
    for seed in (0, 1):
        probe = linear_probe(units, levels[1], 2, seed=seed)
        expected = against_posterior(probe.log_probabilities, posteriors[1][probe.held_out])
        assert level_errors(units, noise, levels[1:2], posteriors[1:2], seed=seed)[0].trained == expected


def test_other_numbers_of_levels_are_refused(drawn):
    units, noise, levels, posteriors = drawn
    for wrong in (posteriors[:1], []):
        with pytest.raises(InvalidArgument, match="`posteriors`"):
            level_errors(units, noise, levels, wrong)
    with pytest.raises(InvalidArgument, match="at least one"):
        level_errors(units, noise, [], [])
