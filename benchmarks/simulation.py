"""What simulating the one-layer model costs, each way compared with its peer in the same run, on one thread.

Batch: problems integrated at once against the same problems one after another. Samples: one right-hand side for all
samples against a Python loop over them. Method: an adaptive solver, Runge–Kutta of order 4 with fixed steps and the
explicit Euler steps of the literature (gradient descent), each with the setting that brings the invariant's drift
below the same bound (1e-6); Euler is timed where it stands and counted on by its measured first order.

    python benchmarks/simulation.py [--json] [--problems 32]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, Parameters, orthonormal_embeddings, velocity
from joma.simulate.descent import descent
from joma.simulate.flow import Adaptive, FixedStep, flow

DRIFT, END = 1e-6, 10.0
EULER_RATE = 0.005


def problem(seeds: range, num_samples: int = 32) -> tuple[OneLayer, Parameters]:
    data = classification_data(gaussian_classes(4, 12, width=2.0), num_samples, 8, seeds)
    model = OneLayer(*data, *orthonormal_embeddings(12), "exp", activation="tanh", trains_upper=True)
    return model, random_parameters(model, 8, seeds, scale=0.3, logit=1.0)


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of some runs."""
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def batch(num: int) -> dict[str, float]:
    together = seconds(lambda: flow(*problem(range(num)), [0.0, END]))
    alone = seconds(lambda: [flow(*problem(range(seed, seed + 1)), [0.0, END]) for seed in range(num)], 1)
    return {"problems": num, "together_s": together, "one_after_another_s": alone, "times_faster": alone / together}


def samples() -> dict[str, float]:
    model, start = problem(range(1), 256)
    single = [model.subset(torch.tensor([index])) for index in range(256)]
    together = seconds(lambda: velocity(model, start), 20)
    looped = seconds(lambda: [velocity(sample, start) for sample in single])
    return {"samples": 256, "together_ms": 1e3 * together, "loop_ms": 1e3 * looped, "times_faster": looped / together}


def methods() -> list[dict[str, float | str]]:
    model, start = problem(range(4))
    rows: list[dict[str, float | str]] = []
    ways = [("DOP853", Adaptive(tolerance=10.0**-digits)) for digits in range(4, 12)]
    steps = [("Runge–Kutta 4", FixedStep(0.8 / 2**halvings)) for halvings in range(8)]
    for candidates in (ways, steps):
        for name, solver in candidates:
            if flow(model, start, [0.0, END], solver=solver).residual.abs().max() < DRIFT:
                taken = seconds(lambda solver=solver: flow(model, start, [0.0, END], solver=solver))
                rows.append({"method": name, "setting": str(solver), "seconds": taken})
                break
    num = round(END / EULER_RATE)
    drift = float(descent(model, start, [0, num], EULER_RATE).residual.abs().max())
    taken = seconds(lambda: descent(model, start, [0, num], EULER_RATE), 1)
    needed = drift / DRIFT
    rows.append(
        {"method": "Euler", "setting": f"step {EULER_RATE / needed:.1e}, counted on", "seconds": taken * needed}
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--problems", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {"batch": [batch(arguments.problems)], "samples": [samples()], "methods": methods()}
    if arguments.json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    for title, rows in found.items():
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
