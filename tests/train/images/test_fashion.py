"""Files of Fashion-MNIST's kind are read, and damaged ones are refused."""

import gzip
import struct

import numpy as np
import pytest

from joma.errors import BadInput
from joma.train.images.fashion import IMAGES, LABELS, fashion


def write(path, array):
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / IMAGES, np.arange(40 * 64).reshape(40, 8, 8) % 256)
    write(tmp_path / LABELS, np.arange(40) % 2 * 7)
    return tmp_path


def test_pictures_have_labels_and_no_parts(folder):
    found = fashion(folder, 30)
    assert found.pixels.shape == (30, 1, 8, 8)
    assert found.pixels[1, 0, 0, 0] == 64
    assert found.classes == ("0", "7")
    assert found.labels[:3].tolist() == [0, 1, 0]
    assert found.parts == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / LABELS).unlink(),
        lambda folder: (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:100]),
        lambda folder: (folder / IMAGES).write_bytes(b"no gzip"),
        lambda folder: (folder / IMAGES).write_bytes(gzip.compress(b"\0\0")),
        lambda folder: write(folder / IMAGES, np.zeros(40)),
        lambda folder: write(folder / IMAGES, np.zeros((40, 8, 6))),
        lambda folder: write(folder / LABELS, np.zeros(41)),
    ],
)
def test_damaged_files_are_refused(folder, spoil):
    spoil(folder)
    with pytest.raises(BadInput, match="Fashion-MNIST"):
        fashion(folder)
