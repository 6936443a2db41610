"""Learning Chow–Liu trees and scoring rows, against straightforward loops, pgmpy and PyOD.

Learning: 1,000 binary items × 10,000 rows of a random tree. The loop counts each pair with `numpy.histogram2d`, on
some of the pairs, and pgmpy's Chow–Liu runs on fewer items; both are extrapolated by the number of pairs. Scoring: rows
of 30 columns of numbers with relations, learned from 5,000. One thread; seconds are those of the processor. pgmpy and
PyOD are left out where they are not installed.

    python benchmarks/trees.py [--json] [--items 1000] [--rows 10000]
"""

import argparse
import time
import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
import pandas
import torch

from joma.measure.trees.anomalies import detector_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.tables.columns import read_table
from table import machine, print_json, show

LOOP_PAIRS, PGMPY_ITEMS, SCORED = 1000, 40, 20_000
RIVALS = {
    "kNN": "knn.KNN",
    "IForest": "iforest.IForest",
    "HBOS": "hbos.HBOS",
    "ECOD": "ecod.ECOD",
    "COPOD": "copod.COPOD",
}


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def items(num: int, num_rows: int) -> np.ndarray:
    """Binary items, each of which copies an earlier one with probability 0.8."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 2, (num_rows, num))
    for item in range(1, num):
        found[:, item] = np.where(rng.random(num_rows) < 0.8, found[:, rng.integers(0, item)], found[:, item])
    return found


def one_pair(codes: np.ndarray, one: int, other: int) -> float:
    joint = np.histogram2d(codes[:, one], codes[:, other], bins=2)[0] / len(codes)
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])).sum())


def learn(codes: np.ndarray) -> np.ndarray:
    sizes = np.full(codes.shape[1], 2)
    return chow_liu(mutual_information(PairCounts(codes, sizes).counts(), sizes))


def learning(num: int, num_rows: int) -> list[tuple[str, float, str]]:
    codes, num_pairs = items(num, num_rows), num * (num - 1) // 2
    rows = [("joma", seconds(lambda: learn(codes)), "")]
    pairs = np.random.default_rng(1).integers(0, num, (LOOP_PAIRS, 2)).tolist()
    loop = seconds(lambda: [one_pair(codes, *pair) for pair in pairs])
    rows.append(("loop over pairs", loop / LOOP_PAIRS * num_pairs, f"extrapolated from {LOOP_PAIRS:,} pairs"))
    try:
        search = import_module("pgmpy.estimators").TreeSearch
    except ImportError:
        return rows
    few = min(PGMPY_ITEMS, num)
    frame = pandas.DataFrame(codes[:, :few], columns=[f"i{item}" for item in range(few)])
    search(frame.iloc[:, :3], root_node="i0", n_jobs=1).estimate(show_progress=False)  # imports are not timed
    found: list = []
    spent = seconds(lambda: found.append(search(frame, root_node="i0", n_jobs=1).estimate(show_progress=False)))
    same = {frozenset(edge) for edge in found[0].edges()} == {
        frozenset(f"i{item}" for item in edge) for edge in learn(codes[:, :few]).tolist()
    }
    said = f"extrapolated from {few} items, whose tree is {'the same' if same else 'another one'}"
    return [*rows, ("pgmpy", spent * num_pairs / (few * (few - 1) / 2), said)]


def scoring() -> list[tuple[str, float, str]]:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000 + SCORED, 6)) @ rng.normal(size=(6, 30)) + rng.normal(size=(5000 + SCORED, 30))
    train, test = values[:5000], values[5000:]
    detector, given = detector_of(read_table(train)), read_table(test)
    codes = detector.coding.codes(given)
    rows = [
        ("joma, tree", seconds(lambda: detector.surprise(given)) / SCORED, "numbers to codes included"),
        ("joma, tree, codes", seconds(lambda: detector.model.surprise(codes)) / SCORED, ""),
    ]
    for name, path in RIVALS.items():
        module, kind = path.split(".")
        try:
            rival = getattr(import_module(f"pyod.models.{module}"), kind)().fit(train)
        except ImportError:
            continue
        rival.decision_function(test[:10])  # compiled before it is timed
        rows.append((f"PyOD, {name}", seconds(lambda rival=rival: rival.decision_function(test)) / SCORED, ""))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    place = machine()
    learned, scored = learning(options.items, options.rows), scoring()
    if options.json:
        print_json(place | {"learning_s": learned, "scoring_s_per_row": scored})
        return
    own = {"learned": learned[0][1], "scored": scored[0][1]}
    rows = [(f"learn: {name}", f"{took:.3g} s", f"{took / own['learned']:.3g}", said) for name, took, said in learned]
    more = [
        (f"score a row: {name}", f"{1e6 * took:.3g} µs", f"{took / own['scored']:.3g}", said)
        for name, took, said in scored
    ]
    title = f"Trees of {options.items:,} items × {options.rows:,} rows; rows of 30 columns scored"
    show(title, ("work", "processor time", "× joma's", ""), [*rows, None, *more], place)


if __name__ == "__main__":
    main()
