"""``joma advise``: what a training run's measurements say, and what to try."""

from __future__ import annotations

from typing import Any

from joma.cli.output import conclude, show
from joma.cli.parsing import Parser


def add_options(parser: Parser) -> None:
    """Add the options of ``joma advise``."""
    parser.add_argument("paths", metavar="PATH", nargs="+", type=str, help="folders or tables of measurements")
    parser.share("--json")


def run(options: Any) -> int:
    """Read, print the remarks with their numbers, return 1 if there is a problem."""
    from joma.report.show import remark_table, show_record
    from joma.studies.show import show as read

    found = read(*options.paths)
    record = show_record(found.remarks, found.phases.frame()) if options.json else {}
    show(record, [remark_table(found.remarks)], as_json=options.json)
    conclude(found.summary(), None, (), as_json=options.json)
    return int(any(remark.kind == "problem" for remarks in found.remarks.values() for remark in remarks))
