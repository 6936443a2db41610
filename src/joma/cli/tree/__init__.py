"""``joma tree``: hierarchies of latents: draw from them, learn their labels, find the latents in the network."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import jsonargparse

COMMANDS = {
    "sample": "Draw samples: tokens, labels and which latents were there.",
    "cooccurrence": "How often two tokens come together, by how far up their nearest common ancestor is.",
    "train": "Train a decoder to tell the label from the tokens.",
    "align": "Say how well hidden units of a trained decoder stand for the latents, against chance.",
}


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the commands below ``joma tree``, each with its own options."""
    commands = parser.add_subcommands(required=True, metavar="WHAT")
    for name, summary in COMMANDS.items():
        sub = jsonargparse.ArgumentParser(description=summary, allow_abbrev=False)
        commands.add_subcommand(name, sub, help=summary)
        _module(name).add_options(sub)


def run(options: Any) -> int:
    """Run one of the commands, return its exit status."""
    status: int = _module(options.subcommand).run(options[options.subcommand])
    return status


def _module(command: str) -> Any:
    return import_module(f"joma.cli.tree.{command}")
