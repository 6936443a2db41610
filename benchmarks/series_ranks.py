"""Where attention and rank of series of saved steps return: the claims' series with one setting changed at a time.

The series of `series.sparse_then_dense` and `series.rank_drop_and_rebound` (GPT-NeoX and OPT, 2 layers of width 64, 400
steps of AdamW at 3e-3, the text that ships with Python) and the same with another width, depth, length, learning rate,
weight decay and initial scale. Finished series in OUT are kept, stopped ones go on. With --read nothing is trained.

    python benchmarks/series_ranks.py OUT [--seeds 0 1 2] [--workers 2] [--read] [--json]
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ablations import plain, shown
from joma.claims.series.subject import ENTROPY, LOSS, RANK, Subject
from joma.claims.series.subjects import NAMES, TRAINED, SeriesWork, text_of_series
from joma.claims.workspace import Workspace
from joma.errors import RunFailed
from joma.measure.curves.course import Course
from joma.records import Estimate
from joma.saved.series import open_series
from joma.train.jobs import do_all
from table import machine, print_json, show

FACTORS: dict[str, dict[str, Any]] = {
    "as the claims have it": {},
    "width 128": {"width": 128},
    "width 32": {"width": 32},
    "4 layers": {"num_layers": 4},
    "1,600 steps": {"num_steps": 1600, "save_every": 100},
    "1,600 steps at 1e-3": {"num_steps": 1600, "save_every": 100, "learning_rate": 1e-3},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 1e-2": {"learning_rate": 1e-2},
    "weight decay 0": {"weight_decay": 0.0},
    "weight decay 0.5": {"weight_decay": 0.5},
    "initial scale 0.5": {"initial_scale": 0.5},
    "initial scale 2": {"initial_scale": 2.0},
}
"""Changes of one setting, and one of two."""


def works_of(settings: dict[str, Any], family: str, seeds: Sequence[int], out: Path) -> list[SeriesWork]:
    """Return the series of one setting and family, one for each seed."""
    tokens_path, tokenizer_path = text_of_series(Workspace(out))
    name = "_".join([family, *(f"{key}-{value}" for key, value in settings.items())])
    return [
        SeriesWork(
            replace(TRAINED, family=family, seed=seed, **settings),
            tokens_path,
            tokenizer_path,
            out / "series" / f"{name}_seed-{seed}",
        )
        for seed in seeds
    ]


def row(name: str, family: str, works: Sequence[SeriesWork]) -> dict[str, Any]:
    """Return fall and return of entropy and rank, means over layers, over the finished series of a setting."""
    scans, unigrams = zip(*(work.do(lambda *_: None) for work in works), strict=True)
    subject = Subject(NAMES[family], scans, unigrams, tuple(open_series(work.folder) for work in works))
    found: dict[str, Any] = {
        "network": f"{NAMES[family]}, {name}",
        "seeds": [work.recipe.seed for work in works],
        "loss below word frequencies": Estimate.of(np.array(unigrams) - subject.course(LOSS, None).values[:, -1]),
    }
    try:
        onset = subject.frequencies_learned()
        entropies = [subject.course(ENTROPY, layer).between(onset) for layer in subject.layers]
    except RunFailed:  # it has not learned more than frequencies, so that there is nothing to read
        entropies = []
    ranks = [subject.course(RANK, layer, "mlp_lower") for layer in subject.layers]
    shares = [replace(course, values=course.values / course.values[:, :1]) for course in ranks]
    return found | movements("entropy", entropies) | movements("rank", shares)


def movements(name: str, courses: Sequence[Course]) -> dict[str, Any]:
    """Return the mean over layers of fall, return and the smaller of both."""
    if not courses:
        return dict.fromkeys((f"{name} falls", f"{name} returns", f"smaller of both, {name}"), "not learned")
    found = [course.rebounds() for course in courses]
    sides = {f"{name} falls": "fall", f"{name} returns": "rise", f"smaller of both, {name}": "size"}
    return {
        title: Estimate.of(np.mean([[getattr(one, side) for one in layer] for layer in found], axis=0))
        for title, side in sides.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder for the text and the series")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=None, help="series trained at a time")
    parser.add_argument("--read", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    place, rows = machine(), []
    for name, settings in FACTORS.items():
        for family in NAMES:
            works = works_of(settings, family, options.seeds, options.out)
            if not options.read:
                do_all(works, f"{name}, {NAMES[family]}", num_workers=options.workers)
            if done := [work for work in works if work.is_done]:
                rows.append(row(name, family, done))
    if not rows:
        raise SystemExit(f"{options.out} holds no finished series: train them without --read")
    title = "Series of saved steps: entropy in shares of uniform attention's, stable rank in shares of its start"
    if options.json:
        print_json({"tables": {title: [plain(entry) for entry in rows]}, "machine": place})
    else:
        show(title, list(rows[0]), [[shown(value) for value in entry.values()] for entry in rows], place)


if __name__ == "__main__":
    main()
