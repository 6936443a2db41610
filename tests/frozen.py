"""The public names and the options of the command line, as two frozen lists.

A change shows as a difference in the tests and in review. After a deliberate change, write both lists again:

    .venv/bin/python tests/frozen.py
"""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

CONTRACT = Path(__file__).parent / "contract"


def public_names() -> list[str]:
    """Return every public name with its parameters, and the public attributes of classes."""
    import joma

    names: list[str] = []
    for name in dir(joma):
        thing = getattr(joma, name)
        names.append(f"joma.{name}({_parameters(thing)})")
        if isinstance(thing, type):
            names += [f"joma.{name}.{part}" for part in sorted(dir(thing)) if _is_ours(thing, part)]
    return names


def _parameters(thing: Any) -> str:
    """Return the parameters, with those of settings that are passed on by name."""
    shown = []
    for name, parameter in inspect.signature(thing, eval_str=True).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and (unpacked := get_args(parameter.annotation)):
            shown.append(f"**{', '.join(unpacked[0].__annotations__)}")
        else:
            star = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
            shown.append(star + name)
    return ", ".join(shown)


def _is_ours(thing: type, part: str) -> bool:
    home = next((kind for kind in thing.__mro__ if part in vars(kind)), object)
    return not part.startswith("_") and home.__module__.startswith("joma.")


def cli_options() -> list[str]:
    """Return every option of every command, with its values and its default."""
    from joma.cli import parser

    return [f"{command} {_described(option)}" for command, option in options_of(parser())]


def options_of(parser: argparse.ArgumentParser, command: str = "joma") -> Iterator[tuple[str, argparse.Action]]:
    """Yield the options and arguments of a parser and of its subcommands."""
    for action in parser._actions:  # argparse has no public attribute for them
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
    """Return the changes against the frozen list, one line per name (``-`` removed, ``+`` added)."""
    frozen = (CONTRACT / file).read_text(encoding="utf-8").splitlines()
    lines = difflib.unified_diff(frozen, LISTS[file](), f"{file}, frozen", "the source", n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


if __name__ == "__main__":
    for file, found in LISTS.items():
        (CONTRACT / file).write_text("\n".join(found()) + "\n", encoding="utf-8")
