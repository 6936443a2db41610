"""``joma explore``: one page in which the theory can be moved by hand, next to a run, a hierarchy and the claims."""

from __future__ import annotations

from typing import Any

from joma.cli.output import say
from joma.cli.parsing import Parser
from joma.files import expanded


def add_options(parser: Parser) -> None:
    """Add the options of ``joma explore``."""
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", type=str, help="a folder that `joma show` reads, in place of the examples")
    add("--sentence", type=str, metavar="TEXT", help="who attends to whom in this sentence, over the saved steps")
    add(
        "--out",
        type=str,
        default="explore.html",
        metavar="FILE",
        help="the page, or the folder that it is written into",
    )


def run(options: Any) -> int:
    """Gather, write the page, print where it is, return the exit status."""
    from joma.studies.explore import explore

    found = explore(options.run, sentence=options.sentence)
    page = found.write(options.out or (folder if (folder := expanded(options.run or ".")).is_dir() else "."))
    say(f"On the page: {found.summary()}.\nWritten to {page}: {page.absolute().as_uri()}")
    return 0
