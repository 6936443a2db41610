"""The time to import joma and to start the command line, compared with what is unavoidable and what is avoided.

`joma --help` and `joma reproduce --list` against an interpreter that does nothing, against the argument parser alone,
and against importing torch, which every command puts off until it is needed. The commands take turns, so that a busy
moment hits them alike. Aims: under 0.1 s for the import, a median under 0.3 s for the help, under 1 s of processor time
for the list.

    python benchmarks/startup.py [--json] [--repeats 15]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from table import machine, print_json, show

HELP, LIST, NOTHING, IMPORT = "joma --help", "joma reproduce --list", "python -c pass", "python -c 'import joma'"
COMMANDS = {
    NOTHING: [sys.executable, "-c", "pass"],
    IMPORT: [sys.executable, "-c", "import joma"],
    HELP: [sys.executable, "-m", "joma", "--help"],
    LIST: [sys.executable, "-m", "joma", "reproduce", "--list"],
    "the parser's package alone": [sys.executable, "-c", "import jsonargparse"],
    "torch alone": [sys.executable, "-c", "import torch"],
}


def started(command: list[str]) -> tuple[float, float]:
    """Seconds from start to end, and seconds of processor time."""
    begin, before = time.perf_counter(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    taken, after = time.perf_counter() - begin, os.times()
    return taken, after.children_user + after.children_system - before.children_user - before.children_system


def figures(repeats: int) -> dict[str, Any]:
    place = machine()
    for command in COMMANDS.values():
        started(command)  # once for the disk
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            taken[name].append(started(command))
    medians = {name: [statistics.median(part) for part in zip(*times, strict=True)] for name, times in taken.items()}
    nothing_s = medians[NOTHING][0]
    rows = [
        {"command": name, "median_s": wall, "fastest_s": min(taken[name])[0], "cpu_s": cpu, "ratio": wall / nothing_s}
        for name, (wall, cpu) in medians.items()
    ]
    met = {
        f"{IMPORT}: under 0.1 s more": medians[IMPORT][0] - nothing_s < 0.1,
        f"{HELP}: median under 0.3 s": medians[HELP][0] < 0.3,
        f"{LIST}: CPU under 1 s": medians[LIST][1] < 1,
    }
    return {"machine": place, "repeats": repeats, "met": met, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    found = figures(arguments.repeats)
    if arguments.json:
        print_json(found)
        return
    rows = [
        (row["command"], *(f"{row[name]:.3f} s" for name in ("median_s", "fastest_s", "cpu_s")), f"{row['ratio']:.1f}")
        for row in found["rows"]
    ]
    aims = "; ".join(f"{aim}, {'met' if met else 'missed'}" for aim, met in found["met"].items())
    show(
        f"Starting, {found['repeats']} times each ({aims})",
        ("command", "median", "fastest", "processor time", f"÷ {NOTHING}"),
        rows,
        found["machine"],
    )


if __name__ == "__main__":
    main()
