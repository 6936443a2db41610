"""Tokenisation of a text: a vocabulary of its most frequent words, or a Hugging Face tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import warnings
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from joma.domains import choose
from joma.errors import BadInput, InvalidArgument
from joma.files import replacing
from joma.progress import Progress, silent
from joma.serialization import decoded, shaped
from joma.train.text.reading import Text
from joma.train.text.tokenizers import encoded

_REPORTED = 1 << 20
"""Characters from one report to the next."""

UNKNOWN, END = "<unk>", "<eos>"
"""The tokens for words outside the vocabulary, and for the end of a line or paragraph."""

DEFAULT_VOCABULARY_SIZE = 2000

Splitting = Literal["words", "basic-english"]
"""How a text is split into words: joma's way, or that of the paper's word model (see ``tokenize``)."""

_APART, _DROPPED = re.compile(r"(['.,()!?])"), str.maketrans({'"': "", ";": " ", ":": " "})
"""The marks that are words of their own in the basic-english tokenisation, and those that are dropped."""

_JOINERS = "\u200c\u200d"
"""Characters without width between letters of one word, in Persian and in the scripts of India."""

_LAST_MARK = 0xE01EF
"""The last combining mark of Unicode."""

_WITHOUT_SPACES = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Letters of scripts that write no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese."""

_MOST_WITHOUT_SPACES = 0.1
"""Share of words in such scripts above which a text needs a tokenizer."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """A tokenised text.

    Args:
        name: the name of the text.
        description: the description of the text, with counts and the vocabulary.
        train: (T,) int64, ids below ``len(vocabulary)``.
        held_out: (T,) int64, likewise.
        vocabulary: the words, by id.
        digest: a digest of ids and vocabulary, the same in every process and on every machine.
        share_unknown: the share of ``<unk>`` (or a tokenizer's unknown token) in the training tokens.
        splitting: how the text was split into words; without meaning for a tokenizer's tokens.
    """

    name: str
    description: str
    train: torch.Tensor
    held_out: torch.Tensor
    vocabulary: tuple[str, ...]
    digest: str
    share_unknown: float
    splitting: Splitting = "words"


def tokenize(
    text: Text,
    vocabulary_size: int | None = None,
    tokenizer: str | None = None,
    *,
    keep_ids: bool = False,
    splitting: Splitting = "words",
    progress: Progress = silent,
) -> Tokens:
    """Tokenise a text.

    Without a tokenizer the vocabulary is ``<unk>`` (id 0) and the most frequent words of the training part, sorted
    by frequency and then alphabetically. The words of a pretokenized text are not changed, and ``<eos>`` ends every
    line, which gives the published counts of WikiText. Any other text is lowercased and split into words, numbers
    and runs of punctuation, with ``<eos>`` after every paragraph. Combining marks belong to the letter before them. A
    clause of a language without spaces between words, such as Chinese or Thai, is one word; if these are more than a
    tenth of a text's words, there is a warning, because such a text needs a tokenizer.

    The splitting ``basic-english`` is that of the paper's word model (torchtext's tokenizer of this name): lowercased,
    each of ``'.,()!?`` a word, double quotes removed, semicolons and colons a space, and nothing at the end of a line.

    Args:
        text: the text.
        vocabulary_size: number of words, including ``<unk>``; ``None`` for 2,000, and with the splitting
            ``basic-english`` for all. Not with a tokenizer.
        tokenizer: a ``tokenizer.json``, a folder with one, or the name of a model on the hub. Only the tokens
            that occur in the text are kept, to save rows of the embedding.
        keep_ids: keep all tokens of the tokenizer and their ids, for a network that is saved with the tokenizer.
        splitting: how the text is split into words. Not with a tokenizer.
        progress: called as words are read; a tokenizer reads everything at once.

    Raises:
        BadInput: a size or a splitting is given together with a tokenizer, the size is below 2, the text has no word,
            the tokenizer cannot be loaded, or ``keep_ids`` is set without a tokenizer.
    """
    choose(splitting, dict.fromkeys(get_args(Splitting)), "tokenize", "splitting")
    if keep_ids and tokenizer is None:
        required, remedy = "a tokenizer with it", "name the tokenizer"
        raise InvalidArgument("tokenize", "keep_ids", required=required, received="True", remedy=remedy)
    if tokenizer is not None:
        if vocabulary_size is not None:
            problem = f"a vocabulary size ({vocabulary_size}) was given together with the tokenizer {tokenizer!r}"
            raise BadInput(problem, expected="one of the two", remedy="leave out the vocabulary size")
        if splitting != "words":
            problem = f"the splitting {splitting!r} was given together with the tokenizer {tokenizer!r}"
            raise BadInput(problem, expected="one of the two", remedy="leave out the splitting")
        train, held_out, vocabulary, unknown = encoded(text.train, text.held_out, tokenizer, keep_ids=keep_ids)
        what = f"{len(vocabulary):,} tokens of the tokenizer {tokenizer}"
        return _tokens(text, what, train, held_out, vocabulary, unknown)
    if vocabulary_size is not None and vocabulary_size < 2:
        required, remedy = "at least 2, for <unk> and one word", f"take {DEFAULT_VOCABULARY_SIZE:,}, the default"
        received = f"{vocabulary_size}"
        raise InvalidArgument("tokenize", "vocabulary_size", required=required, received=received, remedy=remedy)
    return _in_words(text, vocabulary_size, splitting, progress)


def _in_words(text: Text, vocabulary_size: int | None, splitting: Splitting, progress: Progress) -> Tokens:
    """Tokenise a text by its most frequent words."""
    sentences = partial(_sentences, splitting=splitting, pretokenized=text.pretokenized)
    order = defaultdict[str, int]()  # words are numbered as they come
    order.default_factory = order.__len__
    read = array("i")
    for sentence in sentences(text.train, progress=progress):
        read.extend(map(order.__getitem__, sentence))
    found = torch.frombuffer(read, dtype=torch.int32) if read else torch.empty(0, dtype=torch.int32)
    counts = dict(zip(order, torch.bincount(found, minlength=len(order)).tolist(), strict=True))
    ranked = sorted((word for word in counts if word != UNKNOWN), key=lambda word: (-counts[word], word))
    usual = DEFAULT_VOCABULARY_SIZE if splitting == "words" else len(ranked) + 1
    size = vocabulary_size or usual
    vocabulary = (UNKNOWN, *ranked[: size - 1])
    if not text.pretokenized:
        _warn_without_spaces(text.name, counts)
    ids = {word: id for id, word in enumerate(vocabulary)}
    train = torch.tensor([ids.get(word, 0) for word in order], dtype=torch.int64)[found]
    held_out = _ids(sentences(text.held_out), ids)
    what = f"the {len(vocabulary):,} commonest of its {len(ranked) + 1:,} words"
    if len(vocabulary) > len(ranked):
        asked = f" ({size:,} were asked for)" if len(vocabulary) < size else ""
        what = f"all its {len(vocabulary):,} words{asked}"
    what += f", split as {splitting}" if splitting != "words" else ""
    return replace(_tokens(text, what, train, held_out, vocabulary, 0), splitting=splitting)


def shuffled(tokens: Tokens, seed: int) -> Tokens:
    """Return the tokens in random order, so that word frequencies are kept but context has no information.

    Args:
        tokens: the text; each of its two parts is shuffled separately.
        seed: seed of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    train, held_out = (part[torch.randperm(len(part), generator=generator)] for part in (tokens.train, tokens.held_out))
    return _with_words(tokens, train, held_out, f"{tokens.name}-shuffled", f"its words in random order (seed {seed})")


def uniform(tokens: Tokens, seed: int) -> Tokens:
    """Return as many random tokens, all equally likely, so that nothing can be learned, not even word frequencies.

    Args:
        tokens: the text, of which length and vocabulary are kept.
        seed: seed of the draws.
    """
    generator, size = torch.Generator().manual_seed(seed), len(tokens.vocabulary)
    train, held_out = (torch.randint(size, part.shape, generator=generator) for part in (tokens.train, tokens.held_out))
    how = f"random words instead, all equally likely (seed {seed})"
    return replace(_with_words(tokens, train, held_out, f"{tokens.name}-uniform", how), share_unknown=1 / size)


def _with_words(tokens: Tokens, train: torch.Tensor, held_out: torch.Tensor, name: str, how: str) -> Tokens:
    description, digest = f"{tokens.description}; {how}", digest_of_ids(train, held_out, tokens.vocabulary)
    return replace(tokens, name=name, description=description, train=train, held_out=held_out, digest=digest)


def require_tokens(tokens: Tokens, batch_size: int, length: int, num_probe_sequences: int) -> None:
    """Require enough tokens for a training batch and for the held-out sequences, each with one next token.

    Raises:
        BadInput: there are too few; the message has both numbers.
    """
    needs = [("to train on", tokens.train, batch_size), ("held out", tokens.held_out, num_probe_sequences)]
    for what, part, num_sequences in needs:
        needed = num_sequences * (length + 1)
        if len(part) < needed:
            raise BadInput(
                f"the text {tokens.name} has only {len(part):,} tokens {what}",
                expected=f"at least {needed:,} ({num_sequences} sequences of {length} and a next token)",
                remedy="give a longer text, or fewer or shorter sequences (batch_size, num_probe_sequences, length)",
            )


def save_tokens(tokens: Tokens, path: Path) -> None:
    """Write tokens to a safetensors file atomically."""
    facts = {name: getattr(tokens, name) for name in _Facts._fields}
    parts = {"train": tokens.train.int(), "held_out": tokens.held_out.int()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(parts, {"tokens": json.dumps(facts)}))  # save_file hides that the disk is full


def load_tokens(path: Path) -> Tokens:
    """Read tokens from a file that ``save_tokens`` wrote.

    Raises:
        BadInput: the file is missing, truncated, altered or contains no tokens.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = shaped(decoded((file.metadata() or {})["tokens"]), _Facts)
            train, held_out = (file.get_tensor(part).long() for part in ("train", "held_out"))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if train.dim() != 1 or held_out.dim() != 1 or facts.digest != digest_of_ids(train, held_out, facts.vocabulary):
        raise _unusable(path, "its digest does not match its content")
    return Tokens(train=train, held_out=held_out, **facts._asdict())


def kept_tokens(path: Path, make: Callable[[], Tokens]) -> Tokens:
    """Return the tokens in a file; if it is missing, or damaged (with a warning), make and write them first."""
    if path.exists():
        try:
            return load_tokens(path)
        except BadInput as damage:
            warnings.warn(f"{damage.problem}: the text is read again", stacklevel=3)
    tokens = make()
    save_tokens(tokens, path)
    return tokens


class _Facts(NamedTuple):
    """The fields of ``Tokens`` that are no tensors."""

    name: str
    description: str
    vocabulary: tuple[str, ...]
    digest: str
    share_unknown: float
    splitting: Splitting = "words"


def _unusable(path: Path, why: str) -> BadInput:
    remedy = "delete it; the next run writes it again from the text"
    return BadInput(f"{path} is no intact file of tokens ({why})", expected="a file of `save_tokens`", remedy=remedy)


def _sentences(part: str, splitting: Splitting, pretokenized: bool, progress: Progress = silent) -> Iterator[list[str]]:
    """Yield the words of each line of a text, with what stands for the end of a line or paragraph."""
    lines = _reported_lines(part, progress)
    if splitting == "basic-english":
        yield from map(_basic_english, lines)
    elif pretokenized:
        yield from ([*line.split(), END] for line in lines)
    else:
        yield from _paragraphs(lines)


def _reported_lines(part: str, progress: Progress) -> Iterator[str]:
    """Yield the lines of a text, one at a time, and report how far they are; none after the last line's end."""
    start, size = 0, len(part)
    while start < size:
        end = part.find("\n", start)
        end = size if end < 0 else end
        yield part[start:end]
        if (end + 1) // _REPORTED > start // _REPORTED:
            progress("reading the text", min(end + 1, size), size)
        start = end + 1


def _paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    is_open = False  # whether words came since the last blank line
    for line in lines:
        words = [match.group() for match in _word().finditer(line.lower())]
        if words:
            is_open = True
            yield words
        elif is_open and not line.strip():
            is_open = False
            yield [END]
    if is_open:
        yield [END]


def _basic_english(line: str) -> list[str]:
    return _APART.sub(r" \1 ", line.lower().replace("<br />", " ").translate(_DROPPED)).split()


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of a number with separators, a word, or a run of one punctuation mark."""
    is_mark = (unicodedata.category(chr(code)).startswith("M") for code in range(_LAST_MARK + 1))
    runs = [[code for code, _ in run] for mark, run in groupby(enumerate(is_mark), lambda pair: pair[1]) if mark]
    marks = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    letters = rf"\w[\w{marks}]*(?:[{_JOINERS}]+[\w{marks}]+)*"
    return re.compile(rf"\d+(?:[.,]\d+)+|{letters}(?:['’]{letters})*|([^\w\s])[{marks}]*(?:\1[{marks}]*)*")


def _warn_without_spaces(name: str, counts: Mapping[str, int]) -> None:
    num = sum(counts.values())
    share = sum(count for word, count in counts.items() if _WITHOUT_SPACES.search(word)) / max(num, 1)
    if share > _MOST_WITHOUT_SPACES:
        warnings.warn(
            f"{share:.0%} of the words of {name} are of scripts without spaces between words, so that a whole clause "
            "counts as one word: give a tokenizer",
            stacklevel=4,
        )


def _ids(sentences: Iterable[list[str]], ids: Mapping[str, int]) -> torch.Tensor:
    read = array("q")
    for sentence in sentences:
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
        digest_of_ids(train, held_out, vocabulary),
        share,
    )


def ids_of(tokens: Tokens, text: str) -> torch.Tensor:
    """Return the ids of a text in the vocabulary of another one, without ``<eos>``; unknown words are ``<unk>``.

    Raises:
        BadInput: the vocabulary is not one of words.
    """
    if tokens.vocabulary[0] != UNKNOWN:
        raise BadInput(
            f"{tokens.name} was split by a tokenizer, which its tokens do not contain",
            expected="a vocabulary of words",
            remedy="train with a vocabulary of words, or take a series with a tokenizer",
        )
    pretokenized = any(word != word.lower() for word in tokens.vocabulary)
    known = {word: id for id, word in enumerate(tokens.vocabulary)}
    ids = _ids(_sentences(text, tokens.splitting, pretokenized), known)
    return ids if tokens.splitting == "basic-english" else ids[:-1]


def digest_of_ids(train: torch.Tensor, held_out: torch.Tensor, vocabulary: tuple[str, ...]) -> str:
    """Return the digest of ``Tokens``, of ids and vocabulary."""
    digest = hashlib.sha256(json.dumps(vocabulary).encode())
    for part in (train, held_out):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.int().numpy().astype("<i4").tobytes())
    return digest.hexdigest()[:32]
