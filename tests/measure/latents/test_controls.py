"""Measures of a network next to the untrained network and to shuffled latents."""

import pytest
import torch

import joma
from joma.errors import InvalidArgument
from joma.measure.latents.alignment import alignment
from joma.measure.latents.controls import with_controls
from joma.measure.latents.posteriors import against_posterior
from joma.measure.latents.probes import linear_probe
from joma.measure.latents.read_off import tree_read_off
from joma.measure.latents.synonyms import synonym_sensitivity
from joma.measure.trees.joining import tree_of_parents


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


UNITS, BEFORE = normal(0, 400, 3), normal(1, 400, 3)
VALUES = (UNITS > 0).long()


def test_probe_finds_latents_in_the_trained_network_alone():
    found = with_controls(linear_probe, UNITS, BEFORE, VALUES)
    assert (found.trained.accuracy > 0.95).all()
    assert (found.untrained.accuracy < 0.65).all()
    assert (found.shuffled.accuracy < 0.65).all()
    assert torch.equal(found.trained.log_probabilities, linear_probe(UNITS, VALUES).log_probabilities)


def test_alignment_keeps_its_settings_and_falls_to_chance_if_latents_are_shuffled():
    found = with_controls(alignment, UNITS, BEFORE, VALUES.bool(), num_permutations=9, seed=3)
    assert found.trained.num_permutations == found.shuffled.num_permutations == 9
    assert found.trained.best.mean > 0.7 > 0.3 > max(found.untrained.best.mean, found.shuffled.best.mean)


def test_prediction_is_nearer_to_its_own_posterior_than_to_those_of_other_samples():
    posterior = UNITS.softmax(-1)
    found = with_controls(against_posterior, UNITS.log_softmax(-1), BEFORE.log_softmax(-1), posterior)
    assert found.trained.divergence_nats == pytest.approx(0, abs=1e-6)
    assert min(found.untrained.divergence_nats, found.shuffled.divergence_nats) > 0.3
    assert found.shuffled.lowest_nats == pytest.approx(found.trained.lowest_nats)  # the same posteriors


def test_twins_of_other_samples_are_as_far_as_different_samples():
    invariant = (UNITS, UNITS + 0.01 * normal(2, 400, 3))
    found = with_controls(synonym_sensitivity, invariant, (BEFORE, normal(3, 400, 3)))
    assert found.trained < 0.01
    assert min(found.untrained, found.shuffled) > 0.8


def test_tree_of_the_leaves_in_another_order_is_another_tree():
    pytest.importorskip("skbio", reason="neighbour joining needs the extra trees")
    law = joma.balanced_tree((2, 2, 2), 0.9)
    truth = tree_of_parents((-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6))
    tokens = law.sample(3000, torch.Generator().manual_seed(0)).tokens
    units = torch.zeros(3000, 9).scatter_(1, tokens, 1.0)[:, :8, None]
    found = with_controls(tree_read_off, units, normal(0, 3000, 8, 1), truth)
    assert found.trained.distance < 0.3 < min(found.untrained.distance, found.shuffled.distance)


def test_everything_after_the_first_argument_is_shuffled_in_one_order():
    rows = torch.arange(400)
    found = with_controls(lambda *parts: [part.tolist() for part in parts], (rows, rows), (rows, rows), rows.numpy())
    first, *rest = found.shuffled
    assert first == rows.tolist()
    assert rest[0] == rest[1] != first
    assert found.trained == found.untrained == [first] * 2 + [rows.tolist()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("linear_probe", UNITS, BEFORE, VALUES), "`measure`"),
        ((linear_probe, UNITS, BEFORE), "`known`"),
        ((lambda *_: None, UNITS, BEFORE, VALUES[:5]), r"`known` is of shape \(5, 3\)"),
        ((linear_probe, UNITS, BEFORE, 3), "`latents`"),
        ((linear_probe, 3.0, BEFORE, VALUES), "`trained`"),
        ((linear_probe, UNITS, BEFORE[:5], VALUES), "`latents`"),
    ],
)
def test_what_cannot_be_shuffled_or_measured_is_refused(given, message):
    with pytest.raises(InvalidArgument, match=message):
        with_controls(*given)
