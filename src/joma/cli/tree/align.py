"""``joma tree align``: how well hidden units of a trained network stand for the latents, against chance."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.errors import BadInput


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree align``."""
    add = parser.add_argument
    add("run", type=str, metavar="RUN", help="folder that `joma tree train` left behind")
    add("--step", type=NonNegativeInt, metavar="N", help="of which the weights were kept (default: the newest)")
    add("--samples", type=PositiveInt, default=2000, metavar="N", help="fresh ones, which no training has seen")
    add("--permutations", type=PositiveInt, default=200, metavar="N", help="shuffles of the latents, for chance")
    add("--out", type=str, metavar="DIR", help="write alignment.json and the picture of the tree there")
    parser.share("--seed", "--device", "--workers", "--json")


def run(options: Any) -> int:
    """Compare, print, write, return the exit status."""
    folder = folder_of(options.out)

    from joma.devices import device_of
    from joma.report.alignment import alignment_record, alignment_tables, conclusion, found_picture
    from joma.report.progress import shown
    from joma.threads import threads
    from joma.train.latents import aligned
    from joma.train.run import load_run

    trained = load_run(Path(options.run))
    if not trained.law().level_sizes or not trained.recipe.decoder.mlp:
        raise BadInput(
            f"{options.run} has no latents or no hidden units to compare",
            expected="a law with latents, and a network with MLPs",
            remedy="train one with `joma tree train`",
        )
    numbers = (options.samples, options.seed, options.permutations)
    with shown() as progress, nullcontext() if options.workers is None else threads(options.workers):
        found = aligned(trained, options.step, *numbers, device_of(options.device, "align"), progress)
    record = alignment_record(found)
    if folder is not None:
        from joma.files import write_json
        from joma.report.drawing.hierarchies import write_found

        write_json(folder / "alignment.json", record)
        write_found(found_picture(found), folder / "alignment")
    show(record, [alignment_tables(found)], as_json=options.json)
    files = ("alignment.json", "alignment.svg", "alignment.png")
    conclude(conclusion(found), folder, files, as_json=options.json)
    return 0
