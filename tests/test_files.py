"""A file is written completely or not at all, also after failures while it is written."""

import json
import math
import signal
import subprocess
import sys
import time

import pytest

from joma.errors import BadInput
from joma.files import expanded, read_json, replacing, write_json


def test_the_file_is_replaced_at_the_end_of_the_block_without_leftovers(tmp_path):
    path = tmp_path / "made" / "on the way" / "record.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_exception_in_the_block_changes_nothing(tmp_path, error):
    path = tmp_path / "record.txt"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_wrote_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "record.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "record.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from joma.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('ne'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_json(path.with_name("another.txt"), "new")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["another.txt", "record.txt"]


def test_temporary_files_of_running_processes_and_other_machines_are_kept(tmp_path):
    with replacing(tmp_path / "a.txt") as own:
        own.write_text("a")
        others = [tmp_path / ".b.txt.another-machine.999999999.part", tmp_path / f".{own.name[1:]}x.part"]
        for other in others:
            other.touch()
        write_json(tmp_path / "b.json", 1)
        assert own.exists()
    assert all(other.exists() for other in others)


def test_a_reader_never_sees_a_partial_file_during_two_writers(tmp_path):
    path = tmp_path / "record.json"
    code = (
        "import sys; from pathlib import Path; from joma.files import write_json\n"
        "for turn in range(30): write_json(Path(sys.argv[1]), [int(sys.argv[2])] * 20_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), number]) for number in "12"]
    seen = set()
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if path.exists():
            content = json.loads(path.read_text())
            assert len(content) == 20_000
            assert len(set(content)) == 1
            seen.add(content[0])
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert seen
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", [math.nan, math.inf, {1, 2}])
def test_values_that_are_not_json_are_refused_before_writing(tmp_path, bad):
    path = tmp_path / "record.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"loss": bad})
    assert json.loads(path.read_text()) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_json_keeps_unicode_letters_in_any_locale(tmp_path):
    path = tmp_path / "Ergebnis μ.json"
    write_json(path, {"v̇": "(μ − v) exp(v²/2)"})
    assert "(μ − v) exp(v²/2)" in path.read_bytes().decode("utf-8")
    assert path.read_bytes().endswith(b"}\n")


def test_json_keeps_bytes_of_file_names_that_are_no_text(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"name": "caf\udce9"})
    assert read_json(path, dict, expected="", remedy="") == {"name": "caf\udce9"}


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"x"', b"{", b"", b"\xff", b"[" * 100_000])
def test_a_file_of_another_shape_is_one_error_with_its_name(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"record\.json cannot be read.*expected a record; write it again"):
        read_json(path, dict, expected="a record", remedy="write it again")


def test_the_home_of_an_unknown_user_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(expanded("~/runs")) == "/home/me/runs"
    assert str(expanded("~nobody-of-this-name/runs")) == "~nobody-of-this-name/runs"
