"""What callers rely on, frozen as two lists: the public names and the options of the command line.

A change shows as a difference in the tests and in review. After a deliberate one, write both lists anew:

    .venv/bin/python tests/frozen.py
"""

from __future__ import annotations

import argparse
import ast
import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
CONTRACT = Path(__file__).parent / "contract"
CLOSED = {"cli", "__main__"}  # called through the command line alone, whose options are the contract


def public_names() -> list[str]:
    """Every public function, class and method, read from the source without importing it."""
    names: list[str] = []
    for path in sorted((SOURCE / "joma").rglob("*.py")):
        room = path.relative_to(SOURCE).with_suffix("").parts
        if room[1] in CLOSED or any(part.startswith("_") for part in room[1:] if part != "__init__"):
            continue
        module = ".".join(part for part in room if part != "__init__")
        names += sorted(f"{module}.{name}" for name in _defined(ast.parse(path.read_text(encoding="utf-8")).body))
    return names


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in _defined(node.body))


def cli_options() -> list[str]:
    """Every option of every command, with the values it takes and its default."""
    from joma.cli import parser

    return [f"{command} {_described(option)}" for command, option in options_of(parser())]


def options_of(parser: argparse.ArgumentParser, command: str = "joma") -> Iterator[tuple[str, argparse.Action]]:
    """Walk through the options and arguments of a parser and of the commands below it."""
    for action in parser._actions:  # argparse has no public way to ask for them
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from options_of(below, f"{command} {name}")
        else:
            yield command, action


def _described(option: argparse.Action) -> str:
    words = [", ".join(option.option_strings) or (option.metavar or option.dest)]
    if option.nargs not in (None, 0):
        words.append(f"(nargs {option.nargs})")
    if option.choices is not None:
        words.append("{" + ",".join(map(str, option.choices)) + "}")
    elif (kind := getattr(option, "_typehint", None)) is not None:
        words.append(getattr(kind, "__name__", str(kind)).replace("jsonargparse.typing.", ""))
    if option.required and option.option_strings:
        words.append("required")
    elif option.nargs != 0 and option.default not in (None, argparse.SUPPRESS):
        words.append(f"= {option.default!r}")
    return " ".join(words)


LISTS: dict[str, Callable[[], list[str]]] = {"public_names.txt": public_names, "cli_options.txt": cli_options}


def difference(file: str) -> str:
    """What changed against the frozen list: one line per name, ``-`` gone and ``+`` new; empty if nothing did."""
    frozen = (CONTRACT / file).read_text(encoding="utf-8").splitlines()
    lines = difflib.unified_diff(frozen, LISTS[file](), f"{file}, frozen", "the source", n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


if __name__ == "__main__":
    for file, found in LISTS.items():
        (CONTRACT / file).write_text("\n".join(found()) + "\n", encoding="utf-8")
