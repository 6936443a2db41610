"""Characters are read with their trees of parts, and drawn with the radical as the label."""

from importlib.metadata import PackageNotFoundError, files

import pytest

from joma.errors import BadInput, NotInstalled
from joma.train.images import kanji as module
from joma.train.images.kanji import Character, character_folder, pictures_of, read_character, read_characters
from joma.train.images.parts import Occurrence

SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:kvg="http://kanjivg.tagaini.net"><g id="kvg:StrokePaths_06c5f">
<g id="kvg:06c5f" kvg:element="江"><g kvg:element="氵" kvg:original="水" kvg:radical="general">
<path d="M20,19c3,1,8,5,10,8"/></g><g kvg:element="工" kvg:radical="nelson"><path d="M40,30c10,0,20,0,40,0"/></g></g>
</g></svg>"""


@pytest.fixture(scope="module")
def characters():
    """The folder of KanjiVG's characters, which an extra installs."""
    try:
        files("kanjivg")
    except PackageNotFoundError:
        pytest.skip("the package kanjivg is not installed: pip install 'joma[images]'")
    return character_folder()


def test_character_has_its_radical_and_its_parts_with_depths(tmp_path):
    path = tmp_path / "06c5f.svg"
    path.write_text(SVG, encoding="utf-8")
    found = read_character(path)
    assert found[:3] == ("江", "水", (Occurrence("氵", True, 1), Occurrence("工", False, 1)))
    assert len(found.curves()) == 2


def test_real_character_has_the_tree_that_its_authors_drew(characters):
    found = read_character(characters / "08a31.svg")
    assert (found.name, found.radical, len(found.paths)) == ("許", "言", 11)
    assert set(found.parts) == {
        Occurrence("言", True, 1),
        Occurrence("口", True, 2),
        Occurrence("午", False, 1),
        Occurrence("干", False, 2),
        Occurrence("十", False, 3),
    }


def test_character_that_is_its_own_radical_is_a_part_of_depth_0(characters):
    assert Occurrence("青", True, 0) in read_character(characters / "09752.svg").parts


def test_variants_and_other_files_are_not_read(tmp_path):
    for name in ("06c5f.svg", "06c5f-Kaisho.svg", "notes.svg"):
        (tmp_path / name).write_text(SVG, encoding="utf-8")
    assert [found.name for found in read_characters(tmp_path)] == ["江"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg",
        SVG.replace("<svg", '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg').encode(),
        b"\xff\xfe\x00",
    ],
)
def test_damaged_file_and_entities_are_refused_by_name(tmp_path, content):
    path = tmp_path / "06c5f.svg"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"06c5f\.svg cannot be read"):
        read_character(path)


def test_folder_without_characters_and_strokes_that_cannot_be_drawn_are_refused(tmp_path):
    with pytest.raises(BadInput, match="has no characters"):
        read_characters(tmp_path)
    with pytest.raises(BadInput, match="江 cannot be drawn"):
        Character("江", "水", (), ("M1,1h5",)).curves()


def test_rare_radicals_are_left_out_and_labels_are_radicals():
    paths = ("M20,50c20,0,40,0,60,0",)
    many = [
        Character(f"{radical}{number}", radical, (Occurrence(radical, True, 1),), paths)
        for radical, num in (("水", 12), ("人", 12), ("龍", 2))
        for number in range(num)
    ]
    found = pictures_of(many, num_views=2, size=16, fewest_of_class=10, fewest_of_part=10)
    assert found.classes == ("人", "水")
    assert found.pixels.shape == (24, 2, 16, 16)
    assert [(part.name, part.kind, part.depth) for part in found.parts] == [("人", "label", 1.0), ("水", "label", 1.0)]
    with pytest.raises(BadInput, match="0 labelled pictures"):
        pictures_of(many[:3], num_views=1)


def test_missing_package_names_the_extra(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "files", missing)
    with pytest.raises(NotInstalled, match=r"joma\[images\]"):
        character_folder()
