"""``joma solve``: the exact solution of the dynamics, as a table, JSON or a picture."""

from __future__ import annotations

from typing import Any

from joma.cli.numbers import SYNTAX, Given, numbers
from joma.cli.output import conclude, folder_of, show, width
from joma.cli.parsing import Parser
from joma.errors import BadInput


def add_options(parser: Parser) -> None:
    """Add the options of ``joma solve``."""
    add = parser.add_argument
    add("--mu", type=Given, metavar="NUMBERS", help=f"targets of a nonlinear MLP: {SYNTAX}")
    add("--delta", type=Given, metavar="NUMBERS", help="speeds Δ of a linear MLP, in place of --mu")
    add("--t", type=Given, default="0:10:0.5", metavar="NUMBERS", help="times, increasing from 0 or later")
    add("--v0", type=Given, default="0", metavar="NUMBERS", help="where components start: one number, or one for each")
    add("--gain", type=float, metavar="α", help="of the exponent αv² (default: 0.5)")
    add("--temperature", type=float, metavar="T", help="of the attention, in place of --gain: α = 1/(2T²)")
    add("--attention", choices=["softmax", "exp"], default="softmax", help="exp is not normalised")
    add("--out", type=str, metavar="DIR", help="write solution.json and a picture of v(t) and the attention entropy")
    parser.share("--json")


def run(options: Any) -> int:
    """Solve, print, draw, return the exit status."""
    folder = folder_of(options.out)
    given = {name: getattr(options, name) for name in ("t", "mu", "delta", "v0")}
    settings: dict[str, Any] = {name: numbers(value, f"--{name}") for name, value in given.items() if value is not None}
    if len(settings["v0"]) == 1:
        settings["v0"] = settings["v0"][0]

    from joma.report.solution import solution_record, solution_table
    from joma.studies.solve import solve

    found = solve(settings.pop("t"), **settings, gain=_gain(options), attention=options.attention)
    record = solution_record(found)
    if folder is not None:
        from joma.files import write_json
        from joma.report.drawing.figures import write_stack

        write_json(folder / "solution.json", record)
        for picture in ("solution.svg", "solution.png"):
            write_stack(found.pictures(), folder / picture)
    show(record, [solution_table(found, width())], as_json=options.json)
    conclude(found.summary(), folder, ("solution.json", "solution.svg", "solution.png"), as_json=options.json)
    return 0


def _gain(options: Any) -> float:
    if options.temperature is None:
        return 0.5 if options.gain is None else options.gain
    if options.gain is not None:
        raise BadInput("both --gain and --temperature given", expected="one of them", remedy="leave one out")
    from joma.domains import TEMPERATURE

    TEMPERATURE.check(options.temperature, "solve", "temperature")
    return 0.5 / options.temperature**2
