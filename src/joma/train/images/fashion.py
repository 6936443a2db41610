"""Fashion-MNIST, and other sets of pictures in files of its kind (idx, gzip)."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from joma.errors import BadInput
from joma.train.images.pictures import Pictures, require_pictures

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
_MOST_BYTES = 2**28


def fashion(folder: Path, num: int | None = None) -> Pictures:
    """Read the training pictures of a folder with Fashion-MNIST's files; they have no parts.

    Args:
        folder: with ``IMAGES`` and ``LABELS``.
        num: take the first ones only; ``None`` for all.

    Raises:
        BadInput: a file is missing, damaged or of another kind, or the two do not fit each other.
    """
    pixels, labels = _array(folder / IMAGES, 3), _array(folder / LABELS, 1)
    if len(pixels) != len(labels) or pixels.shape[1] != pixels.shape[2] or pixels.shape[1] % 4:
        problem = f"{folder} has pictures of shape {pixels.shape} and {len(labels)} labels"
        remedy = "take the files of Fashion-MNIST"
        raise BadInput(problem, expected="as many square pictures, of a multiple of 4 pixels", remedy=remedy)
    pixels, labels = pixels[:num], labels[:num]
    names, places = np.unique(labels, return_inverse=True)
    size = pixels.shape[1]
    about = f"{len(labels):,} pictures of {len(names)} classes with {size} × {size} pixels ({folder.name})"
    return require_pictures(
        Pictures(
            folder.name,
            about,
            torch.from_numpy(pixels)[:, None],
            torch.from_numpy(places.astype(np.int64)),
            tuple(map(str, names)),
            (),
            torch.zeros(len(labels), 0, dtype=torch.int8),
        )
    )


def _array(path: Path, num_axes: int) -> np.ndarray:
    """The bytes of an idx file as an array of this number of axes."""
    try:
        with gzip.open(path) as file:
            content = file.read(_MOST_BYTES)
        magic, *shape = struct.unpack_from(f">{1 + num_axes}I", content)
        if magic != 0x800 + num_axes:
            raise ValueError("it is no idx file of bytes with this number of axes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        remedy = f"name a folder with {IMAGES} and {LABELS} (Debian: dataset-fashion-mnist)"
        raise BadInput(f"{path} cannot be read ({error})", expected="a file of Fashion-MNIST", remedy=remedy) from error
