"""``joma tree``: hierarchies of latents: draw from them, learn their labels, find the latents in the network."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from joma.cli.parsing import Parser, add_commands

COMMANDS = {
    "sample": "Draw samples: tokens, labels and which latents were there.",
    "cooccurrence": "How often two tokens come together, by how far up their nearest common ancestor is.",
    "train": "Train a decoder to predict the label from the tokens.",
    "align": "Say how well hidden units of a trained decoder stand for the latents, against chance.",
    "learn": "Learn a tree of the columns of a table, or of the items of ratings.",
    "anomalies": "Find rows of a table that break the relations between its columns, and say which columns do.",
}


def add_options(parser: Parser) -> None:
    """Add the commands of ``joma tree``, each with its own options."""
    add_commands(parser, "joma.cli.tree", COMMANDS, "WHAT")


def run(options: Any) -> int:
    """Run one of the commands, return its exit status."""
    status: int = import_module(f"joma.cli.tree.{options.subcommand}").run(options[options.subcommand])
    return status
