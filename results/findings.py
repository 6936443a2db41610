"""Write the tables and pictures of docs/findings.md from the results in this folder.

    python results/findings.py

A table stands in the page between ``<!-- table: NAME -->`` and ``<!-- end -->``. Nothing is trained; how each file here
was made is in README.md.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas

from joma.charts import Chart, Curve
from joma.measure.curves.points import LOSS, RANK, Point, points_of, until
from joma.measure.curves.quantities import ENTROPY
from joma.report.drawing.figures import write_figures

HERE = Path(__file__).parent
PAGE, PICTURES = HERE.parent / "docs" / "findings.md", HERE.parent / "docs" / "pictures"
NAMES = {"learning_rate": "learning rate", "num_layers": "layers"}
MOVED = ("entropy_fall", "entropy_rise", "rank_fall", "rank_rise")


def record_of(name: str) -> dict[str, Any]:
    """Return the record of a table of runs, or a benchmark's output."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def points(name: str, settings: Sequence[str]) -> list[Point]:
    """Return the points of a table of runs that are not finished, over the steps that all seeds reached."""
    frame = pandas.read_parquet(HERE / f"{name}.parquet").assign(status="unfinished", reason=None)
    unigram = record_of(name)["unigram_nats"]
    return points_of(frame, settings, dict.fromkeys(frame["run"], unigram))


def markdown(rows: Iterable[Sequence[str]], head: Sequence[str]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return mean and standard deviation over seeds; a dash without values."""
    found = pandas.Series(values, dtype=float).dropna()
    if found.empty:
        return "–"
    sd = f" ± {found.std():.{digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{digits}f}{sd}".replace("-", "−")


def interval(found: Mapping[str, Any]) -> str:
    """Return mean and 95 % interval of an estimate in JSON."""
    low, high = found["interval"]
    ends = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{found['mean']:.2f}{ends}".replace("-", "−")


def sweep_table(name: str, setting: str) -> str:
    """Fall and return in a sweep over one setting."""
    return moved_table(sorted(points(name, [setting]), key=lambda point: point.settings[setting]), setting)


def layers_table(name: str) -> str:
    """Fall and return of attention in each layer of the networks of a sweep over depth."""
    rows = []
    for point in sorted(points(name, ["num_layers"]), key=lambda point: point.settings["num_layers"]):
        for layer, course in sorted(point.layers(ENTROPY).items()):
            found = course.between(point.onset or 0).rebounds()
            moved = [spread([getattr(one, which) for one in found]) for which in ("fall", "rise")]
            last = spread(course.values[:, -1].tolist())
            rows.append([str(point.settings["num_layers"]), str(layer), *moved, last])
    return markdown(rows, ["layers", "layer", "entropy falls", "comes back", "at the end"])


_EARLY = 5_760
"""A step at which the loss is lowest where attention has returned farthest."""


def rates_table(name: str) -> str:
    """Fall and return in a table of runs, by learning rate: early, at half of the last common step, and there."""
    unigram = record_of(name)["unigram_nats"]
    found = points(name, ["learning_rate"])
    parts = []
    for point in found:
        steps = point.courses[LOSS, None].steps[-1]
        half = steps // 960 * 480  # probes are 480 steps apart
        parts += [until(point, last, unigram) for last in sorted({_EARLY, half, steps})]
    return moved_table(parts, "learning_rate")


def moved_table(found: Iterable[Point], setting: str) -> str:
    """Fall and return of points that differ in a setting, over all of their steps."""
    rows = []
    for point in found:
        moved = point.movements().values()
        cells = [spread([run.get(name, float("nan")) for run in moved]) for name in MOVED]
        loss = spread([run[LOSS] for run in moved], 3)
        reached = f"{point.courses[LOSS, None].steps[-1]:,}"
        rows.append([f"{point.settings[setting]:g}", str(len(point.runs)), reached, loss, *cells])
    moves = ("entropy falls", "comes back", "rank falls", "comes back")
    return markdown(rows, [NAMES[setting], "seeds", "steps", "validation loss", *moves])


def ablation_table(rate: float) -> str:
    """The return of attention with parts removed and assumptions put in, at a learning rate, by length.

    The difference from the full network is shown at the greatest length at which it has an interval.
    """
    tables = record_of("mechanism")["tables"].items()
    found = {place: rows for place, rows in tables if rows and place.endswith(f" steps at {rate:g}")}
    lengths = {
        re.findall(r"[\d,]+ steps", place)[0]: {row["network"]: row for row in rows} for place, rows in found.items()
    }
    names = dict.fromkeys(name for rows in lengths.values() for name in rows)
    rows = []
    for name in names:
        of_name = [of_length.get(name) for of_length in lengths.values()]
        compared = [row for row in of_name if row is not None and len(row["seeds"]) > 2]
        difference = "" if name == "full network" or not compared else interval(compared[-1]["rise minus full"])
        rows.append([name, *map(_return, of_name), difference])
    return markdown(rows, ["network", *(f"return, {length}" for length in lengths), "minus the full network's"])


def _return(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    num = len(row["seeds"])
    return f"{interval(row['rise'])}, {num} seed{'' if num == 1 else 's'}"


def rank_table(rate: float) -> str:
    """The return of the stable rank with parts removed and assumptions put in, by length, and what is left at last."""
    lengths: dict[str, dict[str, Mapping[str, Any]]] = {}
    for place, rows in record_of("mechanism")["tables"].items():
        if place.startswith("Stable rank"):
            ending = f", {rate:g}"
            named = {row["network"].removesuffix(ending): row for row in rows if row["network"].endswith(ending)}
            lengths[re.findall(r"[\d,]+ steps", place)[0]] = named
    last = [found for found in lengths.values() if "full network" in found][-1]
    rows = [
        [name, *(interval(found[name]["rise"]) if name in found else "–" for found in lengths.values()), left]
        for name in last
        for left in [interval(last[name]["last"])]
    ]
    return markdown(rows, ["network", *(f"return, {length}" for length in lengths), "left at the end"])


def series_table() -> str:
    """Fall and return of attention and rank in series of saved steps, one setting changed at a time."""
    (rows,) = record_of("series_ranks")["tables"].values()
    moved = ("entropy falls", "entropy returns", "rank falls", "rank returns")
    cells = [[_or_text(row[name]) for name in moved] for row in rows]
    names = [row["network"].split(", ", 1) for row in rows]
    return markdown([[*name, *row] for name, row in zip(names, cells, strict=True)], ["family", "setting", *moved])


def _or_text(found: Mapping[str, Any] | str) -> str:
    return found if isinstance(found, str) else interval(found)


GRIDS = {"replica": "replica", "grid-docs": "another text", "words-4000": "4,000 words", "figure8": "five layers"}
"""The grids on which predictions are compared, in words."""


def prediction_table() -> str:
    """Rank correlation, with its interval, and regret of every baseline and of ours, on each grid."""
    grids = record_of("predictions")["grids"]
    rows = [
        [name, *(_judged(grids[grid]["methods"].get(name)) for grid in GRIDS)] for name in grids["replica"]["methods"]
    ]
    return markdown(rows, ["score", *GRIDS.values()])


def _judged(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    spans = f"{found['rank']:.2f} ({found['rank_low']:.2f} to {found['rank_high']:.2f})"
    return f"{spans}; {found['regret']:.3f}".replace("-", "−")


def pictures() -> list[Chart]:
    """Return entropy and rank over training: at four learning rates, and at the paper's number of words."""
    rates = "One layer, 4,000 words of WikiText-2. Bands: one standard deviation over three seeds."
    paper = "One layer, all 28,782 words of WikiText-2, one seed each."
    return [
        *_pictures("words-4000", "at four learning rates", rates),
        *_pictures("words-28782", "at 28,782 words", paper),
    ]


def _pictures(name: str, where: str, caption: str) -> Iterator[Chart]:
    found = points(name, ["learning_rate"])
    for metric, title, label in (
        (ENTROPY, "Attention entropy", "mean attention entropy (nats)"),
        (RANK, "Stable rank of the MLP's lower layer", "stable rank"),
    ):
        curves = tuple(curve for point in found if (curve := _curve(point, metric)) is not None)
        id = f"findings_{metric.split('_')[0]}" + name.removeprefix("words-4000").replace("words-", "_")
        yield Chart(id, f"{title} {where}", caption, "optimiser steps", label, curves)


def _curve(point: Point, metric: str) -> Curve | None:
    course = point.mean_over_layers(metric)
    return course.curve(f"learning rate {point.settings['learning_rate']:g}") if course is not None else None


TABLES = {
    "rates": partial(rates_table, "words-4000"),
    "paper's words": partial(rates_table, "words-28782"),
    "depth": partial(sweep_table, "figure6", "num_layers"),
    "return by layer": partial(layers_table, "figure7"),
    "rates at five layers": partial(sweep_table, "figure8", "learning_rate"),
    "ablations": partial(ablation_table, 1e-3),
    "ablations at 3e-4": partial(ablation_table, 3e-4),
    "rank of ablations": partial(rank_table, 1e-3),
    "rank and depth": partial(sweep_table, "figure7", "num_layers"),
    "series": series_table,
    "predictions": prediction_table,
}


def page(text: str) -> str:
    """Return the page with its tables made again."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        made = f"{begin}\n{table()}\n\n{end}"
        text, number = re.subn(f"{re.escape(begin)}.*?{end}", lambda _, made=made: made, text, flags=re.DOTALL)
        if number != 1:
            raise SystemExit(f"{PAGE} has {number} places for the table {name}")
    return text


def main() -> None:
    """Write tables and pictures."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for svg, png in write_figures(pictures(), PICTURES):
        svg.unlink()  # the page shows the bitmap
        print(png)


if __name__ == "__main__":
    main()
