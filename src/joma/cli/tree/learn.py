"""``joma tree learn``: a tree of the columns of a table, with the support of its edges; or of the items of ratings."""

from __future__ import annotations

from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.cli.tree import items

FILES = "a .csv, .tsv, .parquet, .npy or .npz file"


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree learn``."""
    add = parser.add_argument
    add(
        "table",
        type=str,
        metavar="TABLE",
        help=f"{FILES}; or {items.MOVIELENS}, for the ratings of the extra joma[ratings]",
    )
    add("--method", choices=["chow-liu", "neighbour-joining"], default="chow-liu", help="how the tree is found")
    add("--bootstraps", type=NonNegativeInt, default=100, metavar="N", help="samples for the support of each edge")
    add("--bins", type=PositiveInt, metavar="N", help="bins of a column of numbers (default: up to 8, by rows)")
    items.add_rating_options(parser)
    add("--out", type=str, metavar="DIR", help="write the page, tree.json and the picture there")
    parser.share("--seed", "--json")


def run(options: Any) -> int:
    """Learn, print, draw, return the exit status."""
    folder = folder_of(options.out)
    if items.holds_ratings(options):
        return items.run(options, folder)

    from joma.report.progress import shown
    from joma.report.trees import tree_table
    from joma.studies.trees import learn_tree

    with shown() as progress:
        found = learn_tree(
            options.table,
            method=options.method,
            num_bootstraps=options.bootstraps,
            num_bins=options.bins,
            seed=options.seed,
            progress=progress,
        )
    if folder is not None:
        from joma.files import write_json

        write_json(folder / "tree.json", found.to_json())
        found.write(folder, options.table)
    show(found.to_json(), [tree_table(found)], as_json=options.json)
    conclude(found.summary(), folder, items.WRITTEN, as_json=options.json)
    return 0
