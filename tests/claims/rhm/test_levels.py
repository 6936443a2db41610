"""rhm.levels and rhm.attention: orders, associations, and complete results of tiny decoders."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conclusions import faults
from joma.claims.rhm import attention, levels, training
from joma.claims.rhm.levels import Passed, guessing_less
from joma.claims.workspace import Profile, Workspace
from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.records import Verdict
from joma.theory.belief import posterior
from joma.train.decoder import Decoder, DecoderConfig

TINY = replace(
    training.SETTINGS[Profile.QUICK],
    num_classes=4,
    num_symbols=4,
    num_synonyms=2,
    width=8,
    hidden=8,
    num_steps=10,
    snapshot_every=1,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training.SETTINGS, Profile.QUICK, TINY)
        yield Workspace(tmp_path_factory.mktemp("rhm"), num_seeds=2, num_workers=1)


@pytest.mark.slow
def test_tiny_decoders_give_a_complete_result_for_levels(tiny, monkeypatch):
    monkeypatch.setattr(levels, "NUM_SAMPLES", 50)
    agreement = levels.evaluate(tiny)
    assert agreement.verdict is not Verdict.HOLDS
    assert not faults(agreement.conclusion)
    assert {chart.id for chart in agreement.charts} == {"levels", "flat", "accuracy"}


def test_tiny_decoders_give_a_complete_result_for_attention(tiny):
    agreement = attention.evaluate(tiny)
    assert not faults(agreement.conclusion)
    assert {chart.id for chart in agreement.charts} == {"entropy", "rank", "layers", "association"}


def passed(nearest: list[int], mixtures: float) -> Passed:
    """Divergences that are 1 at the nearest snapshot of each filter."""
    return Passed([], 1 + (np.arange(6)[:, None] - np.array(nearest)) ** 2.0, np.full(len(nearest), mixtures))


def test_order_is_one_for_rising_steps_and_zero_for_a_single_one():
    assert passed([0, 1, 3], 2).order == pytest.approx(1)
    assert passed([4, 3, 0], 2).order == pytest.approx(-1)
    assert passed([2, 2, 2], 2).order == 0


def test_filters_count_if_nearer_than_mixtures_and_in_order():
    assert passed([0, 1, 3], 2).score == pytest.approx(0.5)
    assert passed([0, 1, 3], 0.8).score == pytest.approx(-0.25)
    assert passed([1, 0, 3], 2).score == passed([1, 1, 3], 2).score == 0
    assert 0 < passed([0, 1, 3], 2).score_by_chance(0) < 0.2


@pytest.fixture(scope="module")
def posteriors():
    law = RandomHierarchy(8, 8, 3, depth=3)
    tokens = law.sample(300, torch.Generator().manual_seed(0)).tokens
    return [posterior(one, tokens).labels for one in (*(filtered(law, level) for level in (-1, 0, 1)), law)]


def test_guessing_less_passes_all_filters_in_order_and_none_as_more_than_a_mixture(posteriors, tolerance):
    found = Passed.of(guessing_less(posteriors[-1], 41), posteriors)
    assert found.order == pytest.approx(1)
    assert abs(found.score) < tolerance("rhm.mixtures")


def test_memoriser_of_ever_more_inputs_is_no_nearer_than_mixtures(posteriors):
    exact, order = posteriors[-1], torch.randperm(300, generator=torch.Generator().manual_seed(1))
    known = [(order < num)[:, None] for num in range(0, 301, 10)]
    predictions = [torch.where(part, 0.99 * exact + 0.01 / 8, 1 / 8).log() for part in known]
    assert Passed.of(predictions, posteriors).score < 0.01


def test_inference_with_ever_more_levels_is_nearer_than_mixtures(posteriors):
    stages = [torch.full_like(posteriors[0], 1 / 8), *posteriors]
    predictions = [(0.9 * stage + 0.1 / 8).log() for stage in stages]
    assert Passed.of(predictions, posteriors).score > levels.CRITERION.threshold


def test_cooccurrence_is_that_of_samples(tolerance):
    law = TINY.law(0)
    exact = attention._cooccurrence(law).reshape(4, 7, 4)
    tokens = law.sample(400_000, torch.Generator().manual_seed(0)).tokens
    for query in tokens[:, -1].unique().tolist():
        rows = tokens[tokens[:, -1] == query, :-1]
        counted = torch.nn.functional.one_hot(rows, 4).double().mean(0)
        np.testing.assert_allclose(exact[query], counted, atol=tolerance("hierarchy.sampled"))


def test_logits_of_places_are_those_of_whole_sequences():
    law = TINY.law(0)
    decoder = Decoder(DecoderConfig(law.vocabulary_size, 8, num_layers=2, dropout=0.0, num_outputs=4, hidden=8)).eval()
    table = attention._place_logits(decoder, law).reshape(4, 7, 4)
    tokens = law.sample(3, torch.Generator().manual_seed(0)).tokens
    seen = []
    with torch.no_grad():
        decoder(tokens, lambda layer, q, k: seen.append(q[:, 0, -1:] @ k[:, 0, :-1].mT / 8**0.5))
    for row, sequence in zip(seen[0][:, 0], tokens, strict=True):
        expected = [table[sequence[-1], place, sequence[place]] for place in range(7)]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
