"""A decoder with constructed weights, in which every latent of a hierarchy is one hidden unit of its layer.

It shows what the trained architecture can express, for comparison with training. The units of
``joma.expressive.circuit`` are embedded in the residual stream of a ``Decoder``; see docs/expressiveness.md. In short:

- the first attention is uniform, so that its value map sums up the presence of each token;
- bits are stored as pairs ±½ and ∓½, so that mean and norm are the same for every input and LayerNorm is a known
  factor, which its own weights cancel;
- only the last position attends to all tokens; units are 0 at all others, which the fastest sinusoids identify.

Axes: L positions, D width, M bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from joma.errors import InvalidArgument
from joma.expressive.circuit import Circuit, Units, circuit
from joma.measure.latents.alignment import correlations, max_pooled
from joma.problem.combinatorial import Combinatorial
from joma.train.decoder import Block, Decoder, DecoderConfig, sinusoids

LOGIT_SCALE = 10.0
"""The lead of the correct class in the logits, in nats."""


@dataclass(frozen=True)
class Needs:
    """The size of network that the construction needs.

    Args:
        num_layers: one for each level of latents, and a front layer if no single unit of the first layer can equal some
            latent of level 0.
        num_front_layers: 0 or 1; level s is in layer s + num_front_layers.
        width: dimension of the residual stream: coordinates for the gate, for the own token, and two for each bit.
        hidden: the largest number of units in a layer.
        num_heads: attention heads.
    """

    num_layers: int
    num_front_layers: int
    width: int
    hidden: int
    num_heads: int = 1


@dataclass(frozen=True)
class Expressed:
    """How exactly the units of a decoder equal the latents, over all classes.

    Args:
        accuracy: share of correctly predicted classes at the last position.
        worst_unit_error: largest distance of a latent's unit from its presence (0 or 1), at the last position and after
            max-pooling over positions.
        score: mean correlation of each latent with its max-pooled unit, a lower bound of that with the best unit.
            ``None`` if every latent is present in all classes or in none.
    """

    accuracy: float
    worst_unit_error: float
    score: float | None


def needs(law: Combinatorial) -> Needs:
    """Return the size of the network that ``expressive_decoder`` builds, without building it."""
    return _needs(circuit(law), law.length)


def expressive_decoder(law: Combinatorial) -> Decoder:
    """Construct a decoder in which latent i of level s is hidden unit i of its layer, and every prediction is correct.

    Args:
        law: a hierarchy in which every class has one set of tokens, in any order, left-padded to ``law.length``.

    Returns:
        a decoder in evaluation mode, exact for sequences of this length only.

    Raises:
        BadInput: presence is not a function of the input, or a latent needs more than one unit.
    """
    units = circuit(law)
    size = _needs(units, law.length)
    config = DecoderConfig(
        vocabulary_size=law.vocabulary_size,
        width=size.width,
        num_heads=size.num_heads,
        hidden=size.hidden,
        num_layers=size.num_layers,
        dropout=0.0,
        num_outputs=max(2, law.num_labels),  # a decoder has at least two outputs; an additional one stays 0
    )
    decoder = Decoder(config).eval()
    stream = _stream(size.width, law.length, len(units.tokens))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        _write_embedding(decoder, stream, units.tokens)
        num_bits = len(units.tokens)
        for layer, (block, found) in enumerate(zip(decoder.blocks, units.layers, strict=True)):
            assert isinstance(block, Block)
            if layer == 0:
                _write_token_bits(block, stream)
            _write_norm(block.norm_attention, stream, num_bits, own_token=layer == 0)
            _write_units(block, stream, found)
            num_bits += len(found.bias)
            _write_norm(block.norm_mlp, stream, num_bits)
        top = torch.from_numpy(units.readout)
        first = num_bits - len(units.layers[-1].bias)
        decoder.output.weight[: law.num_labels] = stream.read(2 * LOGIT_SCALE * top, first)
    return decoder


def check_expressive(decoder: Decoder, law: Combinatorial, *, shuffled: bool = False, seed: int = 0) -> Expressed:
    """Compare hidden unit i of each layer with latent i of its level, and predictions with labels, for all classes.

    Args:
        decoder: a decoder with at least as many layers as the hierarchy has levels; the last layer belongs to the top
            level, and so on downwards.
        law: the hierarchy.
        shuffled: whether the tokens of a sequence are in random order.
        seed: seed of that order.

    Raises:
        InvalidArgument: the decoder has too few layers, units, tokens or outputs for the hierarchy; a class has more
            than one input.
    """
    _check_fits(decoder.config, law)
    labels = torch.arange(law.num_labels)
    samples = law.sample(law.num_labels, torch.Generator().manual_seed(seed), labels, shuffled=shuffled)
    hidden: dict[int, Tensor] = {}
    with torch.no_grad():
        logits = decoder(samples.tokens, observe_hidden=hidden.__setitem__)[:, -1]
    errors, scores = [], []
    for layer, present in enumerate(samples.presence, start=len(hidden) - len(samples.presence)):
        units = hidden[layer][:, :, : present.shape[1]]
        pooled = max_pooled(units)
        errors += [(seen - present.to(seen.dtype)).abs().max() for seen in (units[:, -1], pooled)]
        scores.append(correlations(pooled, present).diagonal())
    score = float(torch.cat(scores).nanmean())
    return Expressed(
        accuracy=float((logits.argmax(-1) == labels).double().mean()),
        worst_unit_error=float(torch.stack(errors).max()),
        score=None if math.isnan(score) else score,
    )


def _check_fits(config: DecoderConfig, law: Combinatorial) -> None:
    if not law.is_table:
        raise InvalidArgument(
            "check_expressive",
            "law",
            required="a table, in which each class has one input",
            received="a hierarchy with random inputs",
            remedy="set show_probability=1 and give every latent one set of members",
        )
    least = {
        "num_layers": (config.num_layers if config.mlp else 0, len(law.level_sizes)),
        "hidden": (config.hidden, max(law.level_sizes, default=1)),
        "vocabulary_size": (config.vocabulary_size, law.vocabulary_size),
        "outputs": (config.num_logits, law.num_labels),
    }
    for name, (has, wanted) in least.items():
        if has < wanted:
            raise InvalidArgument(
                "check_expressive",
                "decoder",
                required=f"one with {name} of at least {wanted}, as in the hierarchy",
                received=f"one with {name} {has}",
                remedy="pass the decoder that expressive_decoder(law) builds, or the law that it was built for",
            )


class _Stream(NamedTuple):
    """The layout of the residual stream.

    Args:
        positions: (L, D) the sinusoids, in float64.
        gate: (D,) weights on a position's sinusoids minus those of the last position: their product is 0 at the last
            position and at most −margin before. They sum to 0, so that subtracting the mean in LayerNorm has no effect.
        margin: see ``gate``.
        own: the coordinates of the token at a position: one for each token, and one that makes their sum 0.
        plus, minus: (M,) the two coordinates of each bit.
    """

    positions: Tensor
    gate: Tensor
    margin: float
    own: Tensor
    plus: Tensor
    minus: Tensor

    def read(self, weights: Tensor, first: int = 0) -> Tensor:
        """Return weights (n, D) on the stream for ``weights`` (n, m) on the m bits from ``first`` on."""
        rows = weights.new_zeros(len(weights), len(self.gate))
        bits = slice(first, first + weights.shape[1])
        rows[:, self.plus[bits]] = weights / 2
        rows[:, self.minus[bits]] = -weights / 2
        return rows


def _needs(units: Circuit, length: int) -> Needs:
    num_units = [len(layer.bias) for layer in units.layers]
    num_tokens = len(units.tokens)
    coordinates = 2 * _num_rates(length) + 1 + num_tokens + 1 + 2 * (num_tokens + sum(num_units))
    return Needs(len(num_units), units.num_front_layers, coordinates + coordinates % 2, max(num_units))


def _num_rates(length: int) -> int:
    """The number of rates, each half of the previous one, for which no distance is a multiple of all wavelengths."""
    return 1 + max(0, math.ceil(math.log2(max(1, length - 1) / math.pi)))


def _stream(width: int, length: int, num_tokens: int) -> _Stream:
    positions = sinusoids(length, width).double()
    pairs = []
    for halvings in range(_num_rates(length)):
        nearest = round(halvings * math.log(2) / math.log(10_000) * width / 2)
        pairs.append(max(nearest, pairs[-1] + 1 if pairs else 0))
    at = torch.tensor([2 * pair + side for pair in pairs for side in (0, 1)])
    gate = torch.zeros(width, dtype=torch.float64)
    gate[at] = positions[-1, at]  # sin a sin b + cos a cos b = cos(a − b): 1 at the last position only
    gate[-1] = -gate.sum()  # the slowest cosine, which is nearly constant
    before = (positions[:-1] - positions[-1]) @ gate
    free = torch.tensor(sorted(set(range(width - 1)) - set(at.tolist())))
    own, bits = free[: num_tokens + 1], free[num_tokens + 1 :]
    num_bits = len(bits) // 2
    margin = float(-before.max()) if length > 1 else 1.0
    return _Stream(positions, gate, margin, own, bits[:num_bits], bits[num_bits : 2 * num_bits])


def _write_embedding(decoder: Decoder, stream: _Stream, tokens: tuple[int, ...]) -> None:
    """Write L into the coordinate of the token and −L into the one that balances it; zeros for padding."""
    rows = torch.tensor(tokens)
    size = len(stream.positions) / math.sqrt(decoder.config.width)  # the decoder multiplies by √D
    decoder.embedding.weight[rows, stream.own[:-1]] = size
    decoder.embedding.weight[rows, stream.own[-1]] = -size


def _write_token_bits(block: Block, stream: _Stream) -> None:
    """Write uniform attention, whose mean over tokens is their presence, and subtract the last position's sinusoids."""
    own = stream.own[:-1]
    plus, minus = stream.plus[: len(own)], stream.minus[: len(own)]
    block.value.weight[plus, own] = 1.0
    block.value.weight[minus, own] = -1.0
    block.attention_output.weight.fill_diagonal_(1.0)
    offset = -stream.positions[-1]
    sinusoids_seen = stream.positions.mean(0)[own]
    offset[plus] -= sinusoids_seen + 0.5
    offset[minus] += sinusoids_seen + 0.5
    block.attention_output.bias.copy_(offset)


def _write_norm(norm: nn.Module, stream: _Stream, num_bits: int, own_token: bool = False) -> None:
    """Cancel the normalisation at a last position with ``num_bits`` bits, and keep only these and the gate."""
    assert isinstance(norm, nn.LayerNorm)
    width, length = len(stream.gate), len(stream.positions)
    squares = num_bits / 2 + (2 * length**2 if own_token else 0)
    kept = torch.cat([stream.gate.nonzero()[:, 0], stream.plus[:num_bits], stream.minus[:num_bits]])
    norm.weight[kept] = math.sqrt(squares / width + norm.eps)


def _write_units(block: Block, stream: _Stream, units: Units) -> None:
    """Write weights and gate of each unit, and add its bit to the stream."""
    weights, bias = torch.from_numpy(units.weights), torch.from_numpy(units.bias)
    bias = bias + weights.sum(1) / 2  # the stream contains bits minus ½
    length, num_units = len(stream.positions), len(bias)
    # At earlier positions a token counts up to L times, and every other bit is within ±5/2. LayerNorm scales these
    # and the gate by the same factor, but not the bias: a factor of 100 covers a positive bias.
    highest = length * weights.abs().amax(1) + 2.5 * weights.abs().sum(1) + 100 * bias.clamp(min=0)
    rows = stream.read(weights) + (2 / stream.margin * highest)[:, None] * stream.gate
    block.mlp_lower.weight[:num_units] = rows.to(block.mlp_lower.weight)
    block.mlp_lower.bias[:num_units] = bias.to(block.mlp_lower.bias)
    new = torch.arange(weights.shape[1], weights.shape[1] + num_units)
    plus, minus, unit = stream.plus[new], stream.minus[new], torch.arange(num_units)
    block.mlp_upper.weight[plus, unit] = 1.0
    block.mlp_upper.weight[minus, unit] = -1.0
    block.mlp_upper.bias[plus] = -0.5
    block.mlp_upper.bias[minus] = 0.5
