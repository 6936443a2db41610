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

import jsonargparse

from joma.errors import DISK_FULL, BadInput, RunFailed

COMMANDS = {
    "reproduce": "Run claims and say whether they hold.",
    "solve": "Solve the dynamics exactly: a table, JSON or a picture.",
    "simulate": "Train the one-layer model and say what became of Theorem 1's invariant.",
    "scan": "Measure attention and weights over a series of saved steps, after looking for suspects.",
    "tree": "Hierarchies of latents: draw from them, learn their labels, find the latents in the network.",
}

_OUT_OF_MEMORY = re.compile(r"allocate memory|out of memory|not enough memory", re.IGNORECASE)
"""How torch says it; on a CPU it has no error of its own for that."""


def parser() -> jsonargparse.ArgumentParser:
    """Return the parser of the whole command line; each command's module adds its own options."""
    root = jsonargparse.ArgumentParser(
        prog="joma",
        description="An observatory for Transformer training dynamics.",
        version=version("joma"),
        allow_abbrev=False,
    )
    commands = root.add_subcommands(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = jsonargparse.ArgumentParser(description=summary, allow_abbrev=False)
        sub.add_argument("--config", action="config", help="read options from a YAML file; flags override it")
        commands.add_subcommand(name, sub, help=summary)
        _module(name).add_options(sub)  # after: commands below commands must be added from the top down
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""
    # Threads that wait for work by spinning take the cores from those that have some: twenty times slower when busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    options = parser().parse_args(None if argv is None else list(argv))
    run: Callable[[Any], int] = _module(options.subcommand).run
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning  # ty: ignore[invalid-assignment] (it wants that very function)
            return run(options[options.subcommand])
    except BadInput as error:
        return _say(str(error), 2)
    except RunFailed as error:
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return _say("interrupted; what was finished is kept: run the same command again to go on", 130)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        return _say("there is not enough memory for this; what was finished is kept: ask for less at a time", 1)
    except OSError as error:
        if error.errno in DISK_FULL:
            return _say("the disk is full; what was finished is kept: free some space and run the same again", 1)
        return _say(f"{error.strerror or error}: {error.filename or ''}; what was finished is kept", 1)


def _module(command: str) -> Any:
    return import_module(f"joma.cli.{command}")


def _say_warning(message: Warning | str, *_: object) -> None:
    """Show a warning as a sentence for people, without a line of our source."""
    print(f"joma: {message}", file=sys.stderr)


def _say(message: str, status: int) -> int:
    print(f"joma: {message}", file=sys.stderr)
    return status
