"""A Transformer decoder that predicts the next token or a label: the network of the paper's Figure 6.

Embedding and sinusoidal positions, then blocks of causal attention and an MLP with LayerNorm after each residual
sum, then a linear output layer. For ablations, the MLP can be linear or absent, LayerNorm and residual connections
absent, the value path frozen, and what lies above the hidden units frozen; callbacks receive queries, keys and hidden
units without changing the computation.

Axes: B sequences, H heads, L positions, E dimensions of a head, V vocabulary, D width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, scaled_dot_product_attention

from joma.domains import FRACTION, POSITIVE
from joma.errors import InvalidArgument
from joma.train.products import Linear, linear, output_loss

Observer = Callable[[int, Tensor, Tensor], None]
"""Callback (layer, queries, keys), both (B, H, L, E), with the inputs of the attention kernel."""

HiddenObserver = Callable[[int, Tensor], None]
"""Callback (layer, hidden), with the hidden units of the MLP after the activation, (B, L, K)."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "identity": lambda hidden: hidden,
    "tanh": torch.tanh,
    "gelu": gelu,
}


@dataclass(frozen=True)
class DecoderConfig:
    """The architecture of a decoder.

    Args:
        vocabulary_size: number of tokens.
        width: dimension of the residual stream; a multiple of ``num_heads``.
        num_heads: attention heads per layer.
        hidden: hidden units of each MLP.
        num_layers: number of blocks.
        activation: the activation of the MLP; ``identity`` makes it linear.
        mlp: whether blocks have an MLP.
        layer_norm: whether each residual sum is normalised.
        residual: the branches around which there is a residual connection.
        dropout: probability on embeddings, attention weights, hidden units and both branches; rounded to 1/65,536.
        train_value_path: whether value and attention output projections are trained.
        train_output_path: whether the MLP's upper weights and the output layer are trained, through which the gradient
            arrives at the hidden units.
        initial_scale: factor on all initial weights and biases that are drawn at random.
        output_bias: initial output bias: ``zero``, or ``unigram`` for the log frequencies of the training tokens.
        num_outputs: number of labels; ``None`` to predict the next token.
    """

    vocabulary_size: int
    width: int = 200
    num_heads: int = 1
    hidden: int = 200
    num_layers: int = 1
    activation: Literal["relu", "identity", "tanh", "gelu"] = "relu"
    mlp: bool = True
    layer_norm: bool = True
    residual: Literal["both", "attention", "mlp", "none"] = "both"
    dropout: float = 0.2
    train_value_path: bool = True
    train_output_path: bool = True
    initial_scale: float = 1.0
    output_bias: Literal["zero", "unigram"] = "zero"
    num_outputs: int | None = None
    model_type: ClassVar[str] = "joma"  # the model family, as in configurations of transformers
    is_causal: ClassVar[bool] = True  # whether positions see earlier ones only

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "width", "num_heads", "hidden", "num_layers"):
            least = 2 if name in ("vocabulary_size", "width") else 1
            if getattr(self, name) < least:
                raise _bad(name, f"at least {least}", f"{getattr(self, name)}", "take more")
        FRACTION.check(self.dropout, "DecoderConfig", "dropout")
        if self.width % self.num_heads or self.width % 2:
            remedy = "choose a width that both 2 and num_heads divide"
            raise _bad("width", f"an even multiple of num_heads={self.num_heads}", f"{self.width}", remedy)
        if self.activation not in ACTIVATIONS:
            raise _bad("activation", f"one of {', '.join(ACTIVATIONS)}", repr(self.activation), "name one of these")
        if self.output_bias not in ("zero", "unigram"):
            raise _bad("output_bias", "zero or unigram", repr(self.output_bias), "name one of these")
        if self.residual not in ("both", "attention", "mlp", "none"):
            raise _bad("residual", "both, attention, mlp or none", repr(self.residual), "name one of these")
        POSITIVE.check(self.initial_scale, "DecoderConfig", "initial_scale")
        for name, default in (("activation", "relu"), ("hidden", 200), ("residual", "both")):
            if not self.mlp and getattr(self, name) != default:
                raise _bad(name, "the default if mlp=False", "set", "leave it out, or set mlp=True")
        if self.num_outputs is not None:
            if self.num_outputs < 2:
                raise _bad("num_outputs", "at least 2, or None", f"{self.num_outputs}", "take one for each label")
            if self.output_bias == "unigram":
                raise _bad(
                    "output_bias", "zero if num_outputs is set", "'unigram'", "leave it out: labels are no tokens"
                )

    @property
    def num_logits(self) -> int:
        """The number of outputs: ``num_outputs``, or ``vocabulary_size`` if that is ``None``."""
        return self.vocabulary_size if self.num_outputs is None else self.num_outputs


class Decoder(nn.Module):
    """A decoder of the architecture of ``DecoderConfig``.

    Args:
        config: the architecture.
        seed: seed of the initial weights. Each weight is drawn from the seed and its own name, so that networks of
            different architectures but with the same seed share the weights that both have.
        log_frequencies: (V,) log frequencies of the training tokens, for ``output_bias="unigram"``.
    """

    def __init__(self, config: DecoderConfig, seed: int = 0, log_frequencies: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.output = Linear(config.width, config.num_logits).requires_grad_(config.train_output_path)
        self.register_buffer("positions", torch.empty(0, config.width), persistent=False)
        self._initialise(seed)
        if (log_frequencies is None) != (config.output_bias == "zero"):
            raise InvalidArgument(
                "Decoder",
                "log_frequencies",
                required="given if and only if output_bias='unigram'",
                received=f"{'missing' if log_frequencies is None else 'given'} with {config.output_bias!r}",
                remedy="count the training tokens, or leave both out",
            )
        if log_frequencies is not None:
            with torch.no_grad():
                self.output.bias.copy_(log_frequencies)

    @classmethod
    def from_weights(cls, config: DecoderConfig, weights: Mapping[str, Tensor]) -> Decoder:
        """Build a decoder with these weights, in evaluation mode.

        Raises:
            RuntimeError: the weights do not fit the configuration.
        """
        placeholder = torch.zeros(config.num_logits) if config.output_bias == "unigram" else None
        decoder = cls(config, log_frequencies=placeholder)
        decoder.load_state_dict(weights)
        return decoder.eval()

    def forward(
        self,
        tokens: Tensor,
        observe: Observer | None = None,
        observe_hidden: HiddenObserver | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Return the logits of the next token, or of the label; arguments are those of ``features``.

        Returns:
            (B, L, V), or (B, V) with ``last_only``; with ``num_outputs`` instead of V if that is set.
        """
        return self.output(self.features(tokens, observe, observe_hidden, last_only=last_only))

    def loss(
        self, tokens: Tensor, targets: Tensor, observe: Observer | None = None, *, dropout: Dropout | None = None
    ) -> Tensor:
        """Return the mean cross entropy in nats, without holding all logits; see ``output_loss``.

        Args:
            tokens: (B, L) integers below V.
            targets: (B, L) next tokens; or (B,) labels, which are predicted at the last position.
            observe, dropout: as in ``features``.
        """
        features = self.features(tokens, observe, last_only=targets.dim() == 1, dropout=dropout)
        return output_loss(features, self.output.weight, self.output.bias, targets)

    def features(
        self,
        tokens: Tensor,
        observe: Observer | None = None,
        observe_hidden: HiddenObserver | None = None,
        *,
        last_only: bool = False,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return the inputs of the output layer.

        Args:
            tokens: (B, L) integers below V.
            observe: called with the queries and keys of each layer.
            observe_hidden: called with the hidden units of each layer that has an MLP.
            last_only: compute those of the last position only; the last layer then has only one query and one row of
                hidden units.
            dropout: the factors in training mode; by default drawn from torch's default generator.

        Returns:
            (B, L, D), or (B, D) with ``last_only``.
        """
        x = self.embedded(tokens)
        dropout = (dropout or Dropout()) if self.training and self.config.dropout else None
        if dropout is not None:
            x = x * dropout.of_units(x, self.config.dropout)
        for layer, block in enumerate(self.blocks):
            x = block(
                x,
                observe and partial(observe, layer),
                observe_hidden and partial(observe_hidden, layer),
                last_only=last_only and self.config.is_causal and block is self.blocks[-1],
                dropout=dropout,
            )
        return self.summary(x) if last_only else x

    def summary(self, x: Tensor) -> Tensor:
        """Return what stands for a whole sequence: the last position, (B, D)."""
        return x[:, -1]

    def embedded(self, tokens: Tensor) -> Tensor:
        """Return embeddings with positions, the input of the first block, (B, L, D)."""
        positions = self._positions(tokens.shape[1])
        return torch.add(positions, self.embedding(tokens), alpha=math.sqrt(self.config.width))

    def lower_weights(self) -> list[Tensor]:
        """Return the lower MLP weights of each layer, (hidden, D); an empty list if there is no MLP."""
        blocks = self.blocks if self.config.mlp else ()
        return [block.get_parameter("mlp_lower.weight").detach() for block in blocks]

    def _positions(self, length: int) -> Tensor:
        if len(self.positions) < length:
            self.positions = self.position_vectors(length).to(self.embedding.weight)
        return self.positions[:length]

    def position_vectors(self, length: int) -> Tensor:
        """Return the vectors that are added to those of the tokens, (L, D)."""
        return sinusoids(length, self.config.width)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        """Draw initial weights: as in the paper's word model, and inside blocks as in torch's encoder layer."""
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            fan_in, scale = parameter.shape[-1], self.config.initial_scale
            if ".norm" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias") and ".mlp" not in name:
                parameter.zero_()
            elif name.startswith(("embedding", "output")):
                parameter.uniform_(-0.1 * scale, 0.1 * scale, generator=generator)
            elif "query_key" in name or "value" in name:  # Xavier for queries, keys and values stacked
                bound = scale * math.sqrt(6 / (4 * self.config.width))
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                if name.endswith("bias"):
                    fan_in = self.get_parameter(name.removesuffix("bias") + "weight").shape[1]
                bound = scale / math.sqrt(fan_in)
                parameter.uniform_(-bound, bound, generator=generator)


@contextmanager
def evaluating(decoder: Decoder) -> Generator[None]:
    """Put a decoder into evaluation mode, and restore its mode at the end."""
    was_training = decoder.training
    decoder.eval()
    try:
        yield
    finally:
        decoder.train(was_training)


class Block(nn.Module):
    """Causal self-attention and an MLP, with LayerNorm after each residual sum."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.query_key = Linear(width, 2 * width)
        self.value = Linear(width, width)
        self.attention_output = Linear(width, width)
        self.norm_attention = nn.LayerNorm(width) if config.layer_norm else nn.Identity()
        if config.mlp:
            self.mlp_lower = Linear(width, config.hidden)
            self.mlp_upper = Linear(config.hidden, width).requires_grad_(config.train_output_path)
            self.norm_mlp = nn.LayerNorm(width) if config.layer_norm else nn.Identity()
        if not config.train_value_path:
            self.value.requires_grad_(False)
            self.attention_output.requires_grad_(False)

    def forward(
        self,
        x: Tensor,
        observe: Callable[[Tensor, Tensor], None] | None = None,
        observe_hidden: Callable[[Tensor], None] | None = None,
        *,
        last_only: bool = False,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """Return the next residual stream (B, L, D), or only its last position (B, 1, D)."""
        config = self.config
        q, k = (self._heads(part) for part in self._queries_and_keys(x, last_only))
        if observe is not None:
            observe(q, k)
        is_causal = config.is_causal and not last_only
        if dropout is None:
            attended = scaled_dot_product_attention(q, k, self._heads(self.value(x)), is_causal=is_causal)
        else:
            factors = partial(dropout.of_attention, probability=config.dropout)
            attended = _attended(q, k, self._heads(self.value(x)), is_causal, factors)
        x = x[:, -1:] if last_only else x
        added = self._drop(self.attention_output(attended.transpose(1, 2).flatten(2)), dropout)
        x = self.norm_attention(self._joined("attention", x, added))
        if not config.mlp:
            return x
        hidden = ACTIVATIONS[config.activation](self.mlp_lower(x))
        if observe_hidden is not None:
            observe_hidden(hidden)
        added = self._drop(self.mlp_upper(self._drop(hidden, dropout)), dropout)
        return self.norm_mlp(self._joined("mlp", x, added))

    def _joined(self, branch: Literal["attention", "mlp"], x: Tensor, added: Tensor) -> Tensor:
        return x + added if self.config.residual in ("both", branch) else added

    def _queries_and_keys(self, x: Tensor, last_only: bool) -> Sequence[Tensor]:
        if not last_only:
            return self.query_key(x).chunk(2, dim=-1)
        weights, biases = self.query_key.weight.chunk(2), self.query_key.bias.chunk(2)
        return [linear(part, *pair) for part, *pair in zip((x[:, -1:], x), weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)

    def _drop(self, x: Tensor, dropout: Dropout | None) -> Tensor:
        return x if dropout is None else x * dropout.of_units(x, self.config.dropout)


def _attended(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, factors: Callable[[Tensor], Tensor]) -> Tensor:
    """Attention of queries (B, H, L, E) whose weights are multiplied by factors, as in torch's for dropout on a CPU."""
    root = math.sqrt(1 / math.sqrt(q.shape[-1]))
    scores = (q * root) @ (k * root).mT
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    weights = scores.softmax(-1)
    return (weights * factors(weights)) @ v


class Dropout:
    """Factors that set entries to zero at random and scale up the others.

    Args:
        generator: of random numbers; ``None`` for torch's default generator.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def of_units(self, x: Tensor, probability: float) -> Tensor:
        """Return factors for ``x``, of its shape, in a third of the time that torch's dropout takes on a CPU.

        Torch draws one uniform number per entry; here four entries share a draw of 64 bits, 16 bits each, so that the
        probability is rounded to a multiple of 1/65,536.
        """
        num_dropped = round(probability * 65536)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None, generator=self._generator)
        kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= num_dropped - 32768
        return kept.to(x.dtype).mul_(65536 / (65536 - num_dropped))

    def of_attention(self, weights: Tensor, probability: float) -> Tensor:
        """Return factors for attention weights, of their shape, as torch draws them on a CPU."""
        drawn = torch.empty(weights.shape, dtype=weights.dtype, device=weights.device)
        return drawn.bernoulli_(1 - probability, generator=self._generator).div_(1 - probability)


def sinusoids(length: int, width: int) -> Tensor:
    """Return sinusoidal positions of wavelengths from 2π to 10,000 · 2π, (``length``, ``width``) in float32."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def seed_of(*parts: object) -> int:
    """Return a seed that depends on all parts and is the same on every machine and in every process."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _bad(parameter: str, required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("DecoderConfig", parameter, required=required, received=received, remedy=remedy)
