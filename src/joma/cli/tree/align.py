"""``joma tree align``: how well hidden units of a trained network stand for the latents, against chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse
from jsonargparse.typing import NonNegativeInt, PositiveInt

from joma.cli.output import folder_of, print_json
from joma.errors import BadInput


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of ``joma tree align``."""
    add = parser.add_argument
    add("run", type=str, metavar="RUN", help="folder that `joma tree train` left behind")
    add("--step", type=NonNegativeInt | None, help="of which the weights were kept (default: the newest)")
    add("--samples", type=PositiveInt, default=2000, help="fresh ones, which no training has seen")
    add("--seed", type=int, default=0, help="of the samples and of the shuffles")
    add("--permutations", type=PositiveInt, default=200, help="shuffles of the latents, for chance and p-values")
    add("--json", action="store_true", help="print JSON in place of the tables")
    add("--out", type=str | None, metavar="DIR", help="write alignment.json and the picture of the tree there")


def run(options: Any) -> int:
    """Compare, print, write, return the exit status."""
    folder = folder_of(options.out)

    from joma.report.alignment import alignment_record, alignment_tables, found_picture
    from joma.report.progress import shown
    from joma.train.latents import aligned
    from joma.train.run import load_run

    trained = load_run(Path(options.run))
    if not trained.law().level_sizes or not trained.recipe.decoder.mlp:
        raise BadInput(
            f"{options.run} has no latents or no hidden units to compare",
            expected="a law with latents, and a network with MLPs",
            remedy="train one with `joma tree train`",
        )
    with shown() as progress:
        found = aligned(trained, options.step, options.samples, options.seed, options.permutations, progress)
    record = alignment_record(found)
    if folder is not None:
        from joma.files import write_json
        from joma.report.drawing.hierarchies import write_found

        write_json(folder / "alignment.json", record)
        write_found(found_picture(found), folder / "alignment")
    if options.json:
        print_json(record)
        return 0

    from rich.console import Console

    Console().print(alignment_tables(found))
    return 0
