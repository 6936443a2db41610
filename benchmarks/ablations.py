"""Which parts of a network bring attention and rank back: ablations, and one setting changed at a time.

Networks of the paper's Figure 6, smaller than there: the 1,000 commonest words of the text that ships with Python. The
learning rate is constant, so that the first steps of a long run are a short run. Finished runs in OUT are kept, and
stopped ones go on, so that several processes may train different --seeds at once. With --read nothing is trained.

    python benchmarks/ablations.py {mechanism,rank} OUT [--seeds 0 1 2 3] [--rates 1e-3 3e-4] [--until 3200] [--read]
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from joma.claims.text.ablations import FULL, ablations
from joma.claims.text.mechanism import LEFT
from joma.errors import BadInput, RunFailed
from joma.records import Estimate, summary
from joma.train.courses import course_of
from joma.train.recipes import VARIANTS, Recipe, paper_figure6
from joma.train.run import Run
from joma.train.text.reading import read_text
from joma.train.text.vocabulary import load_tokens, save_tokens, tokenize
from joma.train.training import train
from table import machine, print_json, show

NUM_WORDS, NUM_STEPS, RATE = 1000, 3200, 1e-3

FACTORS: dict[str, dict[str, Any]] = {
    "base: width 200, 1 layer": {},
    "width 100": {"width": 100, "hidden": 100},
    "width 400": {"width": 400, "hidden": 400},
    "3 layers": {"num_layers": 3},
    "learning rate 3e-4": {"learning_rate": 3e-4},
    "learning rate 3e-3": {"learning_rate": 3e-3},
    "weight decay 0.01": {"optimizer": "adamw", "weight_decay": 0.01},
    "weight decay 0.5": {"optimizer": "adamw", "weight_decay": 0.5},
    "initial scale 0.5": {"initial_scale": 0.5},
    "initial scale 2": {"initial_scale": 2.0},
}
"""Changes of one setting of the base, whose learning rate is 1e-3. Weight decay is decoupled; over 3,200 steps at 1e-3,
0.5 shrinks weights by the same factor of 0.2 or so as Pythia's 0.01 over its 143,000 steps."""


def settings_of(question: str, rates: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Return the networks to compare by name, with the settings in which each differs from the base."""
    if question == "rank":
        return FACTORS
    return {
        f"{variant}, {rate:g}": {"variant": variant, "learning_rate": rate} for rate in rates for variant in VARIANTS
    }


def recipe_of(settings: dict[str, Any], seed: int) -> Recipe:
    """Return the recipe of one network; its name lists what differs from the base."""
    base: dict[str, Any] = {"variant": "full network", "learning_rate": RATE}
    changes = [f"{name}-{value}" for name, value in sorted(settings.items()) if base.get(name) != value]
    name = "_".join([*(changes or ["base"]), f"seed-{seed}"]).replace(" ", "-")
    return paper_figure6(NUM_WORDS, name=name, seed=seed, num_steps=NUM_STEPS, probe_every=50, **base | settings)


def runs_to(last: int, settings: dict[str, Any], seeds: Sequence[int], out: Path) -> dict[int, Run]:
    """Return the runs that are measured up to a step, by seed."""
    runs = {seed: Run(out / "runs" / recipe_of(settings, seed).name, recipe_of(settings, seed)) for seed in seeds}
    return {seed: run for seed, run in runs.items() if run.journal().last_step >= last}


class Enough(Exception):
    """The step to stop at is reached; training leaves a checkpoint of it."""


def train_until(last: int, recipes: Sequence[Recipe], out: Path) -> None:
    """Train one after the other what is not so far yet; a run that fails leaves the others alone."""

    def stop(what: str, step: int, num_steps: int) -> None:
        if last <= step < num_steps:
            raise Enough

    path = out / "text" / "text.safetensors"
    if not path.exists():
        save_tokens(tokenize(read_text(None), NUM_WORDS), path)
    tokens = load_tokens(path)
    for recipe in recipes:
        run = Run(out / "runs" / recipe.name, recipe)
        if run.journal().last_step < last:
            try:
                with suppress(Enough):
                    train(recipe, tokens, run.folder, progress=stop)
            except (BadInput, RunFailed) as error:
                print(f"{recipe.name}: {error}", flush=True)


def mechanism_rows(rate: float, last: int, seeds: Sequence[int], out: Path) -> Iterator[dict[str, Any]]:
    """Compare every network with the full one, on the seeds that are finished in both."""
    runs = {name: runs_to(last, {"variant": name, "learning_rate": rate}, seeds, out) for name in VARIANTS}
    tokens = load_tokens(out / "text" / "text.safetensors")
    for name, by_seed in runs.items():
        if common := sorted(by_seed.keys() & runs[FULL].keys()):
            pair = {each: [runs[each][seed] for seed in common] for each in {FULL, name}}
            found = ablations(pair, tokens, last)[name]
            yield {
                "network": name,
                "seeds": common,
                "from": found.course.steps[0],
                "fall": Estimate.of(found.falls),
                "rise": Estimate.of(found.rises),
                "rise minus full": found.beyond("rise"),
                "rise minus a quarter of full": found.beyond("rise", LEFT),
                "loss": found.last_loss,
            }


def rank_rows(
    networks: dict[str, dict[str, Any]], last: int, seeds: Sequence[int], out: Path
) -> Iterator[dict[str, Any]]:
    """Read the fall and rise of the stable rank of every lower layer, in shares of its initial value."""
    for name, settings in networks.items():
        runs = list(runs_to(last, settings, seeds, out).values())
        decoder = recipe_of(settings, 0).decoder
        for layer in range(decoder.num_layers if runs and decoder.mlp else 0):
            course = course_of(runs, "stable_rank", layer).between(0, last)
            shares = replace(course, values=course.values / course.values[:, :1])
            found = shares.rebounds()
            yield {
                "network": f"{name}, layer {layer}" if decoder.num_layers > 1 else name,
                "seeds": [run.recipe.seed for run in runs],
                "initial rank": Estimate.of(course.values[:, 0]),
                "fall": Estimate.of(one.fall for one in found),
                "rise": Estimate.of(one.rise for one in found),
                "smaller of both": Estimate.of(one.size for one in found),
                "lowest at": Estimate.of(course.steps[one.lowest_idx] for one in found),
                "last": Estimate.of(shares.values[:, -1]),
                "loss": Estimate.of(course_of(runs, "val_loss_nats", None).between(0, last).values[:, -1]),
            }


def shown(value: Any) -> str:
    """Return an estimate as its mean and 95 % interval, other values as they are."""
    if isinstance(value, list):
        return str(len(value))
    if not isinstance(value, Estimate):
        return f"{value:,}" if isinstance(value, int) else str(value)
    low, high = value.interval
    digits = 0 if abs(value.mean) >= 20 else 3
    spread = f" ({low:.{digits}f} to {high:.{digits}f})" if math.isfinite(low) else " (–)"
    return f"{value.mean:.{digits}f}{spread}"


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as plain data: of an estimate its values, mean, standard deviation and interval."""
    return {
        name: {"values": value.values} | summary(value) if isinstance(value, Estimate) else value
        for name, value in row.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=("mechanism", "rank"))
    parser.add_argument("out", type=Path, help="a folder for the text and the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-4], help="learning rates of `mechanism`")
    parser.add_argument("--lengths", type=int, nargs="+", default=[NUM_STEPS // 4, NUM_STEPS], help="steps to read at")
    parser.add_argument("--until", type=int, default=NUM_STEPS, help="stop every run here, to go on later")
    parser.add_argument("--read", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    place = machine()
    networks = settings_of(options.question, options.rates)
    if not options.read:
        recipes = [recipe_of(settings, seed) for seed in options.seeds for settings in networks.values()]
        train_until(options.until, recipes, options.out)
    tables: dict[str, list[dict[str, Any]]] = {}
    for last in options.lengths:
        for rate in options.rates if options.question == "mechanism" else ():
            rows = list(mechanism_rows(rate, last, options.seeds, options.out))
            tables[f"Attention entropy in nats, {last:,} steps at {rate:g}"] = rows
        rows = list(rank_rows(networks, last, options.seeds, options.out))
        tables[f"Stable rank of the MLP's lower layer, in shares of the initial rank, {last:,} steps"] = rows
    if options.json:
        print_json(
            {"tables": {title: [plain(row) for row in rows] for title, rows in tables.items()}, "machine": place}
        )
        return
    if not any(tables.values()):
        raise SystemExit(f"{options.out} holds no runs that are measured so far: train them without --read")
    for title, rows in tables.items():
        if rows:
            show(title, list(rows[0]), [[shown(value) for value in row.values()] for row in rows], place)


if __name__ == "__main__":
    main()
