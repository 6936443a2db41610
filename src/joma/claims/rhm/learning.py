"""Learning curves of tree-shaped networks on Random Hierarchy Models: errors for several numbers of samples.

Axes: R seeds, P numbers of samples, N samples, L tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from joma.errors import RunFailed
from joma.problem.random_hierarchy import RandomHierarchy
from joma.progress import Progress, silent
from joma.threads import threads
from joma.train.decoder import DecoderConfig, seed_of
from joma.train.tree_networks import Decoders, Schedule, TreeNetworkConfig, TreeNetworks, error_rates, learn

NUM_SYMBOLS, NUM_CLASSES = 32, 8
"""v and n_c, where a case does not say otherwise."""

HALF, TENTH = 0.5, 0.1
"""Shares of the error of guessing: where a law counts as half learned, and as learned."""

_DRAWS_PER_INPUT = 4


@dataclass(frozen=True)
class Case:
    """A Random Hierarchy Model with tuples of two, without its seed.

    Args:
        num_synonyms: m.
        depth: L.
        num_classes: n_c.
        num_symbols: v.
        uncorrelated: as in ``RandomHierarchy``.
    """

    num_synonyms: int
    depth: int
    num_classes: int = NUM_CLASSES
    num_symbols: int = NUM_SYMBOLS
    uncorrelated: bool = False

    def law(self, seed: int) -> RandomHierarchy:
        """Return the law with the rules of a seed."""
        return RandomHierarchy(
            self.num_classes,
            self.num_symbols,
            self.num_synonyms,
            depth=self.depth,
            seed=seed,
            uncorrelated=self.uncorrelated,
        )

    @property
    def scale(self) -> int:
        """The predicted number of samples, n_c m^L."""
        return self.num_classes * self.num_synonyms**self.depth

    @property
    def scale_of_shallow(self) -> float:
        """That of a network that does not use the hierarchy, n_c m^((s^L − 1)/(s − 1)): the number of all inputs."""
        return float(self.num_classes * self.num_synonyms ** (2**self.depth - 1))

    @property
    def guessing(self) -> float:
        """The error rate of guessing."""
        return 1 - 1 / self.num_classes

    def __str__(self) -> str:
        """The letters of the case."""
        return f"m = {self.num_synonyms}, L = {self.depth}"


@dataclass(frozen=True)
class Sizes:
    """How a case is learned.

    Args:
        multiples: numbers of training samples, over ``Case.scale``, ascending.
        num_held_out: different inputs that no network trains on.
        width: of the networks.
        schedule: of their training.
    """

    multiples: tuple[float, ...]
    num_held_out: int
    width: int
    schedule: Schedule


Kind = Literal["tree", "convolutional", "permuted", "decoder"]
"""The network: patches with weights of their own, or shared ones, the latter also on permuted places, or a decoder."""


@dataclass(frozen=True)
class Learned:
    """The networks of a case after training, and how well they do.

    Args:
        case: what was learned.
        numbers: of training samples.
        laws: one for each seed.
        networks: one for each seed and number, seeds first.
        errors: error rates on inputs that no network trained on, over that of guessing.
    """

    case: Case
    numbers: tuple[int, ...]
    laws: tuple[RandomHierarchy, ...]
    networks: TreeNetworks | Decoders
    errors: Float[np.ndarray, "R P"]


@threads(1)
def learned(
    case: Case, seeds: Sequence[int], sizes: Sizes, progress: Progress = silent, kind: Kind = "tree"
) -> Learned:
    """Train one network for each seed and number of samples on different inputs, and test it on further ones.

    Args:
        case: the law without its rules, which are drawn from each seed.
        seeds: of rules, samples and weights.
        sizes: of the training.
        progress: of the training.
        kind: of the networks.
    """
    numbers = tuple(round(multiple * case.scale) for multiple in sizes.multiples)
    laws = tuple(case.law(seed) for seed in seeds)
    num = numbers[-1] + sizes.num_held_out
    drawn = [different_inputs(law, num, seed) for law, seed in zip(laws, seeds, strict=True)]
    tokens, labels = (torch.stack(part).repeat_interleave(len(numbers), 0) for part in zip(*drawn, strict=True))
    if kind == "permuted":
        tokens = tokens[..., torch.randperm(tokens.shape[-1], generator=torch.Generator().manual_seed(0))]
    networks = networks_of(kind, case, sizes, [seed_of(seed, number) for seed in seeds for number in numbers])
    learn(networks, tokens, labels, numbers * len(seeds), sizes.schedule, progress=progress)
    errors = error_rates(networks, tokens[:, numbers[-1] :], labels[:, numbers[-1] :]) / case.guessing
    return Learned(case, numbers, laws, networks, errors.view(len(seeds), len(numbers)).numpy())


def networks_of(kind: Kind, case: Case, sizes: Sizes, seeds: Sequence[int]) -> TreeNetworks | Decoders:
    """Return untrained networks, one for each seed."""
    if kind == "decoder":
        config = DecoderConfig(
            case.num_symbols,
            sizes.width,
            num_layers=case.depth,
            hidden=2 * sizes.width,
            dropout=0.0,
            num_outputs=case.num_classes,
        )
        return Decoders(config, seeds)
    shared = kind != "tree"
    config = TreeNetworkConfig(case.num_symbols, 2, case.depth, case.num_classes, sizes.width, shared)
    return TreeNetworks(config, seeds)


def different_inputs(law: RandomHierarchy, num: int, seed: int) -> tuple[Int[Tensor, "N L"], Int[Tensor, " N"]]:
    """Return different inputs of a law with their labels, uniformly among all of them, in random order.

    Raises:
        RunFailed: the law has too few inputs.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "inputs"))
    tokens, labels = torch.empty(0, law.length, dtype=torch.long), torch.empty(0, dtype=torch.long)
    for _ in range(_DRAWS_PER_INPUT):
        more = law.sample(2 * num, generator)
        tokens, labels = torch.cat([tokens, more.tokens]), torch.cat([labels, more.labels])
        first = _first_occurrences(tokens)
        tokens, labels = tokens[first], labels[first]
        if len(tokens) >= num:
            return tokens[:num], labels[:num]
    raise RunFailed(
        f"{num:,} different inputs were asked for, and {len(tokens):,} found in {_DRAWS_PER_INPUT * 2 * num:,} draws",
        kept="nothing",
        remedy="take fewer samples, or a law with more synonyms or levels",
    )


def _first_occurrences(tokens: Int[Tensor, "N L"]) -> Int[Tensor, " n"]:
    """The place of the first occurrence of every different row, ascending."""
    _, group = tokens.unique(dim=0, return_inverse=True)
    places = torch.arange(len(tokens))
    first = torch.full((int(group.max()) + 1,), len(tokens)).scatter_reduce(0, group, places, "amin")
    return first.sort().values


class Crossing(NamedTuple):
    """Where values fall to a level.

    Args:
        number: of samples.
        bound: ``lower`` if no value falls that far, so that the number is the largest one; ``upper`` if the first value
            does, so that it is the smallest one; empty where the number is known.
    """

    number: float
    bound: Literal["", "lower", "upper"] = ""


def crossing(numbers: Sequence[int], values: Float[np.ndarray, " P"], level: float) -> Crossing:
    """Return where values first fall to a level, interpolated in the logarithm of the number of samples."""
    below = np.flatnonzero(values <= level)
    if not len(below):
        return Crossing(float(numbers[-1]), "lower")
    if not below[0]:
        return Crossing(float(numbers[0]), "upper")
    low, high = below[0] - 1, below[0]
    share = (values[low] - level) / (values[low] - values[high])
    return Crossing(float(numbers[low] * (numbers[high] / numbers[low]) ** share))


def numbers_of(crossings: Sequence[Sequence[Crossing]]) -> Float[np.ndarray, "R _"]:
    """Return the numbers of samples, seeds first, of crossings of all seeds in several cases."""
    return np.array([[one.number for one in row] for row in crossings]).T


def why_censored(crossings: Mapping[str, Sequence[Crossing]]) -> str:
    """Return which numbers of samples are only bounds, which decide nothing; empty if none is.

    Args:
        crossings: of all seeds, by what was halved.
    """
    said = {"lower": "not halved with the largest number", "upper": "halved with the smallest number already"}
    parts = [
        f"{name}: {said[bound]} for {num} of {len(row)} seeds"
        for name, row in crossings.items()
        for bound, num in Counter(one.bound for one in row).items()
        if bound
    ]
    if not parts:
        return ""
    return f"numbers of samples are bounds only ({'; '.join(parts)}): it takes networks with further numbers of samples"
