"""The text that ships with every Python: help topics and docstrings, as prose. It needs no network."""

from __future__ import annotations

import ast
import functools
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from joma.errors import BadInput

_LEFT_OUT = frozenset({"test", "tests"})
"""Folders of tests: what they say of themselves is no documentation."""

_NOT_EVERYWHERE = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo", "venv"})
"""Packaged apart by some distributions: without them the text is the same wherever the version is."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_MARKUP = re.compile(r"[`*]+")


@functools.cache
def python_docs() -> str:
    """The documentation inside this Python: paragraphs of prose, a blank line between two of them.

    First come the interpreter's help topics, then the docstrings of the standard library, by name. The modules
    are parsed, never imported. Doctests, code, tables and rulers are left out, so is every paragraph that stood
    before (help topics quote each other at length): what is held out of this text was not read in training.

    Returns:
        about 230,000 words, the same for every copy of one Python version that nobody has patched.

    Raises:
        BadInput: this Python came without the sources of its library.
    """
    paragraphs: dict[str, None] = {}  # a set that remembers the order
    for document in (*_topics(), *_docstrings()):
        for block in _PARAGRAPHS.split(document):
            if prose := _prose(block):
                paragraphs[prose] = None
    if len(paragraphs) < 1000:
        raise BadInput(
            f"this Python {platform.python_version()} holds only {len(paragraphs)} paragraphs of documentation",
            expected="a Python with the sources of its standard library",
            remedy="give a text of your own with --text",
        )
    return "\n\n".join(paragraphs)


def _topics() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - _NOT_EVERYWHERE):
        for path in [library / f"{name}.py", *sorted((library / name).rglob("*.py"))]:
            if path.is_file() and not _LEFT_OUT & set(path.relative_to(library).parts):
                yield from _documentation(ast.parse(path.read_bytes()))


def _documentation(node: ast.AST) -> Iterator[str]:
    """Docstrings in the order of the source; only statements are visited, an expression holds none."""
    if isinstance(node, _DOCUMENTED) and (docstring := ast.get_docstring(node)):
        yield docstring
    for part in ("body", "handlers", "orelse", "finalbody"):
        children = getattr(node, part, [])
        for child in children if isinstance(children, list) else []:
            yield from _documentation(child)


def _prose(block: str) -> str:
    """The block as one line without markup, or nothing where it is code, a table or a ruler rather than prose."""
    if ">>>" in block:
        return ""
    line = " ".join(_MARKUP.sub("", block).split())
    spelled = sum(character.isalpha() or character == " " for character in line)
    return line if len(line.split()) >= 4 and spelled >= 0.8 * len(line) else ""
