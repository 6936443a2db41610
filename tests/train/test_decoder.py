import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from joma.errors import InvalidArgument
from joma.train.decoder import Decoder, DecoderConfig, Dropout, sinusoids

SMALL = DecoderConfig(vocabulary_size=50, width=16, num_heads=2, hidden=24, num_layers=2)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_block_agrees_with_the_encoder_layer_of_torch(activation, tolerance):
    ours = Decoder(replace(SMALL, activation=activation, num_layers=1), seed=3).eval()
    block = ours.blocks[0]
    theirs = nn.TransformerEncoderLayer(16, 2, 24, activation=activation, batch_first=True).eval()
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([block.query_key.weight, block.value.weight]),
            "self_attn.in_proj_bias": torch.cat([block.query_key.bias, block.value.bias]),
            "self_attn.out_proj.weight": block.attention_output.weight,
            "self_attn.out_proj.bias": block.attention_output.bias,
            "linear1.weight": block.mlp_lower.weight,
            "linear1.bias": block.mlp_lower.bias,
            "linear2.weight": block.mlp_upper.weight,
            "linear2.bias": block.mlp_upper.bias,
            "norm1.weight": block.norm_attention.weight,
            "norm1.bias": block.norm_attention.bias,
            "norm2.weight": block.norm_mlp.weight,
            "norm2.bias": block.norm_mlp.bias,
        }
    )
    x = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(1))
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    with torch.no_grad():
        expected = theirs(x, src_mask=mask, is_causal=True)
        assert (block(x) - expected).abs().max() <= tolerance("decoder.parity")


def test_initial_weights_are_distributed_as_in_torch_and_the_word_model():
    decoder = Decoder(DecoderConfig(vocabulary_size=300, width=64, hidden=100))
    block = decoder.blocks[0]
    bounds = {
        decoder.embedding.weight: 0.1,
        decoder.output.weight: 0.1,
        block.query_key.weight: math.sqrt(6 / (4 * 64)),
        block.value.weight: math.sqrt(6 / (4 * 64)),
        block.attention_output.weight: 1 / 8,
        block.mlp_lower.weight: 1 / 8,
        block.mlp_lower.bias: 1 / 8,
        block.mlp_upper.weight: 1 / 10,
        block.mlp_upper.bias: 1 / 10,
    }
    for weight, bound in bounds.items():
        assert 0.9 * bound < weight.abs().max() <= bound  # the largest of at least 64 even draws
    zero = [decoder.output, block.query_key, block.value, block.attention_output, block.norm_attention, block.norm_mlp]
    assert all((layer.bias == 0).all() for layer in zero)


def test_logits_do_not_depend_on_later_tokens():
    decoder = Decoder(SMALL).eval()
    text, changed = tokens(2, 12), tokens(2, 12)
    changed[:, 7] = (changed[:, 7] + 1) % 50
    with torch.no_grad():
        before, after = decoder(text), decoder(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


def test_observer_gets_the_inputs_of_attention_and_changes_nothing(tolerance):
    decoder = Decoder(SMALL).eval()
    seen = {}
    with torch.no_grad():
        plain = decoder(tokens(3, 10))
        assert torch.equal(decoder(tokens(3, 10), observe=lambda layer, q, k: seen.update({layer: (q, k)})), plain)
        x = torch.add(sinusoids(10, 16), decoder.embedding(tokens(3, 10)), alpha=4.0)
        expected = decoder.blocks[0].query_key(x)[..., 16:].unflatten(-1, (2, 8)).transpose(1, 2)
    assert sorted(seen) == [0, 1]
    assert all(part.shape == (3, 2, 10, 8) for pair in seen.values() for part in pair)
    assert (seen[0][1] - expected).abs().max() <= tolerance("decoder.parity")


def test_last_only_gives_the_same_logits_and_gradients(tolerance):
    whole, last = Decoder(SMALL).train(False), Decoder(SMALL).train(False)
    expected, found = whole(tokens(3, 10))[:, -1], last(tokens(3, 10), last_only=True)
    assert found.shape == (3, 50)
    assert (found - expected).abs().max() <= tolerance("decoder.parity")
    for logits in (expected, found):
        nn.functional.cross_entropy(logits, tokens(3)).backward()
    for name, weight in whole.named_parameters():
        assert (last.get_parameter(name).grad - weight.grad).abs().max() <= tolerance("decoder.parity"), name


def test_last_only_has_one_query_in_the_last_layer(tolerance):
    decoder = Decoder(SMALL).eval()
    seen = {False: {}, True: {}}
    with torch.no_grad():
        for last_only, parts in seen.items():
            decoder(
                tokens(3, 10),
                lambda layer, q, k, parts=parts: parts.update({("q", layer): q, ("k", layer): k}),
                lambda layer, hidden, parts=parts: parts.update({("hidden", layer): hidden}),
                last_only=last_only,
            )
    assert seen[True]["q", 1].shape == (3, 2, 1, 8)
    assert seen[True]["hidden", 1].shape == (3, 1, 24)
    for place, full in seen[False].items():
        found = seen[True][place]
        axis = 1 if place[0] == "hidden" else 2
        assert (found - full.narrow(axis, 10 - found.shape[axis], found.shape[axis])).abs().max() <= tolerance(
            "decoder.parity"
        )


def test_hidden_observer_gets_units_after_the_activation_and_changes_nothing(tolerance):
    decoder = Decoder(SMALL).eval()
    entered, seen = [], {}
    for block in decoder.blocks:
        block.mlp_lower.register_forward_hook(lambda _, given, out: entered.append(out))
    with torch.no_grad():
        plain = decoder(tokens(3, 10))
        watched = decoder(tokens(3, 10), observe_hidden=lambda layer, hidden: seen.update({layer: hidden}))
        assert torch.equal(watched, plain)
    assert sorted(seen) == [0, 1]
    for layer, hidden in seen.items():
        assert torch.equal(hidden, entered[2 + layer].clamp_min(0))
    without = Decoder(replace(SMALL, mlp=False, hidden=200)).eval()
    without(tokens(3, 10), observe_hidden=lambda layer, hidden: pytest.fail("there is none"))


def test_num_outputs_changes_only_the_output_layer():
    words, labels = Decoder(SMALL, seed=5), Decoder(replace(SMALL, num_outputs=7), seed=5)
    assert labels(tokens(3, 10)).shape == (3, 10, 7)
    for name, weight in labels.named_parameters():
        assert name.startswith("output") or torch.equal(weight, words.get_parameter(name)), name


def test_variants_with_the_same_seed_share_weights():
    full = Decoder(SMALL, seed=5)
    for change in ({"mlp": False, "hidden": 200}, {"layer_norm": False}, {"activation": "identity"}):
        other = Decoder(replace(SMALL, **change), seed=5)
        for name, weight in other.named_parameters():
            assert torch.equal(weight, full.get_parameter(name)), name
    assert not torch.equal(Decoder(SMALL, seed=6).output.weight, full.output.weight)


def test_frozen_value_path_is_not_trained():
    decoder = Decoder(replace(SMALL, train_value_path=False))
    before = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
    optimizer = torch.optim.Adam([weight for weight in decoder.parameters() if weight.requires_grad])
    decoder.loss(tokens(2, 8), tokens(2, 8, seed=1)).backward()
    optimizer.step()
    frozen = {name for name, weight in decoder.named_parameters() if torch.equal(weight, before[name])}
    assert frozen == {
        f"blocks.{layer}.{part}.{kind}"
        for layer in (0, 1)
        for part in ("value", "attention_output")
        for kind in ("weight", "bias")
    }


def test_mlp_with_identity_activation_is_linear(tolerance):
    block = Decoder(replace(SMALL, activation="identity", layer_norm=False)).eval().blocks[0]
    with torch.no_grad():
        for layer in (block.value, block.attention_output):
            layer.weight.zero_()  # leaves the residual stream and the MLP
        a, b = (torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        zero = block(torch.zeros_like(a))
        assert (block(a + b) - block(a) - block(b) + zero).abs().max() <= tolerance("decoder.parity")


@pytest.mark.parametrize("residual", ["both", "attention", "mlp", "none"])
def test_residual_connections_are_those_around_the_named_branches(residual, tolerance):
    block = Decoder(replace(SMALL, residual=residual)).eval().blocks[0]
    x = torch.randn(3, 9, 16, generator=torch.Generator().manual_seed(1))
    entered = {}
    for name in ("norm_attention", "norm_mlp", "attention_output", "mlp_upper", "mlp_lower"):
        place = block.get_submodule(name)
        place.register_forward_hook(lambda _, given, out, name=name: entered.update({name: (given[0], out)}))
    with torch.no_grad():
        block(x)
    for branch, norm, last, stream in (
        ("attention", "norm_attention", "attention_output", x),
        ("mlp", "norm_mlp", "mlp_upper", entered["mlp_lower"][0]),
    ):
        expected = entered[last][1] + (stream if residual in ("both", branch) else 0)
        assert (entered[norm][0] - expected).abs().max() <= tolerance("decoder.parity"), branch


def test_frozen_output_path_is_not_trained():
    decoder = Decoder(replace(SMALL, train_output_path=False))
    frozen = {name for name, weight in decoder.named_parameters() if not weight.requires_grad}
    upper = {f"blocks.{layer}.mlp_upper.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}
    assert frozen == {"output.weight", "output.bias"} | upper


def test_initial_scale_multiplies_what_is_drawn_and_nothing_else(tolerance):
    base, scaled = Decoder(SMALL, seed=4), Decoder(replace(SMALL, initial_scale=2.0), seed=4)
    for name, weight in scaled.named_parameters():
        factor = 1 if ".norm" in name else 2
        assert (weight - factor * base.get_parameter(name)).abs().max() <= tolerance("decoder.parity"), name


def test_lower_weights_are_those_of_each_layer():
    decoder = Decoder(SMALL)
    assert [tuple(weight.shape) for weight in decoder.lower_weights()] == [(24, 16), (24, 16)]
    assert Decoder(replace(SMALL, mlp=False, hidden=200)).lower_weights() == []


def test_unigram_bias_needs_log_frequencies():
    frequencies = torch.arange(1.0, 51).log()
    decoder = Decoder(replace(SMALL, output_bias="unigram"), log_frequencies=frequencies)
    assert torch.equal(decoder.output.bias, frequencies)
    with pytest.raises(InvalidArgument, match="missing"):
        Decoder(replace(SMALL, output_bias="unigram"))
    with pytest.raises(InvalidArgument, match="given"):
        Decoder(SMALL, log_frequencies=frequencies)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.0])
def test_dropout_zeroes_its_share_and_keeps_the_mean(probability, tolerance):
    torch.manual_seed(0)
    x = torch.ones(1001, 999, requires_grad=True)  # no multiple of four entries
    dropped = x * Dropout().of_units(x, probability)
    assert abs((dropped == 0).double().mean().item() - probability) <= tolerance("dropout.share")
    assert abs(dropped.double().mean().item() - 1) <= tolerance("dropout.share") / (1 - probability)
    assert len(dropped.unique()) == (1 if probability == 0 else 2)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped)
    kept = (dropped > 0).double().flatten()
    for lag in (1, 2, 3, 4):  # entries that share a draw are independent all the same
        both = (kept[:-lag] * kept[lag:]).mean().item()
        assert abs(both - (1 - probability) ** 2) <= tolerance("dropout.share")


def test_positions_are_sinusoids_of_growing_wavelength(tolerance):
    table = sinusoids(40, 8).double()
    for position in (0, 1, 17, 39):
        for pair in range(4):
            angle = position / 10_000 ** (2 * pair / 8)
            assert abs(table[position, 2 * pair].item() - math.sin(angle)) <= tolerance("decoder.positions")
            assert abs(table[position, 2 * pair + 1].item() - math.cos(angle)) <= tolerance("decoder.positions")


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary_size": 1},
        {"width": 15},
        {"width": 18, "num_heads": 4},
        {"num_layers": 0},
        {"dropout": 1.0},
        {"activation": "swish"},
        {"output_bias": "one"},
        {"mlp": False, "activation": "gelu"},
        {"mlp": False, "hidden": 32},
        {"mlp": False, "residual": "attention"},
        {"residual": "some"},
        {"initial_scale": 0.0},
        {"num_outputs": 1},
        {"num_outputs": 3, "output_bias": "unigram"},
    ],
)
def test_invalid_decoder_settings_are_refused(change):
    with pytest.raises(InvalidArgument):
        replace(SMALL, **change)
