"""``joma tree train``: train a decoder to predict a law's labels, in a folder from which the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, say, show
from joma.cli.parsing import Parser
from joma.cli.tree.laws import add_law_options, law_of
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.problem.tree import Law
    from joma.train.recipes import Recipe
    from joma.train.run import Run

FILES = ("config.json", "metrics.jsonl", "checkpoints/", "snapshots/", "learning.svg", "learning.png")
NUM_SNAPSHOTS = 10
"""How many snapshots of the weights are kept unless ``--snapshot-every`` says otherwise, about."""


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree train``."""
    add_law_options(parser)
    add = parser.add_argument
    add("--out", type=str, required=True, metavar="DIR", help="folder of the run; the same command goes on there")
    add("--num-steps", type=PositiveInt, default=1000, metavar="N", help="steps of Adam, each on fresh samples")
    add("--learning-rate", type=float, default=1e-3, metavar="η", help="of Adam")
    add("--weight-decay", type=float, default=1e-4, metavar="λ", help="of Adam")
    add("--batch-size", type=PositiveInt, default=64, metavar="N", help="samples in a step")
    add("--width", type=PositiveInt, default=128, metavar="N", help="of the residual stream")
    add("--hidden", type=PositiveInt, default=512, metavar="N", help="hidden units of each MLP")
    add("--heads", type=PositiveInt, default=1, metavar="N", help="attention heads of each layer")
    add("--layers", type=PositiveInt, metavar="N", help="of the network (default: one for each level of latents)")
    add("--snapshot-every", type=PositiveInt, metavar="STEPS", help="keep the weights (default: ten times)")
    parser.share("--seed", "--shuffled", "--device", "--workers", "--json")


def run(options: Any) -> int:
    """Train or go on, print, draw, return the exit status."""
    folder = folder_of(options.out)
    assert folder is not None
    law = law_of(options)
    recipe = _recipe(law, options)
    finished = _train(recipe, law, folder)

    from joma.report.drawing.figures import write_stack
    from joma.report.learning import learning_charts, learning_record, learning_summary, learning_table
    from joma.theory.labels import ceiling_of
    from joma.train.courses import LEARNING, course_of

    courses = {metric: course_of([finished], metric, None) for metric in LEARNING}
    found = (finished, courses, ceiling_of(law))
    for ending in (".svg", ".png"):
        write_stack(learning_charts(*found), folder / f"learning{ending}")
    show(learning_record(*found), [learning_table(finished, courses)], as_json=options.json)
    conclude(learning_summary(*found), folder, FILES, as_json=options.json)
    if not options.json:
        say(f"Next: joma tree align {folder}")
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
        num_steps=options.num_steps,
        seed=options.seed,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        batch_size=options.batch_size,
        width=options.width,
        hidden=options.hidden,
        num_heads=options.heads,
        num_layers=num_layers,
        shuffle_tokens=options.shuffled,
        device=options.device,
        num_threads=options.workers or 1,
        snapshot_every=options.snapshot_every or max(1, options.num_steps // NUM_SNAPSHOTS),
    )


def _train(recipe: Recipe, law: Law, folder: Path) -> Run:
    from joma.report.progress import shown
    from joma.train.training import train

    with shown() as progress:
        return train(recipe, law, folder, progress=progress)
