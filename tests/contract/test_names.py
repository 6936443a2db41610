"""The public names stay what they are, unless somebody means to change them (``frozen`` says how)."""

import ast

import frozen

REGENERATE = "if this is meant, run `.venv/bin/python tests/frozen.py` and commit the list"


def test_public_names_are_the_frozen_ones():
    changed = frozen.difference("public_names.txt")
    assert not changed, f"{REGENERATE}\n{changed}"


def test_a_name_that_goes_or_comes_shows_in_the_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "CONTRACT", tmp_path)
    (tmp_path / "public_names.txt").write_text("joma.gone\njoma.kept\n")
    monkeypatch.setitem(frozen.LISTS, "public_names.txt", lambda: ["joma.kept", "joma.new"])
    beside_the_sides = frozen.difference("public_names.txt").splitlines()[2:]
    assert beside_the_sides == ["-joma.gone", "+joma.new"]


def test_every_room_and_every_module_of_the_ground_floor_is_covered():
    covered = {name.split(".")[1] for name in frozen.public_names()}
    rooms = {path.stem for path in (frozen.SOURCE / "joma").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert covered == {room for room in rooms if not room.startswith("_")} - frozen.CLOSED


def test_private_names_and_names_inside_functions_are_not_public():
    source = (
        "def seen():\n  def inner(): ...\ndef _hidden(): ...\nclass Seen:\n  def part(self): ...\n  def _own(self): ..."
    )
    assert list(frozen._defined(ast.parse(source).body)) == ["seen", "Seen", "Seen.part"]
