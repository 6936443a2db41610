"""rhm.levels and rhm.attention: orders, associations, and complete results of tiny decoders."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conclusions import faults
from joma.claims.rhm import attention, levels, training
from joma.claims.rhm.training import SIZES
from joma.claims.workspace import Profile, Workspace
from joma.records import Verdict
from joma.train.decoder import Decoder, DecoderConfig

TINY = replace(
    SIZES[Profile.QUICK],
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
        patch.setitem(training.SIZES, Profile.QUICK, TINY)
        yield Workspace(tmp_path_factory.mktemp("rhm"), num_seeds=2, num_workers=1)


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


def test_order_is_one_for_rising_steps_and_zero_for_a_single_one():
    moments = np.arange(5)[:, None]
    assert levels._order((moments - np.array([0, 1, 3])) ** 2.0) == pytest.approx(1)
    assert levels._order((moments - np.array([4, 3, 0])) ** 2.0) == pytest.approx(-1)
    assert levels._order((moments - np.array([2, 2, 2])) ** 2.0) == 0


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
