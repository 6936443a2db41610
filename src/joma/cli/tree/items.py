"""``joma tree learn`` for ratings: a tree of items, from a table with one rating in each row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, show
from joma.cli.parsing import Parser
from joma.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from joma.measure.items.outline import Outline

WRITTEN = ("report.html", "explorer.html", "tree.json", "tree.svg", "tree.png")
"""The files of a tree."""

MOVIELENS = "movielens"
"""The name of the ratings that the extra installs."""

DEFAULT_CLUSTERS, DEFAULT_LEAST = 24, 20


def add_rating_options(parser: Parser) -> None:
    """Add the options that are for ratings only."""
    add = parser.add_argument
    add("--ratings", action="store_true", help="rows are ratings (default: if there are columns user, item, value)")
    add(
        "--column",
        type=str,
        action="append",
        metavar="NAME=COLUMN",
        help="ratings: your name of user, item, value, time, title or genres; once for each",
    )
    add("--clusters", type=PositiveInt, metavar="N", help=f"ratings: clusters that are shown ({DEFAULT_CLUSTERS})")
    add("--least", type=PositiveInt, metavar="N", help=f"ratings: leave out items with fewer ({DEFAULT_LEAST})")
    add("--like", type=float, metavar="VALUE", help="ratings: a like from this value on (four fifths of the highest)")


def holds_ratings(options: Any) -> bool:
    """Whether the table holds ratings, by the options or by the names of its columns.

    Raises:
        BadInput: it holds none, and an option for ratings is given.
    """
    if options.ratings or options.table == MOVIELENS or options.column:
        return True

    from joma.tables.ratings import COLUMNS, NEEDED
    from joma.tables.reading import read_frame

    names = set(read_frame(options.table))
    if set(NEEDED) <= names:
        return True
    if all(names & set(COLUMNS[meant]) for meant in NEEDED):
        warnings.warn("the columns are named as those of ratings; --ratings learns a tree of items", stacklevel=2)
    for name in ("clusters", "least", "like"):
        if getattr(options, name) is not None:
            problem = f"--{name} is for ratings, and {options.table} has no columns {', '.join(NEEDED)}"
            remedy = f"leave out --{name}, or say which the columns are: --column user=customer --column …"
            raise BadInput(problem, expected="ratings", remedy=remedy)
    return False


def _names(given: Sequence[str]) -> dict[str, str]:
    """The names of columns in ``--column``, by what they hold."""
    if wrong := [text for text in given if not all(text.partition("="))]:
        remedy = "write --column item=product, for example"
        raise BadInput(f"--column {wrong[0]} names no column", expected="NAME=COLUMN", remedy=remedy)
    return dict(text.split("=", 1) for text in given)


def run(options: Any, folder: Path | None) -> int:
    """Learn, print, draw, return the exit status.

    Raises:
        BadInput: an option that has no effect on ratings.
    """
    for name, default in (("method", "chow-liu"), ("bootstraps", 100), ("bins", None), ("seed", 0)):
        if getattr(options, name) != default:
            problem, remedy = f"--{name} has no effect on ratings", f"leave out --{name}"
            raise BadInput(problem, expected="a table of other rows with it", remedy=remedy)

    from joma.measure.items.outline import outline
    from joma.report.items import conclusion, outline_table
    from joma.tables.ratings import ratings_of

    names = _names(options.column or [])
    if names and options.table == MOVIELENS:
        problem = f"--column has no effect on {MOVIELENS}"
        raise BadInput(problem, expected="a table of your own with it", remedy="leave out --column")
    ratings = ratings_of(None if options.table == MOVIELENS else options.table, names)
    popular = ratings.of_popular(options.least or DEFAULT_LEAST)
    num_clusters = options.clusters or min(DEFAULT_CLUSTERS, max(popular.num_items // 5, 2))
    found = outline(popular, num_clusters, options.like)
    if folder is not None:
        from joma.files import write_json

        write_json(folder / "tree.json", found.to_json())
        _write_page(found, folder, options)
    show(found.to_json(), [outline_table(found)], as_json=options.json)
    conclude(conclusion(found), folder, WRITTEN, as_json=options.json)
    return 0


def _write_page(found: Outline, folder: Path, options: Any) -> None:
    from joma.report.drawing.items import write_items
    from joma.report.items import outline_picture
    from joma.report.pages.document import write_document
    from joma.report.pages.trees import items_page
    from joma.studies.explorer import write_explorer

    svg, _ = write_items(outline_picture(found), folder / "tree")
    about = {
        "Ratings": options.table,
        "Users": f"{found.num_users:,}",
        "Items": f"{found.num_items:,}, each with at least {options.least or DEFAULT_LEAST} ratings",
        "A like": "four fifths of the highest value, or more" if options.like is None else f"{options.like:g} or more",
        "Method": "Ward's linkage of the items, each described by the users who like it",
    }
    write_document(items_page(found, svg.read_bytes(), about), folder / "report.html")
    write_explorer(folder, {})
