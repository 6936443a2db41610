"""Where the time of `joma reproduce` goes: each claim, and training, evaluating and reporting, against five minutes.

The command runs in a folder of its own, from outside, as a person would run it. When it trains is read off the run
folders: from the first settings written to the last measurement, where at least one network was training. Starting
the workers counts as evaluating. A claim's seconds hold the networks that it was the first to need.

    python benchmarks/quick_profile.py [--json] [what else goes to joma reproduce: CLAIM ... --seeds 1 ...]
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from table import machine, print_json, show

LIMIT_S = 300.0


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the intervals lasted."""
    total, end = 0.0, float("-inf")
    for begin, finish in sorted(intervals):
        total += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    return total


def written(path: Path, otherwise: float) -> float:
    return path.stat().st_mtime if path.exists() else otherwise


def parts(out: Path, begin: float, finish: float, claims_s: float) -> dict[str, float]:
    """Split the time from ``begin`` to ``finish`` (both in seconds since 1970) by what was written when."""
    settings = written(out / "settings.json", begin)
    text = written(out / "text" / "text.safetensors", settings)
    evidence = max((path.stat().st_mtime for path in (out / "evidence").glob("*.json")), default=text)
    runs = [path.parent for path in out.glob("runs/*/config.json")]
    training = covered((written(run / "config.json", 0), written(run / "metrics.jsonl", 0)) for run in runs)
    split = {
        "starting": settings - begin,
        "reading the text": text - settings,
        "training": training,
        "evaluating": claims_s - training,
        "report": finish - evidence,
    }
    return split | {"other": finish - begin - sum(split.values())}


def figures(words: list[str]) -> dict[str, Any]:
    place = machine()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        before, begin = os.times(), time.time()
        # progress goes on to the terminal: it takes minutes
        command = [sys.executable, "-m", "joma", "reproduce", *words, "--out", str(out)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        finish, after = time.time(), os.times()
        claims = json.loads((out / "claims.json").read_text(encoding="utf-8"))["claims"]
        claims_s = sum(claim["seconds"] for claim in claims)
        return {
            "machine": place,
            "options": shlex.join(words),
            "claims": [{name: claim[name] for name in ("id", "verdict", "seconds")} for claim in claims],
            "parts": parts(out, begin, finish, claims_s),
            "networks": len(list(out.glob("runs/*/config.json"))),
            "total_s": finish - begin,
            "cpu_s": after.children_user + after.children_system - before.children_user - before.children_system,
            "limit_s": LIMIT_S,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments, words = parser.parse_known_args()
    found = figures(words)
    if arguments.json:
        print_json(found)
        return
    total = found["total_s"]

    def row(what: str, seconds: float, comment: str = "") -> tuple[str, str, str, str]:
        return what, f"{seconds:.1f} s", f"{seconds / total:.0%}", comment

    rows: list[tuple[str, str, str, str] | None] = [
        row(claim["id"], claim["seconds"], claim["verdict"]) for claim in found["claims"]
    ]
    comments = {"training": f"{found['networks']} networks"}
    rows += [None, *(row(name, seconds, comments.get(name, "")) for name, seconds in found["parts"].items()), None]
    rows.append(row("together", total, f"limit {LIMIT_S:.0f} s; {found['cpu_s']:.0f} s of processor time"))
    show(f"joma reproduce {found['options']}", ("part", "time", "share", ""), rows, found["machine"])


if __name__ == "__main__":
    main()
