"""Find the text that a user names, and split it into a training part and a held-out part."""

from __future__ import annotations

import hashlib
import itertools
import platform
import re
from dataclasses import dataclass

from joma.errors import BadInput
from joma.files import expanded
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
    """A text, split into a training part and a held-out part.

    Args:
        name: a short name: ``python-docs``, ``wikitext2``, or the name of a file or folder.
        description: content, origin and length in one sentence.
        train: the part for training.
        held_out: the part for testing.
        pretokenized: whether words and punctuation are separated by spaces and every line is a unit, as in WikiText.
        origin: content and origin without the lengths of the parts, for those who do not train on it.
    """

    name: str
    description: str
    train: str
    held_out: str
    pretokenized: bool = False
    origin: str = ""

    @property
    def digest(self) -> str:
        """A digest of both parts, the same in every process and on every machine."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            digest.update(hashlib.sha256(part.encode(errors="surrogatepass")).digest())
        return digest.hexdigest()[:32]


def is_known_text(source: str | None) -> bool:
    """Return whether ``source`` is the name of a text, and no file or folder."""
    return source is None or source in (BUILT_IN, *NAMES)


def require_text(source: str | None) -> None:
    """Raise ``BadInput`` if ``source`` names no text; it is not read yet."""
    if source is not None and not is_known_text(source) and not expanded(source).exists():
        raise missing(expanded(source), known=(*NAMES, BUILT_IN))


def read_text(source: str | None = None) -> Text:
    """Return the text that ``source`` names.

    Args:
        source: ``None`` or ``python-docs`` for the text inside this Python, ``wikitext2`` or ``wikitext103``, or
            a file or folder (``.txt``, ``.gz``, ``.xz``). For a file of the same name write ``./wikitext2``.

    Returns:
        the text; WikiText and folders with a ``train`` and a ``valid`` file keep that split, of any other text
        every tenth block of about 1,000 words is held out.

    Raises:
        BadInput: the source does not exist, cannot be read, or is too short to be split.
    """
    if source is None or source == BUILT_IN:
        what = f"the help topics and docstrings of Python {platform.python_version()}"
        return _split(BUILT_IN, what, python_docs())
    if source in NAMES:
        train, held_out, origin = wikitext(source)
        return _published(source, f"{NAMES[source]} at word level, from {origin}", train, held_out)
    require_text(source)
    path = expanded(source)
    if not path.is_dir():
        return _split(path.name, f"the file {path.name}", read_file(path))
    name = path.resolve().name
    if split := published_split(path):
        return _published(name, f"the folder {name}", *map(read_file, split))
    return _split(name, f"the folder {name}", read_folder(path))


def _published(name: str, what: str, train: str, held_out: str, how: str = "as published", whole: str = "") -> Text:
    description = f"{what}: {len(train.split()):,} words to train on, {len(held_out.split()):,} held out ({how})"
    # Only a text that is split into words already has the placeholder for rare words.
    return Text(name, description, train, held_out, " <unk> " in (whole or train), what)


def _split(name: str, what: str, whole: str) -> Text:
    return _published(name, what, *hold_out(whole), f"every {_HOLD_OUT_EVERY}th block of text", whole)


def hold_out(whole: str) -> tuple[str, str]:
    """Split a text into a training part and a held-out tenth, which consists of blocks spread evenly over the text.

    Texts change from beginning to end (chapters, modules, authors), so that the last tenth alone would have another
    distribution than the training part. Blocks are much longer than a sequence and end at the end of a paragraph,
    else of a line, else of a word.

    Raises:
        BadInput: the text is too short for ten blocks.
    """
    if len(whole) < _FEWEST_CHARACTERS:
        raise BadInput(
            f"the text is only {len(whole)} characters long",
            expected=f"at least {_FEWEST_CHARACTERS}, for ten blocks, of which one is held out",
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
        problem = "the training part or the held-out part of the text contains only white space"
        raise BadInput(problem, expected="words in all parts of the text", remedy="remove long gaps from the text")
    return parts[0], parts[1]


def _break_after(whole: str, start: int, stop: int) -> int:
    """The end of the best break between two positions; ``start`` if there is none."""
    for kind in _BREAKS:
        if found := kind.search(whole, start, stop):
            return found.end()
    return start
