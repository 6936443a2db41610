"""Hidden units of a network: the maximum over positions, in evaluation mode, without changing the network."""

import torch

from joma.train.decoder import Decoder, DecoderConfig
from joma.train.hidden import mean_hidden, pooled_hidden


def test_pooled_hidden_is_the_maximum_over_positions_in_every_layer():
    decoder = Decoder(DecoderConfig(9, width=8, hidden=5, num_layers=2, dropout=0.5), seed=1).train()
    tokens = torch.randint(9, (700, 4), generator=torch.Generator().manual_seed(0))
    found = pooled_hidden(decoder, tokens)
    assert decoder.training
    seen = []
    with torch.no_grad():
        decoder.eval()(tokens, observe_hidden=lambda layer, hidden: seen.append(hidden))
    assert [tuple(layer.shape) for layer in found] == [(700, 5), (700, 5)]
    for layer, hidden in zip(found, seen, strict=True):
        torch.testing.assert_close(layer, hidden.max(1).values)


def test_network_without_mlp_has_no_hidden_units():
    config = DecoderConfig(9, width=8, mlp=False)
    assert pooled_hidden(Decoder(config), torch.zeros(2, 3, dtype=torch.long)) == []


def test_mean_hidden_is_the_mean_over_the_places_of_a_token_and_0_for_others():
    decoder = Decoder(DecoderConfig(9, width=8, hidden=5, num_layers=2), seed=1).train()
    tokens = torch.randint(8, (600, 4), generator=torch.Generator().manual_seed(0))
    found, seen = mean_hidden(decoder, tokens), []
    assert decoder.training
    with torch.no_grad():
        decoder.eval()(tokens, observe_hidden=lambda layer, hidden: seen.append(hidden))
    for layer, hidden in zip(found, seen, strict=True):
        torch.testing.assert_close(layer[3], hidden[tokens == 3].double().mean(0))
        assert (layer[8] == 0).all()
