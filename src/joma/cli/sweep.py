"""``joma sweep``: train networks over a grid of settings, go on after an interruption, write one table and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, say, show
from joma.cli.parsing import Parser

FILES = ("sweep.html", "explorer.html", "sweep.parquet", "sweep.json", "runs/")
_SETTINGS = ("profile", "text", "search", "engine", "workers", "device", "keep", "yes")


def add_options(parser: Parser) -> None:
    """Add the options of ``joma sweep``."""
    add = parser.add_argument
    add("recipe", metavar="RECIPE", type=str, help="figure6 (depth), figure7 (rank) or figure8 (learning rate)")
    add(
        "--profile",
        choices=["quick", "paper", "wikitext103"],
        default="quick",
        help="quick: half an hour on two cores; paper, wikitext103: 58,560 steps a run",
    )
    add(
        "--over",
        type=str,
        action="append",
        metavar="KEY=VALUES",
        help="in place of the recipe's grid, repeated for a product: lr=1e-4,1e-3, layers=1:10:1, lr=1e-5:1e-2:7log; "
        "or a .csv or .json file",
    )
    add("--seeds", type=PositiveInt, metavar="N", help="repetitions of each point (default: 3)")
    add("--search", type=PositiveInt, metavar="N", help="sample N points of --over with optuna: lr=1e-6:1e-2:log")
    parser.share("--text")
    add("--out", type=str, metavar="DIR", help="default: joma-sweep/RECIPE-PROFILE; a second run goes on there")
    parser.share("--engine", "--device", "--workers", "--keep")
    add("--yes", action="store_true", help="more than 1,000 runs are meant")
    parser.share("--json")


def run(options: Any) -> int:
    """Train, write, print, return the exit status: 1 if a run failed."""
    from joma.report.sweep import left_out_note, sweep_table
    from joma.studies.sweep import Interrupted, sweep

    out = folder_of(options.out)
    settings = {name: getattr(options, name) for name in _SETTINGS}
    try:
        found = sweep(options.recipe, over=options.over, seeds=options.seeds, out=out, **settings)
        interrupted = False
    except Interrupted as stop:
        found, interrupted = stop.result, True
    show(dict(found.record), [sweep_table(found.points)], as_json=options.json)
    if not interrupted and (note := left_out_note(found.points)):
        say(note, as_error=options.json)
    for failed in found.record["failed"]:
        say(f"{failed['run']} failed: {failed['reason']}", as_error=True)
    if note := found.record["different_from_paper"]:
        say(note, as_error=options.json)
    conclude(found.summary(), found.folder, FILES, as_json=options.json)
    say(f"The page: {Path(found.folder / 'sweep.html').absolute().as_uri()}", as_error=options.json)
    if interrupted:
        raise KeyboardInterrupt
    return int(bool(found.record["failed"]))
