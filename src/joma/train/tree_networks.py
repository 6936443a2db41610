"""Networks whose connections form a tree of patches, with or without shared weights, trained many at a time.

The first layer reads patches of s neighbouring tokens, the next one patches of s outputs of the first, and so on up to
one vector, from which a linear layer reads the labels. Such networks fit laws in which every symbol of a level produces
s symbols of the level below. Small networks leave a processor idle most of the time, so M of them are trained as one:
each has its own weights, samples and number of samples, and no network changes another one's numbers.

Axes: M networks, B samples, L tokens of a sequence, P patches of a layer, W width, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from joma.errors import InvalidArgument, RunFailed
from joma.progress import Progress, silent
from joma.train.decoder import Decoder, DecoderConfig, seed_of

_NUM_AT_ONCE = 1024


@dataclass(frozen=True)
class TreeNetworkConfig:
    """The architecture of a network of patches.

    Args:
        vocabulary_size: number of tokens.
        patch: s, the number of neighbours that a unit reads.
        num_layers: of hidden units; sequences have ``patch ** num_layers`` tokens.
        num_labels: C.
        width: W, the number of hidden units of a patch.
        shared: whether the patches of a layer share their weights, which makes the network convolutional.
    """

    vocabulary_size: int
    patch: int
    num_layers: int
    num_labels: int
    width: int = 64
    shared: bool = False

    def __post_init__(self) -> None:
        for name, least in (("vocabulary_size", 2), ("patch", 2), ("num_layers", 1), ("num_labels", 2), ("width", 1)):
            if getattr(self, name) < least:
                required, received = f"at least {least}", f"{getattr(self, name)}"
                raise InvalidArgument(
                    "TreeNetworkConfig", name, required=required, received=received, remedy=f"take {least} or more"
                )

    @property
    def length(self) -> int:
        """The number of tokens of a sequence."""
        return self.patch**self.num_layers


class TreeNetworks(nn.Module):
    """Networks of one architecture, each with its own weights.

    Args:
        config: the architecture.
        seeds: of the initial weights, one for each network; a network does not depend on those next to it.
    """

    def __init__(self, config: TreeNetworkConfig, seeds: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        num, width = len(seeds), config.width
        inputs = [config.patch * size for size in (config.vocabulary_size, *[width] * (config.num_layers - 1))]
        patches = [1 if config.shared else config.patch**above for above in reversed(range(config.num_layers))]
        self.lower = nn.ParameterList(
            torch.empty(num, *shape, width) for shape in zip(patches, inputs, strict=True)
        )  # (M, P, inputs, W)
        self.biases = nn.ParameterList(torch.zeros(num, count, 1, width) for count in patches)
        self.output = nn.Parameter(torch.empty(num, width, config.num_labels))
        self.output_bias = nn.Parameter(torch.zeros(num, 1, config.num_labels))
        with torch.no_grad():
            for network, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed_of(seed, "tree network"))
                for weight in self.lower:
                    weight[network].normal_(0, math.sqrt(2 / weight.shape[-2]), generator=generator)
                self.output[network].normal_(0, 1 / math.sqrt(width), generator=generator)

    def hidden(self, tokens: Int[Tensor, "M B L"]) -> list[Float[Tensor, "M B P W"]]:
        """Return the hidden units of every layer, the lowest layer first; all networks may share tokens with M = 1."""
        if tokens.dim() != 3 or tokens.shape[-1] != self.config.length or len(tokens) not in (1, len(self.output)):
            required = f"(networks, samples, {self.config.length})"
            received, remedy = (
                f"of shape {tuple(tokens.shape)}",
                "pass as many tokens as the tree of patches has leaves",
            )
            raise InvalidArgument("hidden", "tokens", required=required, received=received, remedy=remedy)
        x = one_hot(tokens, self.config.vocabulary_size).to(self.output).transpose(1, 2)  # (M, L, B, V)
        x = x.expand(len(self.output), -1, -1, -1)
        layers = []
        for weight, bias in zip(self.lower, self.biases, strict=True):
            num, places, samples, size = x.shape
            x = x.reshape(num, places // self.config.patch, self.config.patch, samples, size)
            x = x.transpose(2, 3).flatten(-2)  # (M, P, B, inputs)
            x = torch.relu(x @ weight + bias)
            layers.append(x.transpose(1, 2))
        return layers

    def forward(self, tokens: Int[Tensor, "M B L"]) -> Float[Tensor, "M B C"]:
        """Return the logits of the labels."""
        return self.hidden(tokens)[-1].squeeze(2) @ self.output + self.output_bias


class Decoders(nn.Module):
    """Decoders of one architecture that predict labels, trained in the same way; see ``TreeNetworks``."""

    def __init__(self, config: DecoderConfig, seeds: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(Decoder(config, seed) for seed in seeds)

    def forward(self, tokens: Int[Tensor, "M B L"]) -> Float[Tensor, "M B C"]:
        """Return the logits of the labels."""
        return torch.stack([member(part, last_only=True) for member, part in zip(self.members, tokens, strict=True)])


@dataclass(frozen=True)
class Schedule:
    """How networks are trained: Adam on batches drawn with replacement.

    Args:
        num_steps: optimiser steps.
        learning_rate: constant.
        batch_size: samples of a step.
    """

    num_steps: int
    learning_rate: float = 3e-3
    batch_size: int = 128


def learn(
    networks: TreeNetworks | Decoders,
    tokens: Int[Tensor, "M N L"],
    labels: Int[Tensor, "M N"],
    num_samples: Sequence[int],
    schedule: Schedule,
    *,
    progress: Progress = silent,
) -> None:
    """Train each network on the first of its samples, in place.

    Args:
        networks: M of them.
        tokens, labels: the samples of each network.
        num_samples: how many of them each network sees, at most N.
        schedule: of the training; the batches of a network depend on its place among the networks alone.
        progress: called now and then with the number of steps.

    Raises:
        RunFailed: a loss is not finite.
    """
    sizes = torch.tensor(num_samples)
    if sizes.shape != labels.shape[:1] or int(sizes.min()) < 1 or int(sizes.max()) > labels.shape[1]:
        required = f"{len(labels)} whole numbers from 1 to {labels.shape[1]}"
        remedy = "draw more samples, or train on fewer"
        raise InvalidArgument("learn", "num_samples", required=required, received=f"{num_samples}", remedy=remedy)
    optimizer = torch.optim.Adam(networks.parameters(), lr=schedule.learning_rate)
    generators = [torch.Generator().manual_seed(seed_of("batches", place)) for place in range(len(sizes))]
    rows = torch.arange(len(sizes))[:, None]
    for step in range(schedule.num_steps):
        if step % 100 == 0:
            progress("training networks of patches", step, schedule.num_steps)
        uniform = torch.stack([torch.rand(schedule.batch_size, generator=generator) for generator in generators])
        chosen = (uniform * sizes[:, None]).long()
        losses = _losses(networks, tokens[rows, chosen], labels[rows, chosen])
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    if not bool(losses.isfinite().all()):
        raise RunFailed("the loss is not finite", kept="nothing", remedy="take a smaller learning rate")


def _losses(networks: nn.Module, tokens: Tensor, labels: Tensor) -> Float[Tensor, " M"]:
    logits = networks(tokens)
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(-1)


@torch.no_grad()
def error_rates(networks: nn.Module, tokens: Int[Tensor, "M B L"], labels: Int[Tensor, "M B"]) -> Float[Tensor, " M"]:
    """Return the share of samples whose label each network gets wrong."""
    parts = [networks(part).argmax(-1) for part in tokens.split(_NUM_AT_ONCE, dim=1)]
    return (torch.cat(parts, dim=1) != labels).double().mean(-1)
