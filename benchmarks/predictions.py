"""How well the first steps of a grid's runs predict the order in which they end: `joma.predict_order` and baselines.

Every method sees the curves up to one step only. A method with a number to choose (the best learning rate elsewhere,
the weight of entropy) takes it from the other depths, and is then applied to the depth that was left out. The rank
correlation is Spearman's, between scores and last held-out losses, over all runs and within depths (mean); the regret
is the last loss of the run with the best score minus the lowest one, likewise. Intervals are the middle 90 % over seeds
drawn with replacement. Passes over the text are read from the column num_epochs of a table.

    python benchmarks/predictions.py GRID.parquet ... [--step 2000] [--json]
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from scipy.stats import spearmanr

from joma.measure.curves.baselines import BASELINES, Setting
from joma.measure.curves.grid import GridRun, grid_of
from joma.measure.curves.order import HORIZON, level, scores
from table import machine, print_json, show

NUM_DRAWS, NUM_SHUFFLES = 200, 20
Tuned = Callable[[np.ndarray], np.ndarray | None]
"""Scores of all runs, with what has to be chosen taken from the runs of a mask."""


class Grid:
    """The runs of a grid, cut at a step, and how they ended."""

    def __init__(self, frame: pandas.DataFrame, step: int | None) -> None:
        whole = [run for run in grid_of(frame, "predictions") if len(run.loss)]
        self.num_steps = max(float(run.loss.steps[-1]) for run in whole)
        self.step = step or round(self.num_steps / HORIZON)
        kept = [(run, run.until(self.step)) for run in whole]
        kept = [(run, early) for run, early in kept if len(early.loss)]
        self.runs: list[GridRun] = [early for _, early in kept]
        self.final = np.array([np.inf if run.has_diverged else level(run.loss) for run, _ in kept])
        self.depth = np.array([run.shape for run in self.runs])[:, 0]
        names = [run.name for run in self.runs]
        has_seeds = "seed" in frame
        self.seed = frame.groupby("run")["seed"].first()[names].to_numpy() if has_seeds else np.arange(len(names))

        self.score = np.array(scores(self.runs, self.num_steps))

    def ours(self, tuned_on: np.ndarray) -> np.ndarray:
        return self.score

    def baseline(self, name: str) -> Tuned:
        def of(tuned_on: np.ndarray) -> np.ndarray | None:
            found = BASELINES[name](self.runs, Setting(self.best_rate(tuned_on), self.num_steps))
            broken = [run.has_diverged for run in self.runs]
            return None if found is None else np.where(broken, np.inf, found)

        return of

    def best_rate(self, among: np.ndarray) -> float | None:
        """Return the geometric mean of the learning rates that were best at each depth."""
        best = [
            self.runs[np.flatnonzero(mine)[self.final[mine].argmin()]].learning_rate
            for depth in np.unique(self.depth[among])
            for mine in [among & (self.depth == depth)]
        ]
        return float(np.exp(np.mean(np.log(best)))) if best and all(best) else None

    def with_entropy(self, order: np.ndarray) -> Tuned:
        """Add to our score the share that entropy kept, weighted by least squares on other depths; of runs in an order.

        Nothing without other depths.
        """
        kept = [run.entropy.values[-1] / run.entropy.values[0] if len(run.entropy) else 1.0 for run in self.runs]
        feature = np.array(kept)[order]

        def of(tuned_on: np.ndarray) -> np.ndarray | None:
            score = self.score
            usable = tuned_on & np.isfinite(score) & np.isfinite(self.final)
            if usable.sum() < 3:
                return None
            return score + np.polyval(np.polyfit(feature[usable], (self.final - score)[usable], 1), feature)

        return of

    def judged(self, method: Tuned) -> dict[str, Any] | None:
        """Return rank correlation and regret of a method, over the grid and within depths, with intervals."""
        depths = np.unique(self.depth)
        score = np.full(len(self.runs), np.nan)
        for depth in depths:
            found = method(self.depth != depth)
            if found is None:
                return None
            score[self.depth == depth] = found[self.depth == depth]
        return {
            "scores": [one if np.isfinite(one) else None for one in score.tolist()],
            **self.spread("rank", score, rank),
            **self.spread("regret", score, regret),
            "rank_within": float(np.mean([rank(score[at], self.final[at]) for at in map(self.depth.__eq__, depths)])),
            "regret_within": float(
                np.mean([regret(score[at], self.final[at]) for at in map(self.depth.__eq__, depths)])
            ),
        }

    def spread(self, name: str, score: np.ndarray, number: Callable[[np.ndarray, np.ndarray], float]) -> dict:
        seeds, generator = np.unique(self.seed), np.random.default_rng(0)
        found = []
        for _ in range(NUM_DRAWS):
            drawn = generator.choice(seeds, len(seeds))
            at = np.concatenate([np.flatnonzero(self.seed == seed) for seed in drawn])
            found.append(number(score[at], self.final[at]))
        low, high = np.nanquantile(found, [0.05, 0.95])
        return {name: number(score, self.final), f"{name}_low": float(low), f"{name}_high": float(high)}


def rank(score: np.ndarray, final: np.ndarray) -> float:
    return float(spearmanr(score, final)[0])


def regret(score: np.ndarray, final: np.ndarray) -> float:
    return float(final[score.argmin()] - final.min())


def figures(grid: Grid) -> dict:
    """Return the figures of every method by name."""
    methods: dict[str, Tuned] = {name: grid.baseline(name) for name in BASELINES}
    methods["joma.predict_order"] = grid.ours
    methods["the same without learning rates"] = without_rates(grid)
    methods["the same + entropy"] = grid.with_entropy(np.arange(len(grid.runs)))
    found = {name: judged for name, method in methods.items() if (judged := grid.judged(method)) is not None}
    generator = np.random.default_rng(0)
    shuffled = [grid.with_entropy(generator.permutation(len(grid.runs))) for _ in range(NUM_SHUFFLES)]
    others = [judged for method in shuffled if (judged := grid.judged(method)) is not None]
    if others:
        mean = {name: float(np.mean([one[name] for one in others])) for name in others[0] if name != "scores"}
        found[f"the same + other runs' entropy, mean of {NUM_SHUFFLES}"] = mean
    return found


def without_rates(grid: Grid) -> Tuned:
    from dataclasses import replace

    runs = [replace(run, learning_rate=None) for run in grid.runs]
    return lambda tuned_on: np.array(scores(runs, grid.num_steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grids", type=Path, nargs="+", help="Parquet tables of whole runs, such as sweep.parquet")
    parser.add_argument("--step", type=int, help="the last step that is seen; 1/29 of all if left out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    place = machine()
    printed = {}
    for path in options.grids:
        grid = Grid(pandas.read_parquet(path), options.step)
        found = figures(grid)
        if options.json:
            last = [one if np.isfinite(one) else None for one in grid.final.tolist()]
            runs = [{"run": str(run.name), "final": final} for run, final in zip(grid.runs, last, strict=True)]
            printed[path.stem] = {"step": grid.step, "num_steps": grid.num_steps, "runs": runs, "methods": found}
            continue
        rows = [
            (
                name,
                f"{one['rank']:.3f} ({one['rank_low']:.2f} to {one['rank_high']:.2f})",
                f"{one['rank_within']:.3f}",
                f"{one['regret']:.3f} ({one['regret_low']:.2f} to {one['regret_high']:.2f})",
                f"{one['regret_within']:.3f}",
            )
            for name, one in found.items()
        ]
        seeds, depths = len(np.unique(grid.seed)), len(np.unique(grid.depth))
        sizes = f"{len(grid.runs)} runs ({depths} depths, {seeds} seeds)"
        title = f"{path.stem}: {sizes} at step {grid.step:,} of {grid.num_steps:,.0f}"
        show(title, ("score", "rank correlation", "within depths", "regret (nats)", "within depths"), rows, place)
    if options.json:
        print_json({"grids": printed, "machine": place})


if __name__ == "__main__":
    main()
