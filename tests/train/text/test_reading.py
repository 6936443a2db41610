"""Texts are found, decompressed, decoded and split; errors have one line."""

import gzip
import hashlib
import lzma
import platform
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.errors import BadInput
from joma.train.text.python_docs import python_docs
from joma.train.text.reading import hold_out, read_text

STORY = "\n\n".join(f"Paragraph {i} speaks of the number {i} and of nothing else." for i in range(200))


def refusal(source: object) -> str:
    """The error message for a source."""
    with pytest.raises(BadInput) as raised:
        read_text(str(source))
    message = str(raised.value)
    assert "\n" not in message
    return message


# --- the text inside every Python


def test_built_in_text_is_long_prose_without_code():
    text = read_text()
    words = text.train.split()
    assert len(words) > 150_000
    assert platform.python_version() in text.description
    assert ">>>" not in text.train + text.held_out
    assert "*****" not in text.train + text.held_out
    # Running English: its commonest words are English's commonest words.
    share = sum(word in {"the", "a", "of", "to", "is", "and", "in"} for word in words) / len(words)
    assert share > 0.15


def test_built_in_text_has_topics_and_docstrings_and_imports_no_module():
    text = python_docs()
    assert "Assignment statements are used to (re)bind names to values" in text  # the topic "assignment"
    assert "Generic (shallow and deep) copying operations." in text  # the module `copy`
    assert not {"antigravity", "this"} & sys.modules.keys()  # imported, they open a page and print a poem


def test_built_in_text_is_the_same_in_another_process():
    code = (
        "import hashlib; from joma.train.text.reading import read_text; text = read_text();"
        "print(hashlib.sha256((text.train + '|' + text.held_out).encode()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    text = read_text()
    assert other.stdout.strip() == hashlib.sha256(f"{text.train}|{text.held_out}".encode()).hexdigest()


def test_no_paragraph_of_the_built_in_text_is_in_both_parts():
    text = read_text("python-docs")
    train, held_out = (set(part.split("\n\n")) for part in (text.train, text.held_out))
    assert len(held_out) > 500
    assert not train & held_out


# --- files and folders


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("story.txt", str.encode),
        ("story.txt.gz", lambda text: gzip.compress(text.encode())),
        ("story.txt.xz", lambda text: lzma.compress(text.encode())),
        ("story.md", str.encode),
        ("bom.txt", lambda text: text.encode("utf-8-sig")),
        ("windows.txt", lambda text: text.replace("\n", "\r\n").encode()),
        ("wide.txt", lambda text: text.encode("utf-16")),
        ("wide.txt.gz", lambda text: gzip.compress(b"\xfe\xff" + text.encode("utf-16-be"))),
    ],
)
def test_file_is_read_with_any_compression(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(STORY))
    text = read_text(str(path))
    assert (text.train, text.held_out) == hold_out(STORY)
    assert text.name == name
    assert f"{len(text.train.split()):,} words to train on" in text.description
    assert text.description.startswith(f"{text.origin}: ")
    assert "words" not in text.origin


def test_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b.txt").write_text("second " * 200)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.txt.xz").write_bytes(lzma.compress(b"third " * 200))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"first " * 200))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    train = read_text(str(tmp_path)).train
    assert train.count("first") + train.count("second") + train.count("third") > 500
    assert train.index("first") < train.index("second") < train.index("third")
    assert "PNG" not in train


@pytest.mark.parametrize("names", [("train.txt", "valid.txt"), ("wiki.train.tokens", "wiki.valid.tokens")])
def test_published_split_is_kept(tmp_path, names):
    for name, content in zip(names, ["to train on", "to test on"], strict=True):
        (tmp_path / name).write_text(content)
    (tmp_path / "test.txt").write_text("to be left alone")
    text = read_text(str(tmp_path))
    assert (text.train, text.held_out) == ("to train on", "to test on")


def test_broken_link_is_refused_without_a_suggestion(tmp_path):
    (tmp_path / "turn").symlink_to("turn")
    with pytest.raises(BadInput, match="it is a broken symbolic link"):
        read_text(str(tmp_path / "turn"))


def test_missing_file_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "chapters.txt").write_text(STORY)
    assert "did you mean 'chapters.txt'?" in refusal(tmp_path / "chapter.txt")
    assert "does not exist either" in refusal(tmp_path / "nowhere" / "chapter.txt")


@pytest.mark.parametrize(("name", "near"), [("wikitext-2", "wikitext2"), ("wikitext-103", "wikitext103")])
def test_unknown_text_is_refused_with_the_nearest_name(name, near):
    message = refusal(name)
    assert f"did you mean {near!r}?" in message
    assert "python-docs" in message


def test_other_encoding_is_refused_with_the_position_of_the_byte(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"plain\ncaf\xe9 au lait")
    message = refusal(path)
    assert "byte 0xe9 at offset 9 (line 2)" in message
    assert "iconv" in message
    path.write_bytes(b"\xef\xbb\xbf" + b"caf\xe9 au lait")  # with a mark the place is still that in the file
    assert "byte 0xe9 at offset 6 (line 1)" in refusal(path)
    path.write_bytes("mark".encode("utf-16-le") + b"\xff")  # no mark, so it is taken for UTF-8 and holds zero bytes
    assert "latin.txt" in refusal(path)


@pytest.mark.parametrize("kind", ["flipped", "cut", "never packed"])
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_damaged_archive_is_refused(tmp_path, suffix, pack, kind):
    packed = pack(STORY.encode())
    middle = len(packed) // 2
    damaged = {
        "flipped": packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :],
        "cut": packed[:-20],
        "never packed": STORY.encode(),
    }[kind]
    path = tmp_path / f"story.txt{suffix}"
    path.write_bytes(damaged)
    assert f"an intact {suffix} file" in refusal(path)


def test_sources_without_text_are_refused(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n\n\t\n")
    assert "holds no text at all" in refusal(empty)
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"PAR1\0\0\0\0" * 100)
    assert "zero bytes" in refusal(binary)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "holds no text file" in refusal(folder)
    (folder / "short.txt").write_text("too short")
    assert "only 9 characters long" in refusal(folder)
    gap = tmp_path / "gap.txt"
    gap.write_text("a word. " * 400 + " " * 3200)
    assert "only white space" in refusal(gap)


# --- the split


paragraphs = st.lists(st.sampled_from(["alpha beta", "gamma", "delta epsilon\nzeta", "eta theta iota"]), min_size=100)


@settings(max_examples=50, deadline=None)
@given(paragraphs, st.integers(1, 40))
def test_split_loses_no_word_and_no_paragraph_is_divided(parts, repeats):
    whole = "\n\n".join(parts * repeats)
    train, held_out = hold_out(whole)
    assert sorted((train + " " + held_out).split()) == sorted(whole.split())
    assert set(train.split("\n\n")) | set(held_out.split("\n\n")) == set(parts)


def test_a_tenth_spread_over_the_text_is_held_out(tolerance):
    whole = "\n\n".join(f"chapter{i // 1000} and some more words" for i in range(20_000))
    train, held_out = hold_out(whole)
    share = len(held_out.split()) / len(whole.split())
    assert share == pytest.approx(0.1, abs=tolerance("text.held_out_share"))
    chapters = {word for word in held_out.split() if word.startswith("chapter")}
    assert len(chapters) >= 10  # the last tenth would hold two
    assert {word for word in train.split() if word.startswith("chapter")} >= chapters


def test_text_without_any_break_is_split():
    train, held_out = hold_out("x" * 6000)
    assert len(train.replace("\n", "")) == 5400
    assert len(held_out) == 600
