"""Execute the examples of public names: ``.venv/bin/python docs/examples.py NAME…``, with the extra ``docs``.

An example is the doctest in a docstring. It runs in an empty folder, and must print what the docstring shows.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pages
from tutorials import made_once

import joma


class Stale(AssertionError):
    """An example does not print what its docstring shows."""


class _Runner(doctest.DocTestRunner):
    """Keeps what each example prints, by its line."""

    def __init__(self) -> None:
        super().__init__(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
        self.printed: dict[int, str] = {}

    def report_success(self, out: Any, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        self.printed[example.lineno] = example.want if example.exc_msg else re.sub(r"\n{2,}", "\n", got)


def executed(name: str) -> tuple[str, list[Any]]:
    """Run the example of a public name.

    Returns:
        Its docstring with what the example printed now, and the matplotlib figures that it drew.

    Raises:
        Stale: it prints something other than the docstring shows, or raises another error.
    """
    from matplotlib import pyplot

    docstring = inspect.getdoc(getattr(joma, name)) or ""
    parser, runner, complaints = doctest.DocTestParser(), _Runner(), []
    pyplot.close("all")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        runner.run(parser.get_doctest(docstring, {}, name, None, 0), out=complaints.append)
    if complaints:
        raise Stale("".join(complaints))
    parts = (
        part if isinstance(part, str) else _prompted(part.source) + runner.printed[part.lineno]
        for part in parser.parse(docstring)
    )
    return "".join(parts), [pyplot.figure(number) for number in pyplot.get_fignums()]


def _prompted(source: str) -> str:
    first, *others = source.splitlines()
    return "\n".join((f">>> {first}", *(f"... {line}".rstrip() for line in others), ""))


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """Return the page of a public name with its executed example, and the pictures of the page by file name."""
    docstring, figures = executed(name)
    pictures = {}
    for number, figure in enumerate(figures):
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120, bbox_inches="tight")
        pictures[f"{name}_{number}.png"] = content.getvalue()
    text, end = pages.api_page(name, docstring), "\n```\n"
    after = text.index(end, text.rindex("```python\n>>>")) + len(end)
    shown = "".join(f"\n![What the example draws]({picture})\n" for picture in pictures)
    return text[:after] + shown + text[after:], pictures


def write(names: Sequence[str], folder: Path) -> None:
    """Execute examples, and write the page of each name and its pictures into a folder.

    What is there from the same code is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with made_once(folder / f"{name}.digest", pages.api_page(name)) as needed:
            if needed:
                text, pictures = page(name)
                (folder / f"{name}.md").write_text(text, encoding="utf-8")
                for picture, content in pictures.items():
                    (folder / picture).write_bytes(content)


if __name__ == "__main__":
    write(sys.argv[1:] or dir(joma), Path(__file__).parents[1] / "build" / "api")
