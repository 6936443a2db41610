"""``joma reproduce``: run claims from the registry, write what was found, say whether they hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
from jsonargparse.typing import PositiveInt

if TYPE_CHECKING:
    from joma.claims.claim import Claim
    from joma.claims.evaluation import Outcome


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of ``joma reproduce``."""
    add = parser.add_argument
    add(
        "ids", nargs="*", default=[], metavar="ID", help="claims or families of claims (theorem1); all if none is named"
    )
    add("--profile", choices=["quick", "full"], default="quick", help="quick: minutes; full: the paper's sizes, hours")
    add("--list", action="store_true", help="list the claims and stop")
    add("--seeds", type=PositiveInt | None, help="repetitions of whatever is random; each claim has its own default")
    add(
        "--text",
        type=str | None,
        metavar="FILE|NAME",
        help="a file, a folder, wikitext2, wikitext103; default: the text that ships with Python",
    )
    add(
        "--vocabulary-size",
        type=PositiveInt | None,
        metavar="N",
        help="keep the N commonest words (1000 in quick, 4000 in full)",
    )
    add("--tokenizer", type=str | None, metavar="NAME|FILE", help="a Hugging Face tokenizer in place of words")
    add("--out", type=str, default="joma-out", metavar="DIR", help="where everything goes; a second run goes on there")
    add("--json", action="store_true", help="print claims.json to standard output, for machines")
    add("--strict", action="store_true", help="exit with 1 unless every verdict is `holds`")


def run(options: Any) -> int:
    """Evaluate the claims named, write the report, return the exit status."""
    if options.list:
        from joma.claims.registry import select

        return _list(select(options.ids), as_json=options.json)

    from joma.claims.workspace import TextChoice
    from joma.studies.reproduce import Interrupted, reproduce

    text = TextChoice(options.text, options.vocabulary_size, options.tokenizer)
    try:
        found, interrupted = (
            reproduce(*options.ids, out=options.out, profile=options.profile, seeds=options.seeds, text=text),
            False,
        )
    except Interrupted as stop:
        found, interrupted = stop.result, True
    if options.json:
        print(json.dumps(found.record, indent=1, ensure_ascii=False))
    else:
        _show(found.outcomes, found.folder)
    if interrupted:
        raise KeyboardInterrupt
    if any(outcome.error for outcome in found.outcomes):
        return 1
    return int(options.strict and any(entry["verdict"] != "holds" for entry in found.record["claims"]))


def _list(claims: Sequence[Claim], *, as_json: bool) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if as_json:
        parts = ("test", "control", "origin")
        rows = [asdict(claim.reference) | {part: getattr(claim, part) for part in parts} for claim in claims]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    table = Table("claim", "what it says", "where it stands", show_lines=True)
    for claim in claims:
        origin = "" if claim.origin == "joma" else f"\nbrought by {claim.origin}"
        table.add_row(*map(Text, (claim.id, claim.reference.statement, claim.reference.source + origin)))
    Console().print(table)
    return 0


def _show(outcomes: Sequence[Outcome], folder: Path) -> None:
    from rich.console import Console

    from joma.report.verdicts import verdict_table

    # Off a terminal there is no width to fit into, and a narrow table is hard to read.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    console.print(verdict_table(outcomes))
    console.print(f"the page: {(folder / 'report.html').absolute().as_uri()}", soft_wrap=True)
