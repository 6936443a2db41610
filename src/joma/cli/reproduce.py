"""``joma reproduce``: run claims from the registry, write what was found, say whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, say, show
from joma.cli.parsing import Parser
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.claims.claim import Claim

FILES = ("report.html", "explorer.html", "claims.json", "metrics.parquet", "figures/", "evidence/")


def add_options(parser: Parser) -> None:
    """Add the options of ``joma reproduce``."""
    add = parser.add_argument
    add(
        "ids",
        nargs="*",
        default=[],
        metavar="ID",
        help="claims or families of claims (theorem1); those that take minutes together if none is named",
    )
    add("--all", action="store_true", help="every claim, also those that take longer")
    add("--profile", choices=["quick", "full"], default="quick", help="quick: minutes; full: the paper's sizes, hours")
    add("--list", action="store_true", help="list the claims and stop")
    add("--seeds", type=PositiveInt, metavar="N", help="repetitions of whatever is random (default: each claim's own)")
    parser.share("--text")
    add(
        "--vocabulary-size",
        type=PositiveInt,
        metavar="N",
        help="keep the N commonest words (default: 1000 in quick, 4000 in full)",
    )
    add("--tokenizer", type=str, metavar="NAME|FILE", help="a Hugging Face tokenizer in place of words")
    add(
        "--data",
        type=str,
        action="append",
        metavar="NAME=PATH",
        help="your own images, fashion, ratings or table, for claims on other data than text",
    )
    add("--out", type=str, default="joma-out", metavar="DIR", help="where everything goes; a second run goes on there")
    parser.share("--keep", "--device", "--workers", "--json")
    add("--strict", action="store_true", help="exit with 1 unless every verdict is `holds`")


def run(options: Any) -> int:
    """Evaluate the claims named, write the report, return the exit status."""
    if options.list:
        return _list(options)
    folder_of(options.out)

    from joma.claims.registry import all_claims
    from joma.claims.workspace import TextChoice
    from joma.report.verdicts import verdict_table
    from joma.studies.reproduce import Interrupted, reproduce

    settings = {name: getattr(options, name) for name in ("out", "profile", "seeds", "device", "workers", "keep")}
    text = TextChoice(options.text, options.vocabulary_size, options.tokenizer)
    try:
        found, interrupted = reproduce(*_ids(options), text=text, data=_data(options), **settings), False
    except Interrupted as stop:
        found, interrupted = stop.result, True
    show(found.record, [verdict_table(found.outcomes)], as_json=options.json)
    conclude(found.summary(), found.folder, FILES, as_json=options.json)
    if not _ids(options) and (more := [claim.id for claim in all_claims().values() if not claim.by_default]):
        say(f"not evaluated, because they take longer: {', '.join(more)} (joma reproduce --all)", as_error=options.json)
    if kept := found.kept():
        say(kept, as_error=options.json)
    if interrupted:
        raise KeyboardInterrupt
    if any(outcome.error for outcome in found.outcomes):
        return 1
    return int(options.strict and any(entry["verdict"] != "holds" for entry in found.record["claims"]))


def _data(options: Any) -> dict[str, str]:
    """Return the user's data by name."""
    pairs = [entry.partition("=") for entry in options.data or ()]
    if wrong := next((name for name, _, path in pairs if not path), None):
        remedy = "write --data ratings=my-ratings.csv, for example"
        raise BadInput(f"--data is {wrong!r}", expected="NAME=PATH", remedy=remedy)
    return {name: path for name, _, path in pairs}


def _list(options: Any) -> int:
    from rich.table import Table

    from joma.claims.registry import select

    claims = select(_ids(options) or ["all"])
    parts = ("test", "control", "origin", "by_default", "extra")
    rows = [asdict(claim.reference) | {part: getattr(claim, part) for part in parts} for claim in claims]
    table = Table("claim", "what it says", "where it stands", show_lines=True)
    for claim in claims:
        table.add_row(*_cells(claim))
    show(rows, [table], as_json=options.json)
    conclude(f"{len(claims)} claim{'' if len(claims) == 1 else 's'}", None, (), as_json=options.json)
    return 0


def _ids(options: Any) -> list[str]:
    if options.all and options.ids:
        problem, expected = f"--all and the claims {', '.join(options.ids)}", "one of the two"
        raise BadInput(problem, expected=expected, remedy="leave out --all to evaluate these claims only")
    return ["all"] if options.all else options.ids


def _cells(claim: Claim) -> Sequence[Any]:
    from rich.text import Text

    origin = () if claim.origin == "joma" else (f"brought by {claim.origin}",)
    where = "\n".join((claim.reference.source, *origin, *claim.conditions))
    return [Text(part) for part in (claim.id, claim.reference.statement, where)]
