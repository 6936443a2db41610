"""The ``joma`` command: parse, call, write. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from joma.cli.output import say
from joma.cli.parsing import Parser, add_commands
from joma.errors import DISK_FULL, BadInput, InvalidArgument, RunFailed, is_out_of_memory

COMMANDS = {
    "reproduce": "Run claims and say whether they hold.",
    "solve": "Solve the dynamics exactly: a table, JSON or a picture.",
    "explore": "Make a page in which the theory can be moved by hand, next to a run and the claims.",
    "simulate": "Train the one-layer model and say what became of Theorem 1's invariant.",
    "sweep": "Train networks over a grid of settings: the runs behind the paper's figures, or others.",
    "scan": "Measure attention and weights over a series of saved steps, after looking for suspects.",
    "show": "Show what happened in a training run: a page of curves, heatmaps and plain sentences.",
    "advise": "Say what a training run's measurements mean and what to try.",
    "tree": "Hierarchies of latents: draw from them, learn their labels, find the latents in the network.",
}


def parser() -> Parser:
    """Return the parser of the whole command line; each command's module adds its own options."""
    root = Parser(prog="joma", description="An observatory for Transformer training dynamics.", version=version("joma"))
    add_commands(root, "joma.cli", COMMANDS, "COMMAND")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # also while packages are imported
        return _say(
            "interrupted; what was written to a folder is kept, and the same command uses what it can of it", 130
        )


def _run(words: list[str]) -> int:
    """Run one command; all errors that a person can do something about become one line."""
    # Threads that wait for work by spinning take the cores from those that have some: twenty times slower when busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    try:
        options = parser().parse_args(words if words not in ([], ["tree"]) else [*words, "--help"])
    except SystemExit as stop:  # help, or a wrong use
        return int(stop.code or 0)
    run: Callable[[Any], int] = import_module(f"joma.cli.{options.subcommand}").run
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning  # ty: ignore[invalid-assignment] (it wants that very function)
            return run(options[options.subcommand])
    except BadInput as error:
        return _say(_with_option(error, options[options.subcommand]), 2)
    except RunFailed as error:
        return _say(str(error), 1)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _say("there is not enough memory for this; what was finished is kept: ask for less at a time", 1)
    except OSError as error:
        if error.errno in DISK_FULL:
            return _say("the disk is full; what was finished is kept: free some space and run the same again", 1)
        return _say(f"{error.strerror or error}: {error.filename or ''}; what was finished is kept", 1)


def _with_option(error: BadInput, options: Any) -> str:
    """The message, with options in place of the parameters that they set."""
    while options.get("subcommand"):
        options = options[options.subcommand]
    names = {"times": "t"} | {name: name for name in vars(options)} | {f"num_{name}": name for name in vars(options)}
    flags = {parameter: f"--{name.replace('_', '-')}" for parameter, name in names.items() if name in options}
    flags |= {name: name.upper() for name in ("recipe",) if name in options}  # given without a flag
    message = str(error)
    if isinstance(error, InvalidArgument) and error.parameter in flags:
        message = f"{flags[error.parameter]} is {error.received}; expected {error.expected}; {error.remedy}"
    return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), message)


def _say_warning(message: Warning | str, *_: object) -> None:
    """Show a warning as a sentence for people, without a line of our source."""
    say(f"joma: {message}", as_error=True)


def _say(message: str, status: int) -> int:
    say(f"joma: {message}".replace("\n", "\\n"), as_error=True)  # one line, whatever a name in it holds
    return status
