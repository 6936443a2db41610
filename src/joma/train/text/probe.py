"""The text that a scan has a model read: cut up by the model's own tokenizer, which lies beside its weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from joma.errors import BadInput, cause_of
from joma.measure.models.families import heads_of
from joma.saved.series import Series
from joma.train.text.reading import Text
from joma.train.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CHARACTERS_PER_TOKEN = 12
"""More than any text takes on average: what lies beyond is not worth cutting up."""


def probe_sequences(text: Text, tokenizer: PreTrainedTokenizerBase, num_sequences: int, length: int) -> Tensor:
    """Stretches of the held-out part of a text, one after the other, each as the tokenizer prepares a whole input.

    Args:
        text: to be read; of one too short its other part is taken as well.
        tokenizer: of the model.
        num_sequences: how many stretches.
        length: tokens of each, those that the tokenizer puts before and after an input included.

    Returns:
        (num_sequences, length) int64.

    Raises:
        BadInput: the text is shorter than that.
    """
    before, after = _around(tokenizer)
    inner = length - len(before) - len(after)
    if inner < 2:
        raise BadInput(
            f"sequences of {length} tokens", expected=f"at least {length - inner + 2}", remedy="lengthen --length"
        )
    needed = num_sequences * inner
    ids: list[int] = []
    for part in (text.held_out, text.train):
        if len(ids) < needed:
            ids += _ids(tokenizer, part[: (needed - len(ids)) * _CHARACTERS_PER_TOKEN])
    if len(ids) < needed:
        raise BadInput(
            f"the text {text.name} is {len(ids):,} tokens long",
            expected=f"{needed:,}, for {num_sequences} sequences of {length}",
            remedy="give a longer text with --text, or shorten --length or --sequences",
        )
    stretches = torch.tensor(ids[:needed]).view(num_sequences, inner)
    edges = (torch.tensor(edge, dtype=torch.int64).expand(num_sequences, -1) for edge in (before, after))
    return torch.cat([next(edges), stretches, next(edges)], dim=1)


def tokenizer_of(series: Series, given: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a series' model: the one given, or that which lies beside the weights of its last whole step.

    Args:
        series: in a folder, where steps may share a tokenizer above them, or on a hub.
        given: a file, a folder or a name on the hub.

    Raises:
        BadInput: there is none.
    """
    return series.last(partial(_beside, series)) if given is None else load_tokenizer(given)


def _beside(series: Series, step: int) -> PreTrainedTokenizerBase:
    """The tokenizer that lies with a step's weights, or above them."""
    place = Path(series.source)
    if not place.exists():
        revision = series.names[step]
        return _loaded(series.source, f"{series.source} at {revision}", revision=revision)
    weights = place if place.is_file() else place / series.names[step]
    folders = dict.fromkeys([weights, place, place.parent if place.is_file() else place])
    for folder in folders:
        if folder.is_dir() and any((folder / name).is_file() for name in _FILES):
            return load_tokenizer(str(folder))
    checkpoint = series.checkpoint(step)
    if checkpoint.kind == "gguf":
        file = place if place.is_file() else next(iter(place.rglob(checkpoint.files[0].name)))
        return _loaded(str(file.parent), file.name, gguf_file=file.name)
    heads_of(checkpoint.config)  # without attention, a tokenizer is not what is lacking
    raise BadInput(
        f"{series.source} holds no tokenizer, beside the weights or above them",
        expected=f"one of {', '.join(_FILES)}",
        remedy="name one with --tokenizer, or measure weights alone: --measure weights",
    )


def _loaded(name: str, where: str, **how: str) -> PreTrainedTokenizerBase:
    """What transformers makes of a place; code that a repository brings along is never run."""
    from transformers import AutoTokenizer

    remedy = "name one with --tokenizer, or measure weights alone: --measure weights"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **how)
    except Exception as error:
        # The hub's client, the readers of GGUF and the Rust library share no base class for "could not load".
        raise BadInput(
            f"{where} gives no tokenizer ({cause_of(error)})", expected="a tokenizer with the weights", remedy=remedy
        ) from error
    if tokenizer is None:
        raise BadInput(f"{where} has no tokenizer", expected="a model that reads text", remedy=remedy)
    return tokenizer


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after an input (``[CLS]``, ``<s>``)."""
    plain, whole = (list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    at = next((i for i in range(len(whole) - len(plain) + 1) if whole[i : i + len(plain)] == plain), 0)
    return whole[:at], whole[at + len(plain) :]


def _ids(tokenizer: PreTrainedTokenizerBase, part: str) -> list[int]:
    return list(tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
