"""Logits and weights of words in small decoders, against direct computations from the network's own activations."""

import math

import pytest
import torch

from joma.errors import InvalidArgument
from joma.train.decoder import Decoder, DecoderConfig
from joma.train.words import _slopes, words_by_layer

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])


def decoder_of(**settings):
    decoder = Decoder(DecoderConfig(8, **({"width": 12, "hidden": 7, "num_layers": 2} | settings)), seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():  # biases and gains that are not 0 and 1
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return decoder


def test_words_are_counted_and_have_one_row_in_every_layer_and_head():
    layers = words_by_layer(decoder_of(num_heads=3), TOKENS)
    assert len(layers) == 2
    for words in layers:
        assert words.ids.tolist() == [1, 2, 3, 4, 5, 6]
        assert words.counts.tolist() == [2, 1, 2, 1, 3, 1]
        assert words.attention_logits.shape == words.mean_attention.shape == (3, 6)
        assert words.token_weights.shape == words.unscaled_weights.shape == (3, 6, 7)


def test_the_mean_logit_over_words_is_that_of_all_queries_and_keys(tolerance):
    seen = []
    decoder = decoder_of(num_heads=2).eval()
    decoder(TOKENS, lambda _, q, k: seen.append((q.double(), k.double())))
    for words, (q, k) in zip(words_by_layer(decoder, TOKENS), seen, strict=True):
        logits = torch.einsum("blhe,csge->hg", q.movedim(1, 2), k.movedim(1, 2)).diagonal()
        mean = logits / math.sqrt(6) / TOKENS.numel() ** 2
        found = words.attention_logits @ words.counts / TOKENS.numel()
        assert found.tolist() == pytest.approx(mean.tolist(), abs=tolerance("decoder.parity"))


def test_mean_attention_is_a_distribution_over_words(tolerance):
    for words in words_by_layer(decoder_of(num_heads=2), TOKENS):
        assert (words.mean_attention > 0).all()
        assert words.mean_attention.sum(-1).tolist() == pytest.approx([1, 1], abs=tolerance("sums.float64"))


def test_without_layer_norm_weights_times_attention_are_what_attention_adds_to_the_preactivations(tolerance):
    decoder = decoder_of(layer_norm=False, num_layers=1, activation="identity").eval()
    tokens = torch.tensor([[3, 1, 4, 2, 5, 6]])  # every word once, so that its vector is one input
    (block,) = decoder.blocks
    hidden = []
    with torch.no_grad():
        decoder(tokens, observe_hidden=lambda _, values: hidden.append(values))
        without = block.mlp_lower(decoder.embedded(tokens) + block.attention_output(block.value.bias[None]))
    (words,) = words_by_layer(decoder, tokens)
    added = torch.einsum("hm,hmk->k", words.mean_attention, words.unscaled_weights)
    expected = (hidden[0] - without).mean((0, 1))
    assert added.tolist() == pytest.approx(expected.tolist(), abs=tolerance("decoder.parity"))


def test_token_weights_do_not_depend_on_the_length_of_value_vectors(tolerance):
    decoder = decoder_of(layer_norm=False, num_layers=1)
    before = words_by_layer(decoder, TOKENS)[0].token_weights
    with torch.no_grad():
        decoder.blocks[0].value.weight.mul_(3)
    after = words_by_layer(decoder, TOKENS)[0].token_weights
    assert (after - before).abs().max() < tolerance("decoder.parity")


def test_slopes_are_the_mean_derivative_of_layer_norm(tolerance):
    norm = torch.nn.LayerNorm(5).double()
    with torch.no_grad():
        norm.weight.add_(torch.arange(5))
    inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    derivatives = torch.stack([torch.autograd.functional.jacobian(norm, row) for row in inputs])
    assert (_slopes(norm, inputs) - derivatives.mean(0).mT).abs().max() < tolerance("sums.float64")


def test_the_mode_of_the_network_and_its_modules_are_restored():
    decoder = decoder_of().train()
    words_by_layer(decoder, TOKENS)
    assert decoder.training
    assert not decoder.blocks[0].norm_attention._forward_pre_hooks


@pytest.mark.parametrize(
    ("settings", "tokens", "message"),
    [
        ({"mlp": False, "hidden": 200}, TOKENS, "with MLPs"),
        ({}, torch.full((2, 5), 3), "two different words"),
    ],
)
def test_networks_without_mlp_and_probes_of_one_word_are_refused(settings, tokens, message):
    with pytest.raises(InvalidArgument, match=message):
        words_by_layer(decoder_of(**settings), tokens)
