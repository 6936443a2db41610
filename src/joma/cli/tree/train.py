"""``joma tree train``: train a decoder to tell a law's labels, in a folder from which the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
from jsonargparse.typing import PositiveInt

from joma.cli.tree.laws import add_law_options, law_of
from joma.cli.output import folder_of, print_json
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.problem.tree import Law
    from joma.train.recipes import Recipe
    from joma.train.run import Run

NUM_SNAPSHOTS = 10
"""How many snapshots of the weights are kept unless ``--snapshot-every`` says otherwise, about."""


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of ``joma tree train``."""
    add_law_options(parser)
    add = parser.add_argument
    add("--out", type=str, required=True, metavar="DIR", help="folder of the run; the same command goes on there")
    add("--steps", type=PositiveInt, default=1000, help="steps of Adam, each on fresh samples")
    add("--seed", type=int, default=0, help="of the weights and of the samples")
    add("--learning-rate", type=float, default=1e-3, help="of Adam")
    add("--weight-decay", type=float, default=1e-4, help="of Adam")
    add("--batch-size", type=PositiveInt, default=64, help="samples in a step")
    add("--width", type=PositiveInt, default=128, help="of the residual stream")
    add("--hidden", type=PositiveInt, default=512, help="hidden units of each MLP")
    add("--heads", type=PositiveInt, default=1, help="attention heads of each layer")
    add("--layers", type=PositiveInt | None, help="of the network (default: one for each level of latents)")
    add("--shuffled", action="store_true", help="tokens of a sequence in random order in place of rising")
    add("--snapshot-every", type=PositiveInt | None, metavar="STEPS", help="keep the weights (default: ten times)")
    add("--json", action="store_true", help="print JSON in place of the table")


def run(options: Any) -> int:
    """Train or go on, print, draw, return the exit status."""
    folder = folder_of(options.out)
    assert folder is not None
    law = law_of(options)
    recipe = _recipe(law, options)
    finished = _train(recipe, law, folder)

    from joma.report.drawing.figures import write_stack
    from joma.report.learning import learning_charts, learning_record, learning_table
    from joma.theory.labels import ceiling_of
    from joma.train.courses import LEARNING, course_of

    courses = {metric: course_of([finished], metric, None) for metric in LEARNING}
    found = (finished, courses, ceiling_of(law))
    for ending in (".svg", ".png"):
        write_stack(learning_charts(*found), folder / f"learning{ending}")
    if options.json:
        print_json(learning_record(*found))
        return 0

    from rich.console import Console

    console = Console()
    console.print(learning_table(*found))
    console.print(f"Next: joma tree align {folder}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _recipe(law: Law, options: Any) -> Recipe:
    from joma.train.recipes import hierarchy_recipe

    num_layers = len(law.level_sizes) if options.layers is None else options.layers
    if num_layers < 1:
        raise BadInput(
            "the law has no latents between its labels and tokens, so the network would have no layer",
            expected="--layers with it",
            remedy="write --layers 1",
        )
    return hierarchy_recipe(
        law,
        num_steps=options.steps,
        seed=options.seed,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        batch_size=options.batch_size,
        width=options.width,
        feed_forward=options.hidden,
        num_heads=options.heads,
        num_layers=num_layers,
        shuffle_tokens=options.shuffled,
        snapshot_every=options.snapshot_every or max(1, options.steps // NUM_SNAPSHOTS),
    )


def _train(recipe: Recipe, law: Law, folder: Path) -> Run:
    from joma.report.progress import shown
    from joma.train.training import train

    with shown() as progress:
        return train(recipe, law, folder, progress=progress)
