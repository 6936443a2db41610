"""Characters of KanjiVG: strokes and a tree of parts made by people, read from the installed package ``kanjivg``.

The package is data without a module (Ulrich Apel, CC BY-SA 3.0). The label of a character is its radical, under which
dictionaries list it; the radical may take several forms (氵 and 水), which are parts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from joma.errors import BadInput
from joma.train.images.pictures import Kind, Part, Pictures, require_pictures
from joma.train.images.strokes import Curve, drawn, path_curves

FEWEST_OF_CLASS = 50
FEWEST_OF_PART = 40
"""The fewest characters of a class, and with a part: a fifth of them, eight, are never seen in training."""

SIZE = 32
_EXTENT = 109.0
"""The side of a character's square in KanjiVG."""

_RADICALS = ("general", "tradit")
"""The dictionaries whose radical counts; the first that gives one."""


class Occurrence(NamedTuple):
    """A part in the tree of a character.

    Args:
        name: of the part, in the form that is drawn.
        depth: number of named parts that it is within.
        of_label: whether it is the radical, or within it.
    """

    name: str
    depth: int
    of_label: bool


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
        BadInput: the package is not installed.
    """
    return pictures_of(read_characters(_folder()), num_views=num_views, size=size, seed=seed)


def pictures_of(
    characters: Sequence[Character],
    *,
    num_views: int,
    size: int = SIZE,
    seed: int = 0,
    fewest_of_class: int = FEWEST_OF_CLASS,
    fewest_of_part: int = FEWEST_OF_PART,
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
    parts, presence = _parts(kept, fewest_of_part)
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
    return [_character(path) for path in paths]


def _folder() -> Path:
    try:
        found = next(path for path in files("kanjivg") or () if path.suffix == ".svg")
    except (PackageNotFoundError, StopIteration) as error:
        raise BadInput(
            "the package `kanjivg` is not installed; the characters that networks learn come from it",
            expected="the extra joma[images]",
            remedy="`pip install 'joma[images]'`, or name a folder of images",
        ) from error
    return Path(str(found.locate())).parent


def _character(path: Path) -> Character:
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
        yield Occurrence(name, depth, of_label)
    for below in group:
        if below.tag.endswith("}g"):
            yield from _occurrences(below, wanted, depth=depth + bool(name), of_label=of_label)


def _attribute(element: ElementTree.Element, name: str) -> str:
    """An attribute of KanjiVG's namespace, which has been written in two ways."""
    return next((value for key, value in element.attrib.items() if key.endswith(f"}}{name}")), "")


def _original(element: ElementTree.Element) -> str:
    return _attribute(element, "original") or _attribute(element, "element")


def _parts(characters: Sequence[Character], fewest: int) -> tuple[tuple[Part, ...], Tensor]:
    """The parts that enough characters have, each in its kind, and (N, P) whether a character has them.

    A character that has a part in another kind only does not count for it.
    """
    within, without, depths = [], [], defaultdict[tuple[str, bool], list[int]](list)
    for one in characters:
        for entry in one.parts:
            depths[entry.name, entry.of_label].append(entry.depth)
        within.append({entry.name for entry in one.parts if entry.of_label})
        without.append({entry.name for entry in one.parts if not entry.of_label})
    of_labels, parts, columns = {name for name, of_label in depths if of_label}, [], []
    for name, of_label in sorted(depths):
        has, elsewhere = (
            torch.tensor([name in here for here in present])
            for present in ((within, without) if of_label else (without, within))
        )
        if min(int(has.sum()), int((~has & ~elsewhere).sum())) >= fewest:
            kind: Kind = "label" if of_label else "elsewhere" if name in of_labels else "other"
            parts.append(Part(name, kind, float(np.mean(depths[name, of_label]))))
            columns.append(torch.where(has, 1, -elsewhere.long()))
    presence = torch.stack(columns, dim=1) if columns else torch.zeros(len(characters), 0)
    return tuple(parts), presence.to(torch.int8)
