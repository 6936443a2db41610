"""Learning tasks, each with its loss and measurements: the next token of a text, labels of samples or of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from joma.errors import BadInput
from joma.problem.tree import Law, digest
from joma.records import Row
from joma.train.decoder import Decoder, seed_of
from joma.train.hierarchies import HierarchyStream, load_law
from joma.train.images.pictures import SUFFIX, Pictures, load_pictures
from joma.train.probes import LabelProbe, PictureProbe, Probe
from joma.train.products import linearised_loss
from joma.train.recipes import NUM_GROUPS, Recipe
from joma.train.text.vocabulary import Tokens, load_tokens, require_tokens
from joma.train.vision import VisionConfig

Data = Tokens | Law | Pictures
"""Training data."""


class Task(Protocol):
    """A learning task.

    Args:
        about: the entry of ``config.json`` that describes the data, under ``text``, ``law`` or
            ``pictures``.
        log_frequencies: (V,) the initial output bias; ``None`` for zero.
    """

    about: dict[str, dict[str, Any]]
    log_frequencies: Tensor | None

    def loss(self, decoder: Decoder, step: int) -> Tensor:
        """Return the loss in nats on the batch of a step (0 is the first)."""
        ...

    def measure(self, decoder: Decoder) -> list[Row]:
        """Return all measurements on held-out data; the mode of the network is restored."""
        ...


def task_of(recipe: Recipe, data: Data, device: torch.device) -> Task:
    """Return the task of a recipe on its data.

    Raises:
        BadInput: the recipe does not fit the data, or has a setting that has no effect on it.
    """
    if isinstance(data, Pictures):
        return PictureLabel(recipe, data, device)
    return NextToken(recipe, data, device) if isinstance(data, Tokens) else Label(recipe, data, device)


def load_data(path: Path) -> Data:
    """Read data by the name of its file: a law (``.json``), pictures (``SUFFIX``), or tokens (any other).

    Raises:
        BadInput, RunFailed: the file is missing or damaged.
    """
    if path.name.endswith(SUFFIX):
        return load_pictures(path)
    return load_law(path) if path.suffix == ".json" else load_tokens(path)


class Streams:
    """A text in parallel streams, which are read in windows one after the other, cyclically.

    Args:
        tokens: (N,) ids.
        num: number of streams.
        length: tokens per window.
        stride: tokens from the start of a window to that of the next one; ``length`` by default.

    ``num_windows`` is the number of steps that read the text once.
    """

    def __init__(self, tokens: Tensor, num: int, length: int, stride: int | None = None) -> None:
        self._length, self._stride, num_per_stream = length, stride or length, len(tokens) // num
        self._streams = tokens[: num_per_stream * num].view(num, num_per_stream)
        self.num_windows = (num_per_stream - 1 - length) // self._stride + 1

    def window(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step, (num, length) each: tokens and next tokens."""
        length, start = self._length, step % self.num_windows * self._stride
        return self._streams[:, start : start + length], self._streams[:, start + 1 : start + 1 + length]


def streams_of(recipe: Recipe, tokens: Tensor) -> Streams:
    """Return the batches of a text as a recipe reads them, so that each token is a target once in a pass."""
    return Streams(tokens, recipe.batch_size, recipe.length, 1 if recipe.one_query else recipe.length)


class NextToken:
    """The task of predicting every next token of a text; see ``Task``."""

    def __init__(self, recipe: Recipe, tokens: Tokens, device: torch.device) -> None:
        _require_text_recipe(recipe, tokens)
        require_tokens(tokens, recipe.batch_size, recipe.length, recipe.num_probe_sequences)
        frequencies = _log_frequencies(recipe, tokens)
        self.log_frequencies = frequencies if recipe.decoder.output_bias == "unigram" else None
        self._tangent_at = frequencies.to(device) if recipe.loss == "linearised" else None
        self._one_query = recipe.one_query
        self._probe = Probe(recipe, tokens, device)
        self._streams = streams_of(recipe, tokens.train.to(device))
        names = {"name": tokens.name, "digest": tokens.digest, "description": tokens.description}
        self.about: dict[str, dict[str, Any]] = {"text": names | {"steps_per_epoch": self._streams.num_windows}}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step, (B, L) each; with one query, the last targets only, (B,)."""
        inputs, targets = self._streams.window(step)
        return inputs, targets[:, -1] if self._one_query else targets

    def loss(self, decoder: Decoder, step: int) -> Tensor:
        """Return the loss on the windows of a step."""
        inputs, targets = self.batch(step)
        if self._tangent_at is None:
            return decoder.loss(inputs, targets)
        return linearised_loss(decoder(inputs, last_only=self._one_query), targets, self._tangent_at)

    def measure(self, decoder: Decoder) -> list[Row]:
        """Return the measurements of ``Probe``."""
        return self._probe.measure(decoder)


class Label:
    """The task of predicting the label of a sample at its last position; see ``Task``.

    Every step has new samples. They are drawn on the CPU, so that they are the same for all devices.
    """

    def __init__(self, recipe: Recipe, law: Law, device: torch.device) -> None:
        _require_law_recipe(recipe, law)
        self.about: dict[str, dict[str, Any]] = {"law": {"digest": digest(law), "definition": law.to_json()}}
        self.log_frequencies: Tensor | None = None
        self._probe = LabelProbe(recipe, law, device)
        self._stream = HierarchyStream(law, recipe.batch_size, recipe.seed, shuffled=recipe.shuffle_tokens)
        self._device = device

    def loss(self, decoder: Decoder, step: int) -> Tensor:
        """Return the loss on batch ``step`` of the stream with the recipe's seed."""
        samples = self._stream.batch(step)
        tokens, labels = samples.tokens.to(self._device), samples.labels.to(self._device)
        return decoder.loss(tokens, labels)

    def measure(self, decoder: Decoder) -> list[Row]:
        """Return the measurements of ``LabelProbe``."""
        return self._probe.measure(decoder)


class PictureLabel:
    """The task of predicting the label of a picture; see ``Task``.

    Batches are random pictures of the subjects to learn from, drawn on the CPU; the others are for measurements.
    """

    def __init__(self, recipe: Recipe, pictures: Pictures, device: torch.device) -> None:
        _require_vision_recipe(recipe, pictures)
        about = {"name": pictures.name, "digest": pictures.digest, "description": pictures.description}
        self.about: dict[str, dict[str, Any]] = {"pictures": about}
        self.log_frequencies: Tensor | None = None
        self._pictures, self._seed, self._num, self._device = pictures, recipe.seed, recipe.batch_size, device
        self._subjects, unseen = pictures.split(recipe.seed)
        self._probe = PictureProbe(recipe, pictures, unseen, device)

    def loss(self, decoder: Decoder, step: int) -> Tensor:
        """Return the loss on the batch of a step."""
        generator = torch.Generator().manual_seed(seed_of(self._seed, "pictures", step))
        pictures, labels = self._pictures.batch(self._subjects, self._num, generator)
        return decoder.loss(pictures.to(self._device), labels.to(self._device))

    def measure(self, decoder: Decoder) -> list[Row]:
        """Return the measurements of ``PictureProbe``."""
        return self._probe.measure(decoder)


def _require_text_recipe(recipe: Recipe, tokens: Tokens) -> None:
    if len(tokens.vocabulary) != recipe.decoder.vocabulary_size:
        raise BadInput(
            f"the text {tokens.name} has {len(tokens.vocabulary):,} different tokens",
            expected=f"the {recipe.decoder.vocabulary_size:,} of the recipe {recipe.name!r}",
            remedy="make the recipe with `vocabulary_size=len(tokens.vocabulary)`",
        )
    if recipe.length <= NUM_GROUPS:
        raise BadInput(
            f"the recipe {recipe.name!r} has sequences of {recipe.length} tokens",
            expected=f"a `length` above {NUM_GROUPS}, for the groups of positions that are measured",
            remedy="take 35",
        )
    only_laws = {
        "shuffle_tokens": (recipe.shuffle_tokens, False),
        "decoder.num_outputs": (recipe.decoder.num_outputs, None),
    }
    for name, (value, neutral) in only_laws.items():
        if value != neutral:
            problem = f"the recipe {recipe.name!r} has {name}={value}, which is for laws, but the data is a text"
            raise BadInput(problem, expected=f"{name}={neutral}", remedy=f"leave {name} out, or pass a law")


def _require_law_recipe(recipe: Recipe, law: Law) -> None:
    needed = {
        "length": law.length,
        "decoder.is_causal": True,
        "decoder.vocabulary_size": law.vocabulary_size,
        "decoder.num_outputs": law.num_labels,
    }
    _require(recipe, needed, "to learn this law", "hierarchy_recipe(law, num_steps=…)")


def _require(recipe: Recipe, needed: Mapping[str, Any], why: str, maker: str) -> None:
    """Raise ``BadInput`` if a recipe lacks a setting that its labels need, or has one that is for texts only."""
    for name, wanted in {**needed, "decoder.output_bias": "zero", "loss": "cross_entropy", "one_query": False}.items():
        value = reduce(lambda part, field: getattr(part, field, None), name.split("."), recipe)
        if value != wanted:
            problem, expected = f"the recipe {recipe.name!r} has {name}={value}", f"{name}={wanted}, {why}"
            raise BadInput(problem, expected=expected, remedy=f"make the recipe with `{maker}`")


def _require_vision_recipe(recipe: Recipe, pictures: Pictures) -> None:
    network = recipe.decoder
    needed = {
        "decoder.image_size": pictures.size,
        "decoder.num_outputs": len(pictures.classes),
        "length": network.num_patches if isinstance(network, VisionConfig) else None,
        "shuffle_tokens": False,
    }
    _require(recipe, needed, "to learn these pictures", "vision_recipe(pictures, num_steps=…)")


def _log_frequencies(recipe: Recipe, tokens: Tokens) -> Tensor:
    counts = torch.bincount(tokens.train, minlength=recipe.decoder.vocabulary_size)
    return ((counts + 1) / (len(tokens.train) + len(counts))).log()  # + 1: a token may occur in held-out text only
