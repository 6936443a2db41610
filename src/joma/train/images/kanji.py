"""Characters of KanjiVG: strokes and a tree of parts made by people, read from the installed package ``kanjivg``.

The package is data without a module (Ulrich Apel, CC BY-SA 3.0). The label of a character is its radical, under which
dictionaries list it; the radical may take several forms (氵 and 水), which are parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch

from joma.errors import BadInput, NotInstalled
from joma.train.images.parts import FEWEST_WITH, Occurrence, sorted_parts
from joma.train.images.pictures import Pictures, require_pictures
from joma.train.images.strokes import Curve, drawn, path_curves

FEWEST_OF_CLASS = 50
"""The fewest characters of a class: a fifth of them, ten, are never seen in training."""

SIZE = 32
_EXTENT = 109.0
"""The side of a character's square in KanjiVG."""

_RADICALS = ("general", "tradit")
"""The dictionaries whose radical counts; the first that gives one."""


class Character(NamedTuple):
    """A character: the name of its radical (empty if it has none), its parts and the SVG paths of its strokes."""

    name: str
    radical: str
    parts: tuple[Occurrence, ...]
    paths: tuple[str, ...]

    def curves(self) -> list[Curve]:
        """Return the Bézier curves of its strokes."""
        try:
            return [curve for path in self.paths for curve in path_curves(path)]
        except ValueError as error:
            problem, remedy = f"{self.name} cannot be drawn ({error})", "install kanjivg again"
            raise BadInput(problem, expected="a drawing of KanjiVG", remedy=remedy) from error


def kanji(*, num_views: int = 4, size: int = SIZE, seed: int = 0) -> Pictures:
    """Draw all characters of KanjiVG whose radical is that of ``FEWEST_OF_CLASS`` or more.

    Args:
        num_views: pictures of each character.
        size: pixels a side.
        seed: of pens and distortions.

    Raises:
        NotInstalled: the package is not installed.
    """
    return pictures_of(read_characters(character_folder()), num_views=num_views, size=size, seed=seed)


def pictures_of(
    characters: Sequence[Character],
    *,
    num_views: int,
    size: int = SIZE,
    seed: int = 0,
    fewest_of_class: int = FEWEST_OF_CLASS,
    fewest_of_part: int = FEWEST_WITH,
) -> Pictures:
    """Draw characters; the label is the radical.

    Args:
        characters: of whatever radicals; those of rare ones are left out.
        num_views, size, seed: as in ``kanji``.
        fewest_of_class: the fewest characters of a class.
        fewest_of_part: the fewest characters that have a part, and that lack it.

    Raises:
        BadInput: fewer than two classes are left.
    """
    counts = Counter(entry.radical for entry in characters if entry.radical)
    classes = tuple(sorted(name for name, num in counts.items() if num >= fewest_of_class))
    kept = [entry for entry in characters if entry.radical in classes]
    parts, presence = sorted_parts([entry.parts for entry in kept], fewest_of_part)
    pixels = drawn([entry.curves() for entry in kept], _EXTENT, size, num_views, seed) if kept else torch.empty(0)
    about = f"{len(kept):,} characters of {len(classes)} radicals, drawn with {size} × {size} pixels (KanjiVG)"
    labels = torch.tensor([classes.index(entry.radical) for entry in kept], dtype=torch.int64)
    return require_pictures(Pictures("kanji", about, pixels, labels, classes, parts, presence))


def read_characters(folder: Path) -> list[Character]:
    """Read the characters of a folder of KanjiVG's SVG files, without variants of handwriting.

    Raises:
        BadInput: a file cannot be read, or there is none.
    """
    paths = sorted(path for path in folder.glob("*.svg") if re.fullmatch("[0-9a-f]{5}", path.stem))
    if not paths:
        expected = "files such as 06f22.svg"
        raise BadInput(f"{folder} has no characters", expected=expected, remedy="install kanjivg again")
    return [read_character(path) for path in paths]


def character_folder() -> Path:
    """Return the folder of the characters that the package ``kanjivg`` installed.

    Raises:
        NotInstalled: it is not installed.
    """
    try:
        found = next(path for path in files("kanjivg") or () if path.suffix == ".svg")
    except (PackageNotFoundError, StopIteration) as error:
        raise NotInstalled(
            "the package `kanjivg` is not installed; the characters that networks learn come from it",
            expected="the extra joma[images]",
            remedy="`pip install 'joma[images]'`, or --data images=FOLDER",
        ) from error
    return Path(str(found.locate())).parent


def read_character(path: Path) -> Character:
    """Read one file of KanjiVG; nothing that it refers to is read.

    Raises:
        BadInput: it cannot be read, or defines entities.
    """
    try:
        content = path.read_bytes()
        if b"<!ENTITY" in content:  # which may stand for other files, or for text of any length
            raise ValueError("it defines entities")
        root = next(group for group in ElementTree.fromstring(content).iter() if _attribute(group, "element"))
        wanted = next((name for name in _RADICALS if any(_attribute(at, "radical") == name for at in root.iter())), "")
        radical = min(
            (_original(at) for at in root.iter() if wanted and _attribute(at, "radical") == wanted), default=""
        )
        paths = tuple(at.get("d", "") for at in root.iter() if at.tag.endswith("}path"))
    except StopIteration:
        return Character(path.stem, "", (), ())
    except (OSError, ValueError, ElementTree.ParseError) as error:
        expected = "a drawing of KanjiVG"
        raise BadInput(f"{path} cannot be read ({error})", expected=expected, remedy="install kanjivg again") from error
    parts = tuple(_occurrences(root, wanted, depth=0, of_label=False))
    return Character(_attribute(root, "element"), radical, parts, paths)


def _occurrences(group: ElementTree.Element, wanted: str, *, depth: int, of_label: bool) -> Iterator[Occurrence]:
    """The named parts of a character's tree; the character itself only if it is its own radical."""
    name, of_label = _attribute(group, "element"), of_label or (wanted != "" and _attribute(group, "radical") == wanted)
    if name and (depth > 0 or of_label):
        yield Occurrence(name, of_label, depth)
    for below in group:
        if below.tag.endswith("}g"):
            yield from _occurrences(below, wanted, depth=depth + bool(name), of_label=of_label)


def _attribute(element: ElementTree.Element, name: str) -> str:
    """An attribute of KanjiVG's namespace, which has been written in two ways."""
    return next((value for key, value in element.attrib.items() if key.endswith(f"}}{name}")), "")


def _original(element: ElementTree.Element) -> str:
    return _attribute(element, "original") or _attribute(element, "element")
