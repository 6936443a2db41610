"""Code, tests and docs use plain technical English, without metaphors that only their author understands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".pyi", ".md", ".html", ".js", ".txt"}
HISTORY = ROOT / "docs" / "log.md"
FOLDERS = ("src", "tests", "docs", "benchmarks", "examples")
PATHS = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))]
TEXTS = [path for path in PATHS if path.suffix in SUFFIXES and path not in (HISTORY, Path(__file__))]

INSTEAD = {
    "told|tell|tells|telling": "called with, reported, named or distinguished: the reader cannot know which is meant",
    "deaf|obey|obeys|obeyed|obeying|patiently": "ignore, follow or retry: software has no character",
    "stranger|strangers": "the weights of another training run",
    "door|doors": "hook, kernel or interface: the thing has a name",
    "beside": "next to, together with or in addition to",
    "for else": "because otherwise",
    "but for": "except",
    "and the like|or the like": "all of the things, or a word for them",
}
"""Words to avoid, with the words to use and the reason."""

NAMES = {"Together": "class Together", "APART": "APART = 1"}
"""Identifiers that do not name what they are, each with an example; use a noun such as JOINT or SEPARATE."""


def uses(words: str, text: str) -> bool:
    """Return whether a text has one of the words, or an identifier in snake case has; methods are not counted."""
    return re.search(rf"(?<![a-z.])({words})(?![a-z])", text, re.IGNORECASE) is not None


def lines() -> list[tuple[str, str]]:
    return [
        (f"{path.relative_to(ROOT).as_posix()}:{number}", line)
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ]


@pytest.mark.parametrize("words", INSTEAD)
def test_no_text_uses_a_private_metaphor(words):
    found = [f"{place}: {line.strip()}" for place, line in lines() if uses(words, line)]
    assert not found, f"write {INSTEAD[words]}\n" + "\n".join(found)


@pytest.mark.parametrize("name", NAMES)
def test_no_identifier_is_an_adverb(name):
    assigned = re.compile(rf"class {name}\b|\b{name}(\(| =|: |,)")
    assert assigned.search(NAMES[name])
    found = [f"{place}: {line.strip()}" for place, line in lines() if ".py:" in place and assigned.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["as told", "Tell it", "deaf_to_interrupts", "STRANGERS = 3", "`told`", "for else"])
def test_words_are_found_in_texts_and_identifiers(text):
    assert uses("|".join(INSTEAD), text)


@pytest.mark.parametrize("text", ["stellar", "outdoors", "disobeyed", "besides", "for elsewhere", "butter for it"])
def test_parts_of_other_words_are_not_found(text):
    assert not uses("|".join(INSTEAD), text)
