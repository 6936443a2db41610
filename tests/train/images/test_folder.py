"""A folder of images is read with its table, and each fault is named with what to do."""

import csv

import numpy as np
import pytest

from joma.errors import BadInput
from joma.train.images.folder import images_of

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install 'joma[images]'")
HEADER = ["file", "label", "part", "other"]


@pytest.fixture
def folder(tmp_path):
    """A hundred images of two classes, dark on white, with a table."""
    rows = []
    for number in range(100):
        label = "ab"[number % 2]
        pixels = np.full((16, 16), 255, dtype=np.uint8)
        pixels[2:4] = number
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append([f"{number}.png", label, f"bar {label}", "dot" if number < 50 else ""])
    write(tmp_path, [HEADER, *rows])
    return tmp_path


def write(folder, rows):
    with (folder / "parts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(folder):
    with (folder / "parts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_images_have_labels_parts_and_ink_on_paper(folder):
    found = images_of(folder)
    assert found.pixels.shape == (100, 1, 16, 16)
    assert found.pixels[7, 0, 2, 0] == 255 - 7
    assert found.pixels[7, 0, 8, 0] == 0
    assert found.classes == ("a", "b")
    assert [(part.name, part.kind) for part in found.parts] == [
        ("bar a", "label"),
        ("bar b", "label"),
        ("dot", "other"),
    ]
    assert found.presence[:, 2].sum() == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(["0.png", "a", "bar a", ""]), "names 0.png more than once"),
        (lambda rows: rows[3].__setitem__(2, ""), r"row 4 .*2\.png.* has no part.*leave out the row"),
        (lambda rows: rows[3].__setitem__(1, ""), "has no label"),
        (lambda rows: rows[3].__setitem__(0, ""), "has no file"),
        (lambda rows: rows[3].append("more"), "has 5 cells"),
        (lambda rows: rows[0].__setitem__(2, "radical"), "columns file, label, radical, other"),
        (lambda rows: rows.clear(), "columns none"),
        (lambda rows: rows.__delitem__(slice(5, None)), "4 labelled pictures"),
        (lambda rows: rows[3].__setitem__(0, "../secret.png"), "not in the folder"),
        (lambda rows: rows[3].__setitem__(0, "none.png"), r"names none\.png, which is not in the folder; .*rows"),
        (
            lambda rows: [row.__setitem__(0, row[0].removesuffix(".png")) for row in rows[1:]],
            r"names 0, which is not in the folder \(100 of 100 such files\); .*such as 0001\.png",
        ),
        (lambda rows: [row.__delitem__(slice(2, None)) for row in rows], "columns file, label; expected .*`part`"),
        (lambda rows: [row.__setitem__(1, "a") for row in rows[1:]], "of 1 class; .*add pictures of another class"),
    ],
)
def test_faults_of_the_table_are_named(folder, change, message):
    rows = rows_of(folder)
    change(rows)
    write(folder, rows)
    with pytest.raises(BadInput, match=message):
        images_of(folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), r"5\.png cannot be read \(it is empty\)"),
        (lambda path: path.write_bytes(b"no image"), r"5\.png cannot be read .*repair it, or leave it out"),
        (lambda path: path.unlink(), r"names 5\.png, which is not in the folder"),
        (lambda path: Image.new("L", (16, 16)).save(path), r"5\.png shows nothing"),
        (lambda path: Image.fromarray(np.zeros((16, 16), np.uint16)).save(path), "more than 8 bits"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), r"5\.png cannot be read"),
        (
            lambda path: Image.new("L", (20, 16)).save(path),
            r"2 sizes: 16x16 mostly, and 5\.png is 20x16; .*resize all images to 16x16",
        ),
        (lambda path: Image.new("L", (2000, 2000)).save(path), "too many"),
    ],
)
def test_faults_of_an_image_are_named(folder, make, message):
    make(folder / "5.png")
    with pytest.raises(BadInput, match=message):
        images_of(folder)


@pytest.mark.parametrize("size", [(16, 20), (18, 18), (4, 4), (128, 128)])
def test_images_that_cannot_be_cut_into_patches_say_which_can(folder, size):
    for path in folder.glob("*.png"):
        Image.new("L", size).save(path)
    with pytest.raises(BadInput, match="resize them"):
        images_of(folder)


def test_folder_needs_one_table(folder):
    (folder / "more.csv").write_text("file,label,part\n")
    with pytest.raises(BadInput, match="2 tables"):
        images_of(folder)
    with pytest.raises(BadInput, match="no folder"):
        images_of(folder / "5.png")
    (folder / "more.csv").unlink()
    (folder / "parts.csv").write_bytes(b"file,label,part\n\xff\xfe")
    with pytest.raises(BadInput, match="UTF-8"):
        images_of(folder)


def test_transparent_pixels_are_paper(folder):
    for path in folder.glob("*.png"):
        pixels = np.zeros((16, 16, 4), dtype=np.uint8)
        pixels[2:4, :, 3] = 255
        Image.fromarray(pixels).save(path)
    found = images_of(folder).pixels[0, 0]
    assert found[2, 0] == 255
    assert found[8, 0] == 0
