"""The text a network is trained on: what a user names, found, read and split in training and held-out part."""

from __future__ import annotations

import itertools
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from joma.errors import BadInput
from joma.train.text.files import missing, published_split, read_file, read_folder
from joma.train.text.python_docs import python_docs
from joma.train.text.wikitext import NAMES, wikitext

BUILT_IN = "python-docs"
"""The name of the text that ships with every Python."""

_HOLD_OUT_EVERY = 10
_WORDS_PER_BLOCK = 1000
_CHARACTERS_PER_WORD = 6
_FEWEST_CHARACTERS = 600
_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))


@dataclass(frozen=True)
class Text:
    """Words of running text, split in a part to train on and a part to test on.

    Args:
        name: short: ``python-docs``, ``wikitext2``, or the name of a file or folder.
        description: one sentence: what it is, where it came from, how long it is.
        train: the text to train on.
        held_out: the text a network never trains on.
        pretokenized: words and punctuation stand apart already and a line is a unit, as in WikiText.
    """

    name: str
    description: str
    train: str
    held_out: str
    pretokenized: bool = False


def read_text(source: str | None = None) -> Text:
    """The text that ``source`` names.

    Args:
        source: ``None`` or ``python-docs`` for the text inside this Python, ``wikitext2`` or ``wikitext103``, or
            a file or folder (``.txt``, ``.gz``, ``.xz``). Names of texts go before files: write ``./wikitext2``.

    Returns:
        the text; WikiText and folders with a ``train`` and a ``valid`` file keep that split, of any other text
        every tenth block of about 1,000 words is held out.

    Raises:
        BadInput: nothing of that name, nothing to read in it, or less than can be split.
    """
    if source is None or source == BUILT_IN:
        what = f"the help topics and docstrings of Python {platform.python_version()}"
        return _split(BUILT_IN, what, python_docs())
    if source in NAMES:
        train, held_out, origin = wikitext(source)
        return _published(source, f"{NAMES[source]} at word level, from {origin}", train, held_out)
    path = Path(source).expanduser()
    if not path.exists():
        raise missing(path, known=(*NAMES, BUILT_IN))
    if not path.is_dir():
        return _split(path.name, f"the file {path.name}", read_file(path))
    if split := published_split(path):
        train, held_out = map(read_file, split)
        return _published(path.resolve().name, f"the folder {path.resolve().name}", train, held_out)
    return _split(path.resolve().name, f"the folder {path.resolve().name}", read_folder(path))


def _published(name: str, what: str, train: str, held_out: str) -> Text:
    return Text(name, _described(what, train, held_out, "as published"), train, held_out, _is_pretokenized(train))


def _split(name: str, what: str, whole: str) -> Text:
    train, held_out = hold_out(whole)
    how = f"every {_HOLD_OUT_EVERY}th block of text"
    return Text(name, _described(what, train, held_out, how), train, held_out, _is_pretokenized(whole))


def _described(what: str, train: str, held_out: str, how: str) -> str:
    return f"{what}: {len(train.split()):,} words to train on, {len(held_out.split()):,} held out ({how})"


def _is_pretokenized(text: str) -> bool:
    """Only who has cut a text into words can have put ``<unk>`` for some of them."""
    return " <unk> " in text


def hold_out(whole: str) -> tuple[str, str]:
    """Split a text into a part to train on and a tenth to test on, made of blocks spread evenly through it.

    A text drifts from its beginning to its end (chapters, modules, authors): its last tenth would test another
    language than the one that was learned. Blocks are long against a sequence, so that few cross a seam, and end
    where a paragraph does, or else a line, or else a word.

    Raises:
        BadInput: too short to be cut into ten blocks.
    """
    if len(whole) < _FEWEST_CHARACTERS:
        raise BadInput(
            f"the text is only {len(whole)} characters long",
            expected=f"at least {_FEWEST_CHARACTERS}, to train on nine parts and test on the tenth",
            remedy="give a longer text",
        )
    num_blocks = max(1, round(len(whole) / (_HOLD_OUT_EVERY * _WORDS_PER_BLOCK * _CHARACTERS_PER_WORD)))
    num_blocks *= _HOLD_OUT_EVERY
    size = len(whole) / num_blocks
    cuts = [_break_after(whole, round(i * size), round((i + 0.5) * size)) for i in range(1, num_blocks)]
    edges = [0, *cuts, len(whole)]
    blocks = [whole[start:end] for start, end in itertools.pairwise(edges)]
    held_out = [i % _HOLD_OUT_EVERY == _HOLD_OUT_EVERY // 2 for i in range(num_blocks)]
    parts = [
        "\n\n".join(block.strip("\n") for block, out in zip(blocks, held_out, strict=True) if out == wanted)
        for wanted in (False, True)
    ]
    if not all(part.strip() for part in parts):
        raise BadInput(
            "what would be held out of the text holds nothing but space",
            expected="words all through it",
            remedy="take the long gap out of the text",
        )
    return parts[0], parts[1]


def _break_after(whole: str, start: int, stop: int) -> int:
    """Where the best break between two positions ends; ``start`` itself where there is none."""
    for kind in _BREAKS:
        if found := kind.search(whole, start, stop):
            return found.end()
    return start
