"""``joma tree cooccurrence``: how often two tokens come together, exact, predicted and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.cli.tree.laws import add_law_options, law_of
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.problem.laws import Hierarchy
    from joma.problem.tree import Law

MOST_LABELS = 4
"""Up to how many labels each has rows of its own; with more there is only the average, unless one is asked for."""


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree cooccurrence``."""
    add_law_options(parser)
    add = parser.add_argument
    add("--label", type=int, help=f"given this one only (default: each of up to {MOST_LABELS}, and their average)")
    add("--samples", type=PositiveInt, default=100_000, metavar="N", help="to count, for each label")
    add("--out", type=str, metavar="DIR", help="write cooccurrence.json and the picture there")
    parser.share("--seed", "--json")


def run(options: Any) -> int:
    """Count, print, write, return the exit status."""
    folder = folder_of(options.out)
    law = _hierarchy(options)
    labels = _labels(law, options.label)

    from joma.report.cooccurrence import (
        cooccurrence_chart,
        cooccurrence_record,
        cooccurrence_summary,
        cooccurrence_table,
    )
    from joma.report.progress import shown
    from joma.simulate.cooccurrence import cooccurrences

    with shown() as progress:
        found = cooccurrences(law, labels, options.samples, options.seed, progress)
    record = cooccurrence_record(law, found, options.samples, options.seed)
    if folder is not None:
        from joma.files import write_json
        from joma.report.drawing.figures import write_figures

        write_json(folder / "cooccurrence.json", record)
        write_figures([cooccurrence_chart(law, found)], folder)
    show(record, [cooccurrence_table(law, found, options.samples)], as_json=options.json)
    files = ("cooccurrence.json", "cooccurrence.svg", "cooccurrence.png")
    conclude(cooccurrence_summary(found), folder, files, as_json=options.json)
    return 0


def _hierarchy(options: Any) -> Hierarchy:
    from joma.problem.laws import hierarchy_of

    law = law_of(options)
    hierarchy = hierarchy_of(law)
    if hierarchy is not law:
        raise BadInput(
            f"the labels of {options.law} have nothing to do with its tokens",
            expected="a latent tree or a combinatorial hierarchy",
            remedy="write the law inside it to a file of its own",
        )
    return hierarchy


def _labels(law: Law, wanted: int | None) -> list[int | None]:
    if wanted is None:
        return [*(range(law.num_labels) if law.num_labels <= MOST_LABELS else ()), None]
    if not 0 <= wanted < law.num_labels:
        raise BadInput(
            f"--label is {wanted}", expected=f"0 to {law.num_labels - 1}", remedy="name one, or leave it out"
        )
    return [wanted]
