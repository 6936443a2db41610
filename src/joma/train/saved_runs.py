"""Rebuild joma's own networks from the saved steps of a run, together with their held-out sequences.

``joma.measure`` knows no joma networks; these functions are passed to it to measure the steps of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from joma.errors import BadInput, cause_of
from joma.measure.models.building import require_finite
from joma.problem.laws import law_from_json
from joma.serialization import decoded
from joma.train.decoder import Decoder
from joma.train.probes import held_out_samples, held_out_windows
from joma.train.recipes import Recipe, recipe_from_json
from joma.train.run import Config, config_of
from joma.train.text.vocabulary import Tokens, ids_of, load_tokens, require_tokens
from joma.train.vision import class_of


class OfLast(nn.Module):
    """A decoder that predicts from the last position only, with a single query in the last layer, as in training."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the last position: of the labels, or of the next token."""
        return self.decoder(tokens, last_only=True)


def saved_decoder(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
    """Build the network of a saved step in evaluation mode, for ``joma.measure.scan.steps.Plan.build``.

    Args:
        config: the content of the run's ``config.json``.
        tensors: the weights by name.
        with_head: whether the network has to predict the next token.

    Raises:
        BadInput: weights are NaN or do not fit the configuration, or the network predicts labels, or from the last
            position only, although ``with_head`` is set.
    """
    require_finite(tensors)
    recipe = recipe_from_json(_config_of(config).recipe)
    settings, of_labels = recipe.decoder, recipe.decoder.num_outputs is not None
    if with_head and (of_labels or recipe.one_query):
        problem = f"this run predicts {'labels, not the next token' if of_labels else 'from the last position only'}"
        expected, remedy = "a run that learned every token of a text", "leave out loss_nats, see metrics.jsonl"
        raise BadInput(problem, expected=expected, remedy=remedy)
    try:
        decoder = class_of(settings).from_weights(settings, tensors)
    except RuntimeError as error:
        problem, remedy = (
            f"the weights do not fit the recipe ({cause_of(error)})",
            "check that config.json is the run's",
        )
        raise BadInput(problem, expected="weights and config.json of the same run", remedy=remedy) from error
    return OfLast(decoder) if of_labels or recipe.one_query else decoder


def run_probe(
    config: Mapping[str, Any],
    place: Path,
    *,
    text: str | None = None,
    num_sequences: int | None = None,
    length: int | None = None,
) -> tuple[Tensor, str]:
    """Return held-out sequences of the text or law of a run, by default those on which it was measured in training.

    Args:
        config: the content of the run's ``config.json``.
        place: the folder of the run, or a path inside it.
        text: the file of the run's tokens (``save_tokens``); ``None`` to search in and near the folder of the run. Not
            for a law, which is part of the configuration.
        num_sequences: number of sequences; ``None`` for that of the recipe.
        length: tokens per sequence; ``None`` for that of the recipe. Not for a law.

    Returns:
        (num_sequences, length) token ids, and a description of them. Samples of a law without any token are left out,
        as in training.

    Raises:
        BadInput: the tokens are not found, too few, or not those of the run; ``text`` or ``length`` is given for a law.
    """
    known = _config_of(config)
    recipe = recipe_from_json(known.recipe)
    num = num_sequences or recipe.num_probe_sequences
    if known.law:
        return _of_law(known, recipe, num, text=text, length=length)
    tokens, length = _tokens_of(known, place, text), length or recipe.length
    require_tokens(tokens, 0, length, num)
    windows = held_out_windows(tokens, num, length + 1)[:, :-1]
    return windows.contiguous(), f"{num} held-out sequences of {length} tokens of {tokens.description}"


def words_of_run(config: Mapping[str, Any], place: Path, sentence: str) -> tuple[Tensor, list[str]]:
    """Return a sentence as the run reads it: (L,) ids and the words.

    Args:
        config: the content of the run's ``config.json``.
        place: the folder of the run, or a path inside it.
        sentence: the words.

    Raises:
        BadInput: the tokens of the run are not found, or are no words; the run learned a law.
    """
    known = _config_of(config)
    if known.law:
        expected, remedy = "a run that learned a text", "look at its hidden units: joma tree align"
        raise BadInput("this run learned the labels of a law, which has no sentences", expected=expected, remedy=remedy)
    tokens = _tokens_of(known, place, None)
    ids = ids_of(tokens, sentence)
    return ids, [tokens.vocabulary[id] for id in ids.tolist()]


def _config_of(config: Mapping[str, Any]) -> Config:
    try:
        return config_of(config)
    except ValueError as error:
        expected, remedy = "the configuration of a run", "check config.json, or leave out the run"
        raise BadInput(f"config.json is damaged ({error})", expected=expected, remedy=remedy) from error


def _of_law(config: Config, recipe: Recipe, num: int, **given: Any) -> tuple[Tensor, str]:
    for name, value in given.items():
        if value is not None:
            problem = f"`{name}` has no effect on a run that learned the labels of a law"
            raise BadInput(problem, expected="no such option", remedy="leave it out")
    law = law_from_json(config.law.get("definition"))
    tokens = held_out_samples(recipe, law, num).tokens
    tokens = tokens[(tokens != law.padding).any(1)]
    if not len(tokens):
        problem = f"none of {num} samples of the law has a token"
        raise BadInput(problem, expected="samples with tokens", remedy="give more `sequences`")
    return tokens, f"{len(tokens)} held-out samples of the run's law, {law.length} tokens each"


def _tokens_of(config: Config, place: Path, text: str | None) -> Tokens:
    wanted = config.text
    if config.pictures:
        problem, expected = f"this run learned pictures ({config.pictures.get('name')})", "a run that learned a text"
        raise BadInput(problem, expected=expected, remedy="measure only weights: set `measures` to weights")
    if text is not None:
        tokens = load_tokens(Path(text))
        if tokens.digest != wanted.get("digest"):
            raise BadInput(
                f"{text} holds other tokens ({tokens.name}) than the run learned ({wanted.get('name')})",
                expected="the tokens of the run",
                remedy="give `text` the file that `save_tokens` wrote for this run",
            )
        return tokens
    for path in _near(place):
        if _digest_in(path) == wanted.get("digest"):
            return load_tokens(path)
    raise BadInput(
        f"the tokens of {wanted.get('name')} that the run learned are not found near it",
        expected="the file that `save_tokens` wrote, in the run's folder or a `text` folder next to it",
        remedy="name it with `text`, or measure only weights: set `measures` to weights",
    )


def _near(place: Path) -> Iterator[Path]:
    """Files that may contain tokens: in the folder of the run and in two above it, and in a folder ``text`` of each."""
    folder = place if place.is_dir() else place.parent
    folder = next((above for above in (folder, *folder.parents[:2]) if (above / "config.json").is_file()), folder)
    for base in (folder.resolve(), *folder.resolve().parents[:2]):
        for within in (base, base / "text"):
            yield from sorted(within.glob("*.safetensors"))


def _digest_in(path: Path) -> str | None:
    """The digest in the metadata of a file of tokens; ``None`` for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return decoded((file.metadata() or {})["tokens"])["digest"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
