"""Our decoder with weights written down, not trained: every latent of a hierarchy is one hidden unit of its layer.

What can be expressed, to be held beside what training finds. The units are those of ``joma.expressive.circuit``; here
they are laid out in the residual stream of the very network that is trained. Why it works is told in
docs/expressiveness.md; in short:

- the first attention is uniform, so that its value map adds up to the presence of each token;
- everything is kept as a pair of ±½ and ∓½: mean and length are then the same for every input, so that LayerNorm is
  a known factor, which its own weights undo;
- only the last position has seen everything; a unit is silent everywhere else, since the fastest sinusoids tell.

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
"""By how much the right class leads, in nats."""


@dataclass(frozen=True)
class Needs:
    """The size of network that the construction takes.

    Args:
        num_layers: one for each level of latents, and one in front where some latent of level 0 cannot be read off
            the tokens by one unit.
        num_front_layers: 0 or 1; level s lies in layer s + num_front_layers.
        width: of the residual stream: coordinates for the gate, for the own token, and two for each bit.
        feed_forward: the most units that a layer has.
        num_heads: attention heads.
    """

    num_layers: int
    num_front_layers: int
    width: int
    feed_forward: int
    num_heads: int = 1


@dataclass(frozen=True)
class Expressed:
    """How exactly a decoder's units are the latents, over every class.

    Args:
        accuracy: share of classes named right at the last position.
        worst_unit_error: largest distance of a latent's own unit from 1 where it is present and from 0 where not,
            at the last position and after max-pooling over positions.
        score: mean correlation of each latent with its own max-pooled unit; the best unit's is no lower. ``None``
            if every latent is present in all classes or in none.
    """

    accuracy: float
    worst_unit_error: float
    score: float | None


def needs(law: Combinatorial) -> Needs:
    """Return the size of the network that ``expressive_decoder`` builds, without building it."""
    return _needs(circuit(law), law.length)


def expressive_decoder(law: Combinatorial) -> Decoder:
    """Write down a decoder in which latent i of level s is hidden unit i of its layer, and every class is right.

    Args:
        law: every class shows one set of tokens of its own, in any order, padded in front to ``law.length``.

    Returns:
        A decoder in evaluation mode. Only sequences of this length are promised anything.

    Raises:
        BadInput: presence is no function of the input, or a latent would have to be more than one unit.
    """
    units = circuit(law)
    size = _needs(units, law.length)
    config = DecoderConfig(
        vocabulary_size=law.vocabulary_size,
        width=size.width,
        num_heads=size.num_heads,
        feed_forward=size.feed_forward,
        num_layers=size.num_layers,
        dropout=0.0,
        num_outputs=max(2, law.num_labels),  # a decoder has two outputs at least; one too many stays at 0
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
    """Hold a decoder against every class of a hierarchy; latent i of level s must be hidden unit i of its layer.

    Args:
        decoder: has at least as many layers as the hierarchy has levels; level s belongs to the layer that is as
            far from the last as s is from the top level.
        law: what it should express.
        shuffled: whether the tokens of a sequence stand in random order.
        seed: of that order.

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
            required="a table, so that one input a class is all there is to check",
            received="a hierarchy with random inputs",
            remedy="set show_probability=1 and give every latent one set of members",
        )
    least = {
        "num_layers": (config.num_layers if config.mlp else 0, len(law.level_sizes)),
        "feed_forward": (config.feed_forward, max(law.level_sizes, default=1)),
        "vocabulary_size": (config.vocabulary_size, law.vocabulary_size),
        "outputs": (config.num_logits, law.num_labels),
    }
    for name, (has, wanted) in least.items():
        if has < wanted:
            raise InvalidArgument(
                "check_expressive",
                "decoder",
                required=f"one with {name} of at least {wanted}, as the hierarchy has it",
                received=f"one with {name} {has}",
                remedy="pass the decoder that expressive_decoder(law) builds, or the law that it was built for",
            )


class _Stream(NamedTuple):
    """What each coordinate of the residual stream is for.

    Args:
        positions: (L, D) the sinusoids, in float64.
        gate: (D,) times a position's sinusoids less the last one's: 0 at the last position, at most −margin before;
            it adds up to 0, so that the mean which LayerNorm takes away does not touch it.
        margin: how clearly.
        own: one coordinate for each token and one more to balance it: the token of the position itself.
        plus, minus: (M,) the two coordinates of each bit.
    """

    positions: Tensor
    gate: Tensor
    margin: float
    own: Tensor
    plus: Tensor
    minus: Tensor

    def read(self, weights: Tensor, first: int = 0) -> Tensor:
        """Weights on the stream for ``weights`` (n, m) on m bits from ``first`` on, as ±½ each; (n, D)."""
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
    """How many halvings of the fastest rate it takes until no distance is a whole wavelength for all of them."""
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
    gate[-1] = -gate.sum()  # the slowest cosine, as good as constant
    before = (positions[:-1] - positions[-1]) @ gate
    free = torch.tensor(sorted(set(range(width - 1)) - set(at.tolist())))
    own, bits = free[: num_tokens + 1], free[num_tokens + 1 :]
    num_bits = len(bits) // 2
    margin = float(-before.max()) if length > 1 else 1.0
    return _Stream(positions, gate, margin, own, bits[:num_bits], bits[num_bits : 2 * num_bits])


def _write_embedding(decoder: Decoder, stream: _Stream, tokens: tuple[int, ...]) -> None:
    """L in the token's own coordinate and −L in the one they share; nothing for padding."""
    rows = torch.tensor(tokens)
    size = len(stream.positions) / math.sqrt(decoder.config.width)  # the decoder multiplies by √D
    decoder.embedding.weight[rows, stream.own[:-1]] = size
    decoder.embedding.weight[rows, stream.own[-1]] = -size


def _write_token_bits(block: Block, stream: _Stream) -> None:
    """Uniform attention: the mean of the own tokens is their presence. The position's own sinusoids go."""
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
    """Undo the normalisation of a last position that holds so many bits, and keep only them and the gate."""
    assert isinstance(norm, nn.LayerNorm)
    width, length = len(stream.gate), len(stream.positions)
    squares = num_bits / 2 + (2 * length**2 if own_token else 0)
    kept = torch.cat([stream.gate.nonzero()[:, 0], stream.plus[:num_bits], stream.minus[:num_bits]])
    norm.weight[kept] = math.sqrt(squares / width + norm.eps)


def _write_units(block: Block, stream: _Stream, units: Units) -> None:
    """Each unit's weights and gate, and its own bit in the stream."""
    weights, bias = torch.from_numpy(units.weights), torch.from_numpy(units.bias)
    bias = bias + weights.sum(1) / 2  # bits stand in the stream less ½
    length, num_units = len(stream.positions), len(bias)
    # An earlier position sees a token up to L times as strongly, and every other bit within ±5/2. LayerNorm shrinks
    # that and the gate alike, but not the bias: where that is above 0, a hundredfold leaves room.
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
