"""The text that ships with every Python, help topics and docstrings as prose, which needs no network."""

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
"""Folders of tests, whose docstrings are no documentation."""

_NOT_EVERYWHERE = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo", "venv"})
"""Modules that some distributions package separately; without them the text depends only on the version."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_PARAGRAPHS = re.compile(r"\n\s*\n")
_MARKUP = re.compile(r"[`*]+")


@functools.cache
def python_docs() -> str:
    """Return the documentation inside this Python: paragraphs of prose, separated by blank lines.

    The interpreter's help topics come first, then the docstrings of the standard library, sorted by name. Modules
    are parsed, not imported. Doctests, code, tables, rulers and repeated paragraphs (help topics quote each other)
    are left out, so that no held-out paragraph occurs in training.

    Returns:
        about 230,000 words, the same for every unpatched copy of a Python version.

    Raises:
        BadInput: the sources of the standard library are not installed.
    """
    from pydoc_data.topics import topics

    documents = (*(topics[name] for name in sorted(topics)), *_docstrings())
    blocks = (block for document in documents for block in _PARAGRAPHS.split(document))
    paragraphs = dict.fromkeys(filter(None, map(_prose, blocks)))  # without repetitions, in order
    if len(paragraphs) < 1000:
        raise BadInput(
            f"this Python {platform.python_version()} has only {len(paragraphs)} paragraphs of documentation",
            expected="a Python with the sources of its standard library",
            remedy="give a text of your own with `text`",
        )
    return "\n\n".join(paragraphs)


def _docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - _NOT_EVERYWHERE):
        for path in [library / f"{name}.py", *sorted((library / name).rglob("*.py"))]:
            if path.is_file() and not _LEFT_OUT & set(path.relative_to(library).parts):
                yield from _documentation(ast.parse(path.read_bytes()))


def _documentation(node: ast.AST) -> Iterator[str]:
    """Yield docstrings in the order of the source; only statements are visited."""
    if isinstance(node, _DOCUMENTED) and (docstring := ast.get_docstring(node)):
        yield docstring
    for part in ("body", "handlers", "orelse", "finalbody"):
        children = getattr(node, part, [])
        for child in children if isinstance(children, list) else []:
            yield from _documentation(child)


def _prose(block: str) -> str:
    """The block as one line without markup; empty if it is code, a table or a ruler."""
    if ">>>" in block:
        return ""
    line = " ".join(_MARKUP.sub("", block).split())
    spelled = sum(character.isalpha() or character == " " for character in line)
    return line if len(line.split()) >= 4 and spelled >= 0.8 * len(line) else ""
