"""Probe sequences for a scan: a text, tokenised by the model's own tokenizer."""

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
_REMEDY = "name one with `tokenizer`, or measure only weights: set `measures` to weights"
_CHARACTERS_PER_TOKEN = 12
"""An upper bound on the average, so that only the necessary part of a text is tokenised."""


def probe_sequences(text: Text, tokenizer: PreTrainedTokenizerBase, num_sequences: int, length: int) -> Tensor:
    """Return consecutive sequences of the held-out part of a text, with special tokens as in a whole input.

    Args:
        text: the text; its training part is appended if the held-out part is too short.
        tokenizer: the tokenizer of the model.
        num_sequences: number of sequences.
        length: tokens per sequence, including the special tokens before and after an input.

    Returns:
        (num_sequences, length) int64.

    Raises:
        BadInput: the text is too short.
    """
    before, after = _around(tokenizer)
    inner = length - len(before) - len(after)
    if inner < 2:
        expected = f"at least {length - inner + 2}"
        raise BadInput(f"sequences of {length} tokens", expected=expected, remedy="increase `length`")
    needed = num_sequences * inner
    ids: list[int] = []
    for part in (text.held_out, text.train):
        if len(ids) < needed:
            ids += _ids(tokenizer, part[: (needed - len(ids)) * _CHARACTERS_PER_TOKEN])
    if len(ids) < needed:
        raise BadInput(
            f"the text {text.name} is {len(ids):,} tokens long",
            expected=f"{needed:,}, for {num_sequences} sequences of {length}",
            remedy="give a longer text with `text`, or decrease `length` or `sequences`",
        )
    sequences = torch.tensor(ids[:needed]).view(num_sequences, inner)
    edges = (torch.tensor(edge, dtype=torch.int64).expand(num_sequences, -1) for edge in (before, after))
    return torch.cat([next(edges), sequences, next(edges)], dim=1)


def tokenizer_of(series: Series, given: str | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a series' model: the given one, or that of its last intact step.

    Args:
        series: in a folder or on a hub; steps in a folder may share a tokenizer in the parent folder.
        given: a file, a folder or a name on the hub.

    Raises:
        BadInput: there is no tokenizer.
    """
    return series.last(partial(_of_step, series)) if given is None else load_tokenizer(given)


def _of_step(series: Series, step: int) -> PreTrainedTokenizerBase:
    """Load the tokenizer from the folder of a step's weights, or from the parent folder."""
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
    heads_of(checkpoint.config)  # raises the more helpful error if the model has no attention
    problem = f"{series.source} holds no tokenizer, in the folder of the weights or its parent"
    raise BadInput(problem, expected=f"one of {', '.join(_FILES)}", remedy=_REMEDY)


def _loaded(name: str, where: str, **how: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer with transformers; code in a repository is never executed."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **how)
    except Exception as error:
        # The hub's client, the readers of GGUF and the Rust library share no base class for "could not load".
        problem = f"{where} has no usable tokenizer ({cause_of(error)})"
        raise BadInput(problem, expected="a tokenizer with the weights", remedy=_REMEDY) from error
    if tokenizer is None:
        raise BadInput(f"{where} has no tokenizer", expected="a model that reads text", remedy=_REMEDY)
    return tokenizer


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens before and after an input (``[CLS]``, ``<s>``)."""
    plain, whole = (list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (False, True))
    at = next((i for i in range(len(whole) - len(plain) + 1) if whole[i : i + len(plain)] == plain), 0)
    return whole[:at], whole[at + len(plain) :]


def _ids(tokenizer: PreTrainedTokenizerBase, part: str) -> list[int]:
    return list(tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
