"""Runs an hour: networks trained as one stack, against the same networks trained one by one, in the same run.

On a CPU both ways use one process with one thread for each core: each trains its share of the networks one after the
other, or as a stack. On an accelerator there is one process. Aim: 8 times more runs an hour on an accelerator, and not
slower on two cores.

    python benchmarks/stacked_runs.py [--json] [--members 12] [--num-words 1000] [--num-layers 1] [--device cpu|auto]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from joma.devices import device_of
from joma.progress import Progress
from joma.train.recipes import Recipe, paper_figure6
from joma.train.stacking import train_stack
from joma.train.text.vocabulary import Tokens
from joma.train.training import train

REPETITIONS = 3
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
WARM_UP, COUNTED = 5, 25
STEPS_OF_A_RUN = 58_560
"""The paper's 20 epochs, for which runs an hour are stated."""


def random_tokens(num_words: int) -> Tokens:
    """Words at random, whose order has no influence on the time of a step."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(num_words, (num,), generator=generator) for num in (200_000, 20_000)]
    return Tokens("random", "random words", *ids, tuple(f"word{n}" for n in range(num_words)), "random", 0.0)


def seconds_a_step(do: Callable[[Progress], object]) -> float:
    """The median time between two steps."""
    seen: list[float] = []
    do(lambda what, done, out_of: seen.append(time.perf_counter()))
    return statistics.median(
        later - earlier for earlier, later in zip(seen[WARM_UP:], seen[WARM_UP + 1 :], strict=False)
    )


def runs_an_hour(recipes: Sequence[Recipe], num_words: int, stacked: bool) -> float:
    tokens = random_tokens(num_words)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / recipe.name for recipe in recipes]
        if stacked:
            took = seconds_a_step(lambda progress: train_stack(recipes, tokens, folders, progress=progress))
        else:  # the first of them stands for all
            first = seconds_a_step(lambda progress: train(recipes[0], tokens, folders[0], progress=progress))
            took = first * len(recipes)
    return 3600 * len(recipes) / (took * STEPS_OF_A_RUN)


def figures(members: int, num_words: int, num_layers: int, device: str) -> dict[str, object]:
    on_cpu = device_of(device, "stacked_runs").type == "cpu"
    num_processes = min(members, os.cpu_count() or 1) if on_cpu else 1
    num_steps = WARM_UP + COUNTED
    recipes = [
        paper_figure6(
            num_words,
            name=f"run-{at}",
            num_steps=num_steps,
            num_layers=num_layers,
            learning_rate=RATES[at % len(RATES)],
            seed=at // len(RATES),
            early_until=0,
            probe_every=num_steps,
            checkpoint_every=num_steps,
            device=device,
        )
        for at in range(members)
    ]
    shares = [recipes[at::num_processes] for at in range(num_processes)]
    found: dict[bool, list[float]] = {False: [], True: []}
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        for _ in range(REPETITIONS):
            for stacked in found:
                futures = [pool.submit(runs_an_hour, share, num_words, stacked) for share in shares]
                found[stacked].append(sum(future.result() for future in futures))
    ratios = [stack / single for single, stack in zip(found[False], found[True], strict=True)]
    return {
        "one_by_one_runs_an_hour": statistics.median(found[False]),
        "stacked_runs_an_hour": statistics.median(found[True]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "members": members,
        "processes": num_processes,
        "num_words": num_words,
        "num_layers": num_layers,
        "device": "cpu" if on_cpu else torch.cuda.get_device_name(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--members", type=int, default=12)
    parser.add_argument("--num-words", type=int, default=1000)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    found = figures(**{name: value for name, value in vars(parser.parse_args()).items() if name != "json"})
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", title=f"{found['members']} networks, {found['processes']} processes, {found['device']}")
    table.add_row("one by one", f"{found['one_by_one_runs_an_hour']:.3f} runs of {STEPS_OF_A_RUN:,} steps an hour")
    table.add_row("stacked", f"{found['stacked_runs_an_hour']:.3f} runs an hour")
    low, high = min(found["ratios"]), max(found["ratios"])
    table.add_row("ratio", f"{found['ratio']:.2f} ({low:.2f} to {high:.2f})")
    Console().print(table)


if __name__ == "__main__":
    main()
