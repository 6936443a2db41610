"""A network of ours out of the saved steps of its run, and the held-out sequences that it is to read once more.

``joma.measure`` reads series of saved steps and knows nothing of how our networks are trained; this is what it is
handed to run them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from joma.errors import BadInput, cause_of
from joma.measure.models.building import require_finite
from joma.problem.laws import law_from_json
from joma.train.decoder import Decoder
from joma.train.probes import held_out_samples, held_out_windows
from joma.train.recipes import Recipe, recipe_from_json
from joma.train.text.vocabulary import Tokens, load_tokens, require_tokens


class OfLabels(nn.Module):
    """A network that tells labels, run as it is trained: in its last layer the last position alone asks.

    Args:
        decoder: the network.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the labels, (B, ``num_outputs``)."""
        return self.decoder(tokens, last_only=True)


def saved_decoder(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, with_head: bool) -> nn.Module:
    """Build the network of a saved step, ready to be looked at; what ``joma.measure.scan.steps.Plan.build`` asks for.

    Args:
        config: as the run's ``config.json`` has it.
        tensors: its weights by name.
        with_head: whether it is to predict the next token.

    Raises:
        BadInput: NaN weights (named), weights of another network, a network that predicts labels where the next token
            is asked for.
    """
    require_finite(tensors)
    settings = recipe_from_json(config["recipe"]).decoder
    if with_head and settings.num_outputs is not None:
        raise BadInput(
            "this run learned to tell labels, not the next token",
            expected="a run that learned a text",
            remedy="leave loss_nats out: its loss is in metrics.jsonl",
        )
    try:
        decoder = Decoder.from_weights(settings, tensors)
    except RuntimeError as error:
        raise BadInput(
            f"the weights do not fit the recipe beside them ({cause_of(error)})",
            expected="weights and config.json of one run",
            remedy="check that config.json is that of this run",
        ) from error
    return decoder if settings.num_outputs is None else OfLabels(decoder)


def run_probe(
    config: Mapping[str, Any],
    place: Path,
    *,
    text: str | None = None,
    num_sequences: int | None = None,
    length: int | None = None,
) -> tuple[Tensor, str]:
    """Held-out sequences of what a run learned: those it was measured on as it trained, if nothing else is asked for.

    Args:
        config: as the run's ``config.json`` has it.
        place: the folder of the run, or one inside it.
        text: the file that ``save_tokens`` wrote the run's tokens into; looked for beside the run where ``None``. A law
            stands in the configuration.
        num_sequences: how many; those of the recipe where ``None``.
        length: tokens of each; those of the recipe where ``None``. A law brings its own.

    Returns:
        (num_sequences, length) token ids, and in words what they are. Samples of a law without any token are left out,
        as while it trained.

    Raises:
        BadInput: no such tokens, others than the run learned, too few of them, or something that a law decides.
    """
    recipe = recipe_from_json(config["recipe"])
    num = num_sequences or recipe.num_probe_sequences
    if "law" in config:
        return _of_law(config, recipe, num, text=text, length=length)
    tokens, length = _tokens_of(config, place, text), length or recipe.length
    require_tokens(tokens, 0, length, num)
    windows = held_out_windows(tokens, num, length + 1)[:, :-1]
    return windows.contiguous(), f"{num} held-out sequences of {length} tokens of {tokens.description}"


def _of_law(config: Mapping[str, Any], recipe: Recipe, num: int, **given: Any) -> tuple[Tensor, str]:
    for name, value in given.items():
        if value is not None:
            raise BadInput(
                f"`{name}` has no effect on a run that learned the labels of a law",
                expected="what the law says",
                remedy="leave it out",
            )
    law = law_from_json(config["law"].get("definition"))
    tokens = held_out_samples(recipe, law, num).tokens
    tokens = tokens[(tokens != law.padding).any(1)]
    if not len(tokens):
        raise BadInput(
            f"none of {num} samples of the law shows a token",
            expected="samples with tokens",
            remedy="give more --sequences",
        )
    return tokens, f"{len(tokens)} held-out samples of the run's law, {law.length} tokens each"


def _tokens_of(config: Mapping[str, Any], place: Path, text: str | None) -> Tokens:
    wanted = config.get("text", {})
    if text is not None:
        tokens = load_tokens(Path(text))
        if tokens.digest != wanted.get("digest"):
            raise BadInput(
                f"{text} holds other tokens ({tokens.name}) than the run learned ({wanted.get('name')})",
                expected="the run's own: its network knows no others",
                remedy="give --text the file that `save_tokens` wrote for this run",
            )
        return tokens
    for path in _beside(place):
        if _digest_in(path) == wanted.get("digest"):
            return load_tokens(path)
    raise BadInput(
        f"the tokens of {wanted.get('name')} that the run learned are not beside it",
        expected="the file that `save_tokens` wrote, in the run's folder or a `text` folder next to it",
        remedy="name it with --text, or measure weights alone: --measure weights",
    )


def _beside(place: Path) -> Iterator[Path]:
    """Files that may hold tokens: in the run's folder and two above it, and in a folder ``text`` of each."""
    folder = place if place.is_dir() else place.parent
    folder = next((above for above in (folder, *folder.parents[:2]) if (above / "config.json").is_file()), folder)
    for base in (folder.resolve(), *folder.resolve().parents[:2]):
        for within in (base, base / "text"):
            yield from sorted(within.glob("*.safetensors"))


def _digest_in(path: Path) -> str | None:
    """The digest of the tokens that a file says it holds; ``None`` where it holds something else."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["tokens"])["digest"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
