"""``joma solve``: the exact solution of the dynamics, as a table, JSON or a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonargparse

from joma.cli.numbers import SYNTAX, Given, allow_negative_lists, numbers, times
from joma.errors import BadInput

PICTURES = (".png", ".svg")


def add_options(parser: jsonargparse.ArgumentParser) -> None:
    """Add the options of ``joma solve``."""
    allow_negative_lists(parser)
    add = parser.add_argument
    add("--mu", type=Given | None, metavar="NUMBERS", help=f"targets of a nonlinear MLP: {SYNTAX}")
    add("--delta", type=Given | None, metavar="NUMBERS", help="speeds Δ of a linear MLP, in place of --mu")
    add("--t", type=Given, default="0:10:21", metavar="NUMBERS", help="times, increasing from 0 or later")
    add("--v0", type=Given, default="0", metavar="NUMBERS", help="where components start: one number, or one for each")
    add("--gain", type=float | None, help="α of the exponent αv² (default 0.5)")
    add("--temperature", type=float | None, help="T of the attention, in place of --gain: α = 1/(2T²)")
    add("--attention", type=str, default="softmax", help="softmax, or exp: not normalised")
    add("--json", action="store_true", help="print JSON in place of the table")
    add("--out", type=str | None, metavar="FILE", help="draw v(t) and the attention entropy: a .png or .svg file")


def run(options: Any) -> int:
    """Solve, print, draw, return the exit status."""
    picture = _picture(options.out)
    settings, at = _settings(options), times(options.t)

    from joma.studies.solve import solve

    solution = solve(at, **settings)
    if picture is not None:
        from joma.report.drawing.figures import write_stack

        write_stack(solution.pictures(), picture)
    if options.json:
        from joma.report.solution import solution_record

        print(json.dumps(solution_record(solution), indent=1, allow_nan=False))
    else:
        _show(solution)
    return 0


def _picture(out: str | None) -> Path | None:
    if out is None or (Path(out).suffix.lower() in PICTURES and not Path(out).is_dir()):
        return None if out is None else Path(out)
    raise BadInput(f"--out is {out!r}", expected="a file that ends in .png or .svg", remedy="write --out solution.png")


def _settings(options: Any) -> dict[str, Any]:
    if (options.mu is None) == (options.delta is None):
        raise BadInput(
            f"{'neither' if options.mu is None else 'both'} of --mu and --delta given",
            expected="one of them",
            remedy="give --mu for a nonlinear MLP, --delta for a linear one",
        )
    if options.gain is not None and options.temperature is not None:
        raise BadInput("both --gain and --temperature given", expected="one of them", remedy="leave one out")
    name, given = ("delta", options.delta) if options.mu is None else ("mu", options.mu)
    rates, v0 = numbers(given, f"--{name}"), numbers(options.v0, "--v0")
    if len(v0) not in (1, len(rates)):
        raise BadInput(
            f"--v0 holds {len(v0)} numbers",
            expected=f"one, or {len(rates)} as in --{name}",
            remedy="give as many of both",
        )
    gain = 0.5 if options.gain is None else options.gain
    if options.temperature is not None:
        from joma.domains import POSITIVE

        POSITIVE.check(options.temperature, "joma solve", "--temperature")
        gain = 0.5 / options.temperature**2
    return {name: rates, "v0": v0, "gain": gain, "attention": options.attention}


def _show(solution: Any) -> None:
    from rich.console import Console

    from joma.report.solution import solution_table

    console = Console()
    console.print(solution_table(solution, console.width))
    console.print(solution.summary(), markup=False, highlight=False, soft_wrap=True)
