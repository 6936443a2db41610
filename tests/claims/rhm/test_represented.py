"""What layers represent: probes of a decoder whose units are known."""

import pytest
import torch

from joma.claims.rhm.represented import findings, represented
from joma.problem.random_hierarchy import RandomHierarchy
from joma.train.decoder import Decoder, DecoderConfig

LAW = RandomHierarchy(4, 4, 2, depth=3)


def test_untrained_decoder_represents_the_last_latent_better_than_chance_and_has_a_finding_for_everything():
    pytest.importorskip("skbio", reason="neighbour joining needs the extra trees")
    decoder = Decoder(DecoderConfig(5, 32, num_layers=2, hidden=64, dropout=0.0, num_outputs=4)).eval()
    found = represented(decoder, LAW, LAW.sample(400, torch.Generator().manual_seed(0)))
    assert found.errors.shape == (2, 2)
    assert (found.errors < found.shuffled).all()
    assert not found.lowest.any()  # tokens determine every latent
    assert (found.errors > 0.1).all()
    names = [finding.name for finding in findings([found] * 3, [found] * 3)]
    assert len(names) == len(set(names)) == 2 * 2 + 2
