"""A user's folder of images with a table that names the label and the parts of each."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from joma.errors import BadInput, cause_of
from joma.extras import extra
from joma.train.images.parts import Occurrence, sorted_parts
from joma.train.images.pictures import Pictures, require_pictures

PATCH, LARGEST = 4, 64
"""The sides of images are multiples of a patch, up to the largest: attention sees all patches at once."""

COLUMNS = "file, label, and any number of columns `part` (in what makes the label) and `other` (not in it)"


class Entry(NamedTuple):
    """A row of the table: the file, its label and its parts."""

    file: str
    label: str
    parts: tuple[Occurrence, ...]


def images_of(folder: Path) -> Pictures:
    """Read images and the one table (``.csv``) of a folder.

    Args:
        folder: with images of one size, square, of 8 to 64 pixels a side. Images that are light on average are taken as
            dark ink on paper; transparent pixels are white.

    Raises:
        BadInput: no table or several, a table without the columns, an image that is missing, empty, unreadable or of
            another size, without parts, or named twice.
    """
    table = _table(folder)
    entries = _entries(table)
    classes = tuple(sorted({entry.label for entry in entries}))
    parts, presence = sorted_parts([entry.parts for entry in entries])
    pixels = _pixels(folder, [entry.file for entry in entries])
    about = f"{len(entries):,} images of {len(classes)} classes with {pixels.shape[-1]} pixels a side ({folder.name})"
    labels = torch.tensor([classes.index(entry.label) for entry in entries])
    return require_pictures(Pictures(folder.name, about, pixels, labels, classes, parts, presence))


def _table(folder: Path) -> Path:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder", expected="a folder of images", remedy="name the folder")
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        problem = f"{folder} has {len(tables)} tables (.csv)"
        raise BadInput(problem, expected="one", remedy=f"keep one with the columns {COLUMNS}")
    return tables[0]


def _entries(table: Path) -> list[Entry]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        remedy = "save the table as CSV in UTF-8"
        raise BadInput(f"{table} cannot be read ({cause_of(error)})", expected="a table", remedy=remedy) from error
    names = [name.strip().lower() for name in header]
    unknown = [name for name in names if name not in ("file", "label", "part", "other")]
    if unknown or names.count("file") != 1 or names.count("label") != 1 or "part" not in names:
        problem = f"{table} has the columns {', '.join(names) or 'none'}"
        raise BadInput(problem, expected=COLUMNS, remedy="name the columns so, with commas between them")
    entries = [_entry(table, number, names, row) for number, row in enumerate(rows, start=2) if any(row)]
    twice = [file for file, num in Counter(entry.file for entry in entries).items() if num > 1]
    if twice:
        problem, remedy = f"{table} names {twice[0]} more than once", "put all parts of an image into one row"
        raise BadInput(problem, expected="each file once", remedy=remedy)
    _require_files(table, [entry.file for entry in entries])
    return entries


def _require_files(table: Path, names: list[str]) -> None:
    """Require that the table's folder has all files that it names."""
    folder = table.parent.resolve()
    paths = [(folder / name).resolve() for name in names]
    missing = [
        name for name, path in zip(names, paths, strict=True) if not (path.is_relative_to(folder) and path.is_file())
    ]
    if missing:
        more = f" ({len(missing)} of {len(names)} such files)" if len(missing) > 1 else ""
        remedy = "write names as the files have them, such as 0001.png, or leave out these rows"
        problem = f"{table} names {missing[0]}, which is not in the folder{more}"
        raise BadInput(problem, expected="names of images in the folder", remedy=remedy)


def _entry(table: Path, number: int, names: list[str], row: list[str]) -> Entry:
    if len(row) > len(names):
        problem, remedy = f"row {number} of {table} has {len(row)} cells", "add columns `part` or `other`"
        raise BadInput(problem, expected=f"at most {len(names)}, as the header", remedy=remedy)
    cells = [(name, cell.strip()) for name, cell in zip(names, row, strict=False) if cell.strip()]
    given = dict(cells)
    for what in ("file", "label", "part"):
        if what not in given:
            problem = f"row {number} of {table} ({given.get('file', 'no file')}) has no {what}"
            raise BadInput(problem, expected=COLUMNS, remedy=f"fill in a {what}, or leave out the row")
    parts = tuple(Occurrence(cell, name == "part") for name, cell in cells if name in ("part", "other"))
    return Entry(given["file"], given["label"], parts)


def _pixels(folder: Path, names: list[str]) -> Tensor:
    """The images as (N, 1, S, S), from 0 (paper) to 255 (ink)."""
    library = extra("PIL.Image", "images are read with it", name="images")
    images = [_image(library, folder, name) for name in names]
    sizes = Counter(image.shape for image in images)
    if len(sizes) > 1:
        most, other = (size for size, _ in (sizes.most_common()[0], sizes.most_common()[-1]))
        odd = next(name for name, image in zip(names, images, strict=True) if image.shape == other)
        problem = f"{folder} has images of {len(sizes)} sizes: {_size(most)} mostly, and {odd} is {_size(other)}"
        raise BadInput(problem, expected="one size", remedy=f"resize all images to {_size(most)}")
    if not images:
        return torch.zeros(0, 1, PATCH, PATCH, dtype=torch.uint8)
    high, wide = images[0].shape
    if high != wide or high % PATCH or not 2 * PATCH <= high <= LARGEST:
        expected = f"squares with a side of {2 * PATCH}, {3 * PATCH}, …, or {LARGEST} pixels"
        problem = f"the images in {folder} have {_size(images[0].shape)} pixels"
        raise BadInput(problem, expected=expected, remedy="resize them, to 32x32 for example")
    pixels = torch.from_numpy(np.stack(images))[:, None]
    blank = [name for name, image in zip(names, images, strict=True) if image.min() == image.max()]
    if blank:
        problem = f"{folder / blank[0]} shows nothing: all its pixels are equal ({len(blank)} such images)"
        raise BadInput(problem, expected="images that show something", remedy="leave them out of the table")
    return 255 - pixels if pixels.float().mean() > 127 else pixels


def _image(library: Any, folder: Path, name: str) -> np.ndarray:
    path = folder / name
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with library.open(path) as image:
            if max(image.size) > 16 * LARGEST:  # before it is decoded
                raise ValueError(f"it has {_size(image.size[::-1])} pixels, which is too many")
            if image.mode[0] in "IF":
                raise ValueError("its pixels have more than 8 bits")
            paper = library.new("RGBA", image.size, "white")
            return np.asarray(library.alpha_composite(paper, image.convert("RGBA")).convert("L"))
    except (OSError, ValueError, SyntaxError, library.DecompressionBombError) as error:
        expected, remedy = "an image such as PNG", "repair it, or leave it out of the table"
        raise BadInput(f"{path} cannot be read ({error})", expected=expected, remedy=remedy) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
