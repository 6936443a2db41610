"""From text to token ids: a vocabulary of the commonest words, or any Hugging Face tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from joma.errors import BadInput, InvalidArgument
from joma.files import replacing
from joma.train.text.reading import Text
from joma.train.text.tokenizers import encoded

UNKNOWN, END = "<unk>", "<eos>"
"""The word that stands for every word outside the vocabulary, and the one that ends a line or paragraph."""

DEFAULT_VOCABULARY_SIZE = 2000

_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’]\w+)*|([^\w\s])\1*")
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a network reads.

    Args:
        name: the text's.
        description: the text's, with counts and the vocabulary.
        train: (T,) int64, ids below ``len(vocabulary)``.
        held_out: (T,) int64, likewise.
        vocabulary: the words, by id.
        digest: of all that training depends on, the same in every process and on every machine.
        share_unknown: which part of the training tokens is ``<unk>`` (or what a tokenizer calls it).
    """

    name: str
    description: str
    train: torch.Tensor
    held_out: torch.Tensor
    vocabulary: tuple[str, ...]
    digest: str
    share_unknown: float


def tokenize(
    text: Text, vocabulary_size: int | None = None, tokenizer: str | None = None, *, keep_ids: bool = False
) -> Tokens:
    """Turn a text into ids.

    Without a tokenizer the vocabulary is ``<unk>`` (id 0) and the commonest words of the training part, the
    commoner first and equals by spelling. A text that is split into words already keeps them as they stand, with
    ``<eos>`` at the end of every line: these are the published counts of WikiText. Any other text is lowercased
    and split into words, numbers and runs of punctuation, with ``<eos>`` after every paragraph.

    Args:
        text: what to read.
        vocabulary_size: how many words, ``<unk>`` among them; 2,000 if not given. Not with a tokenizer.
        tokenizer: a ``tokenizer.json``, a folder with one, or the name of a model on the hub. Only the tokens
            that occur in the text are kept, since each of the others would cost a row of the network for nothing.
        keep_ids: keep all of the tokenizer's tokens under its own numbers, for a network that is saved with it.

    Raises:
        BadInput: a size together with a tokenizer, a size below 2, a text without a word, a tokenizer that
            cannot be had, ``keep_ids`` without a tokenizer.
    """
    if keep_ids and tokenizer is None:
        raise InvalidArgument(
            "tokenize", "keep_ids", required="a tokenizer with it", received="True", remedy="name the tokenizer"
        )
    if tokenizer is not None:
        if vocabulary_size is not None:
            raise BadInput(
                f"a vocabulary size ({vocabulary_size}) was given together with the tokenizer {tokenizer!r}",
                expected="one of the two, since a tokenizer brings its own vocabulary",
                remedy="leave out the vocabulary size",
            )
        train, held_out, vocabulary, unknown = encoded(text.train, text.held_out, tokenizer, keep_ids=keep_ids)
        what = f"{len(vocabulary):,} tokens of the tokenizer {tokenizer}"
        return _tokens(text, what, train, held_out, vocabulary, unknown)
    size = DEFAULT_VOCABULARY_SIZE if vocabulary_size is None else vocabulary_size
    if size < 2:
        raise InvalidArgument(
            "tokenize",
            "vocabulary_size",
            required="at least 2, for <unk> and one word",
            received=f"{size}",
            remedy=f"take some thousands; {DEFAULT_VOCABULARY_SIZE:,} if in doubt",
        )
    counts = Counter(word for sentence in _sentences(text.train, text.pretokenized) for word in sentence)
    ranked = sorted((word for word in counts if word != UNKNOWN), key=lambda word: (-counts[word], word))
    vocabulary = (UNKNOWN, *ranked[: size - 1])
    train, held_out = (_ids(part, text.pretokenized, vocabulary) for part in (text.train, text.held_out))
    what = f"the {len(vocabulary):,} commonest of its {len(ranked) + 1:,} words"
    if len(vocabulary) < size:
        what = f"all its {len(vocabulary):,} words ({size:,} were asked for)"
    return _tokens(text, what, train, held_out, vocabulary, 0)


def shuffled(tokens: Tokens, seed: int) -> Tokens:
    """The same tokens in random order: every word as common as before, and nothing to be learned from context.

    Args:
        tokens: the text; its two parts are shuffled each by itself.
        seed: which order.
    """
    generator = torch.Generator().manual_seed(seed)
    train, held_out = (part[torch.randperm(len(part), generator=generator)] for part in (tokens.train, tokens.held_out))
    return Tokens(
        f"{tokens.name}-shuffled",
        f"{tokens.description}; its words in random order (seed {seed})",
        train,
        held_out,
        tokens.vocabulary,
        _digest(train, held_out, tokens.vocabulary),
        tokens.share_unknown,
    )


def require_tokens(tokens: Tokens, batch_size: int, length: int, num_probe_sequences: int) -> None:
    """Refuse a text too short for one batch to train on and the held-out sequences, each with its next word.

    Raises:
        BadInput: naming how many tokens there are and how many are needed.
    """
    needs = [("to train on", tokens.train, batch_size), ("held out", tokens.held_out, num_probe_sequences)]
    for what, part, num_sequences in needs:
        needed = num_sequences * (length + 1)
        if len(part) < needed:
            raise BadInput(
                f"the text {tokens.name} has only {len(part):,} tokens {what}",
                expected=f"at least {needed:,} ({num_sequences} sequences of {length} and the one after)",
                remedy="give a longer text, or fewer or shorter sequences",
            )


def save_tokens(tokens: Tokens, path: Path) -> None:
    """Write tokens into a safetensors file, whole or not at all."""
    facts = {
        "name": tokens.name,
        "description": tokens.description,
        "vocabulary": tokens.vocabulary,
        "digest": tokens.digest,
        "share_unknown": tokens.share_unknown,
    }
    parts = {"train": tokens.train.int(), "held_out": tokens.held_out.int()}
    with replacing(path) as temporary:
        save_file(parts, temporary, {"tokens": json.dumps(facts)})


def load_tokens(path: Path) -> Tokens:
    """Read what ``save_tokens`` wrote.

    Raises:
        BadInput: no such file, a truncated or altered one, or one with something else in it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["tokens"])
            train, held_out = (file.get_tensor(part).long() for part in ("train", "held_out"))
        vocabulary = tuple(facts.pop("vocabulary"))
        tokens = Tokens(train=train, held_out=held_out, vocabulary=vocabulary, **facts)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if tokens.digest != _digest(train, held_out, vocabulary):
        raise _unusable(path, "its digest does not fit its content")
    return tokens


def _unusable(path: Path, why: str) -> BadInput:
    return BadInput(
        f"{path} holds no whole tokens ({why})",
        expected="a file that `save_tokens` wrote",
        remedy="delete it; the next run makes it again from the text",
    )


def _sentences(part: str, pretokenized: bool) -> Iterator[list[str]]:
    """The words of each line (or paragraph), with the word that ends it."""
    if pretokenized:
        for line in part.removesuffix("\n").split("\n"):
            yield [*line.split(), END]
    else:
        for paragraph in _PARAGRAPH.split(part):
            words = [match.group() for match in _WORD.finditer(paragraph.lower())]
            if words:
                yield [*words, END]


def _ids(part: str, pretokenized: bool, vocabulary: tuple[str, ...]) -> torch.Tensor:
    ids = {word: id for id, word in enumerate(vocabulary)}
    read = array("q")
    for sentence in _sentences(part, pretokenized):
        read.extend(ids.get(word, 0) for word in sentence)
    return torch.frombuffer(read, dtype=torch.int64) if read else torch.empty(0, dtype=torch.int64)


def _tokens(
    text: Text, what: str, train: torch.Tensor, held_out: torch.Tensor, vocabulary: tuple[str, ...], unknown: int | None
) -> Tokens:
    if not len(train) or not len(held_out):
        raise BadInput(f"the text {text.name} has no word in one of its parts", expected="words", remedy="give another")
    share = 0.0 if unknown is None else float((train == unknown).double().mean())
    return Tokens(
        text.name,
        f"{text.description}; read as {len(train):,} + {len(held_out):,} tokens in {what}, {share:.1%} of them unknown",
        train,
        held_out,
        vocabulary,
        _digest(train, held_out, vocabulary),
        share,
    )


def _digest(train: torch.Tensor, held_out: torch.Tensor, vocabulary: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps(vocabulary).encode())
    for part in (train, held_out):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.int().numpy().astype("<i4").tobytes())
    return digest.hexdigest()[:32]
