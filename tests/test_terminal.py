"""No character of a text can command a terminal, whichever way the text is printed."""

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from joma.report.drawing.tables import table_of
from joma.terminal import console, printable

SEQUENCES = [
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\r",
    "\x08",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ud800",
    "\x00",
]


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_control_characters_become_escapes(sequence):
    shown = printable(f"a{sequence}b")
    assert shown == f"a\\u{ord(sequence[0]):04x}{sequence[1:].replace(chr(7), chr(92) + 'u0007')}b"
    assert printable(shown) == shown


@given(st.text(st.characters()))
def test_only_tab_and_newline_of_all_control_characters_remain(text):
    left = {letter for letter in printable(text) if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")}
    assert left <= {"\t", "\n"}
    assert not {
        letter for letter in printable(text) if unicodedata.bidirectional(letter) in ("RLO", "LRO", "RLE", "RLI")
    }


def test_words_of_every_script_are_unchanged():
    text = "μ · слово · 词 · שלום · كلمة · क्षत्रिय · 👩\u200d🔬 · a\u0301\n\t"
    assert printable(text) == text


@given(st.text(st.characters(codec="utf-8")))
def test_escaped_json_has_the_same_content(text):
    assert json.loads(printable(json.dumps({"name": text}, ensure_ascii=False))) == {"name": text}


@pytest.mark.parametrize("sequence", ["\x1b[31m", "\x9b2J", "\u202e", "[bold]", "[/nonsense]", ":smile:"])
@pytest.mark.parametrize("kind", [str, Text])
def test_names_in_any_part_of_a_table_are_printed_as_they_are(sequence, kind):
    name = f"n{sequence}"
    table = table_of([kind(name)], title=kind(name), caption=kind(name))
    table.add_row(kind(name))
    table.add_row("as wide as the text will be with its escapes")
    file = io.StringIO()
    console(file, 80).print(table)
    console(file, 80).print(name)
    assert file.getvalue().count(printable(name)) == 5
    assert not set("\x1b\x9b\u202e") & set(file.getvalue())


def test_styles_still_reach_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    console(file, 80).print(Text("wrong", style="bold red"))
    assert file.getvalue().startswith("\x1b[1;31mwrong")
