"""``joma tree anomalies``: rows of a table that break the relations between its columns."""

from __future__ import annotations

from typing import Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.cli.tree.learn import FILES


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree anomalies``."""
    add = parser.add_argument
    add("table", type=str, metavar="TABLE", help=FILES)
    add("--normal", type=str, metavar="TABLE", help="normal rows to learn from (default: most rows of TABLE itself)")
    add("--rows", type=PositiveInt, default=10, metavar="N", help="to print, draw and explain")
    add("--bins", type=PositiveInt, metavar="N", help="bins of a column of numbers (default: up to 8, by rows)")
    add("--out", type=str, metavar="DIR", help="write the page, all rows' scores and the picture there")
    parser.share("--seed", "--json")


def run(options: Any) -> int:
    """Score, print, draw, return the exit status."""
    folder = folder_of(options.out)

    from joma.report.anomalies import anomaly_table
    from joma.report.progress import shown
    from joma.studies.anomalies import tree_anomalies

    settings = {"num_explained": options.rows, "num_bins": options.bins, "seed": options.seed}
    with shown() as progress:
        found = tree_anomalies(options.table, normal=options.normal, **settings, progress=progress)
    if folder is not None:
        from joma.files import write_json
        from joma.tidy import write_frame

        write_json(folder / "anomalies.json", found.to_json())
        write_frame(found.frame(), folder / "rows.parquet")
        found.draw(folder / "anomalies")
        found.write(folder, options.table)
    show(found.to_json() if options.json else {}, [anomaly_table(found.frame(), found.explained)], as_json=options.json)
    files = ("report.html", "explorer.html", "anomalies.json", "rows.parquet", "anomalies.svg", "anomalies.png")
    conclude(found.summary(), folder, files, as_json=options.json)
    return 0
