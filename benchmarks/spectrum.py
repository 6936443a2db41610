"""What a certified stable rank costs compared with full singular-value decompositions in the same run; aim: a tenth.

Matrices: the 24 of a Pythia-70m (six GPT-NeoX layers of width 512) and one of 8,192 × 2,048, as they are initialised
and with a falling spectrum as training leaves it. Peers: torch's full decomposition (``svd``) and its singular values
alone (``svdvals``), each in float64, which alone is as accurate as asked for, and in the weights' float32; and the
package weightwatcher (``pip install weightwatcher``; skipped where it is not installed): its decomposition alone, as
``analyze`` calls it on each matrix, and with --analyze all that it does, which is fitting power laws too. One round
takes every way in turn, once through all matrices; what is printed are medians over rounds. The slowest go once.

    python benchmarks/spectrum.py [--json] [--rounds 5] [--threads 2] [--without-large] [--analyze]
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from joma.measure.spectra.spectrum import certified_stable_rank
from table import machine, print_json, show

NUM_LAYERS, WIDTH = 6, 512
SMALL_INIT, WANG_INIT = (2 / (5 * WIDTH)) ** 0.5, 2 / (NUM_LAYERS * WIDTH**0.5)
LAYOUT = {  # GPT-NeoX: shape, and the standard deviation it starts with
    "query_key_value": (3 * WIDTH, WIDTH, SMALL_INIT),
    "dense": (WIDTH, WIDTH, WANG_INIT),
    "dense_h_to_4h": (4 * WIDTH, WIDTH, SMALL_INIT),
    "dense_4h_to_h": (WIDTH, 4 * WIDTH, WANG_INIT),
}
REST = 0.3  # seconds before a clock starts: other libraries' threads go on spinning after their last product
ONCE = ("weightwatcher, analyze",)


def initialised(num_rows: int, num_columns: int, spread: float, seed: int) -> Tensor:
    return torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed)) * spread


def as_trained(weight: Tensor) -> Tensor:
    """Columns that shrink as a power: singular values that fall as one, with the largest ones apart."""
    return weight * torch.arange(1, weight.shape[-1] + 1) ** -0.4


def matrices(without_large: bool) -> dict[str, list[Tensor]]:
    start = [initialised(*LAYOUT[name], seed=layer) for layer in range(NUM_LAYERS) for name in LAYOUT]
    sets = {"Pythia-70m": start} if without_large else {"Pythia-70m": start, "8,192 × 2,048": [large()]}
    return {
        f"{name}, {state}": [weight if state == "initialised" else as_trained(weight) for weight in weights]
        for name, weights in sets.items()
        for state in ("initialised", "as trained")
    }


def large() -> Tensor:
    return initialised(8192, 2048, 0.02, seed=0)


def analyzed(weights: list[Tensor]) -> None:
    """What a user of weightwatcher calls, on a model of these matrices, in silence."""
    from weightwatcher import WeightWatcher

    layers = nn.Sequential(*(nn.Linear(*weight.T.shape, bias=False) for weight in weights))
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight = nn.Parameter(weight)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        WeightWatcher(model=layers, log_level=logging.ERROR).analyze()


def stable_rank_of(singular: Tensor) -> float:
    return float((singular.double() / float(singular[0])).square().sum())


def ways(with_analyze: bool) -> dict[str, Callable[[list[Tensor]], object]]:
    """Ways to the stable ranks of matrices; all but weightwatcher's ``analyze`` return them."""

    def each(measure: Callable[[Tensor], float]) -> Callable[[list[Tensor]], object]:
        return lambda weights: [measure(weight) for weight in weights]

    def decomposed(weight: Tensor) -> float:
        return stable_rank_of(torch.linalg.svd(weight, full_matrices=False).S)

    found = {
        "joma, certified": each(lambda weight: float(certified_stable_rank(weight).value)),
        "torch svd, float64": each(lambda weight: decomposed(weight.double())),
        "torch svd, float32": each(decomposed),
        "torch svdvals, float64": each(lambda weight: stable_rank_of(torch.linalg.svdvals(weight.double()))),
        "torch svdvals, float32": each(lambda weight: stable_rank_of(torch.linalg.svdvals(weight))),
    }
    if importlib.util.find_spec("weightwatcher") is None:
        return found
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from weightwatcher.RMT_Util import svd_vals
    found["weightwatcher, decomposition"] = each(
        lambda weight: stable_rank_of(torch.from_numpy(svd_vals(weight.numpy().astype(float))))
    )
    return found | {"weightwatcher, analyze": analyzed} if with_analyze else found


def timed(action: Callable[[], object]) -> float:
    time.sleep(REST)
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def bound_apart(weights: list[Tensor]) -> float:
    """Worst relative distance of a bound from its value."""
    found = [certified_stable_rank(weight) for weight in weights]
    return max(float(max(rank.upper - rank.value, rank.value - rank.lower) / rank.value) for rank in found)


def worst_error(ranks: object, exact: list[float]) -> float | None:
    """Worst relative distance from a decomposition in float64."""
    if not isinstance(ranks, list):
        return None
    return max(abs(rank / truth - 1) for rank, truth in zip(ranks, exact, strict=True))


def measured(weights: list[Tensor], rounds: int, with_analyze: bool) -> dict[str, Any]:
    takers = ways(with_analyze)
    exact = [stable_rank_of(torch.linalg.svdvals(weight.double())) for weight in weights]
    errors = {
        name: None if name.endswith("analyze") else worst_error(take(weights), exact) for name, take in takers.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in takers}
    for turn in range(rounds):
        for name, taker in takers.items():
            if turn == 0 or name not in ONCE:
                seconds[name].append(timed(lambda take=taker: take(weights)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians["joma, certified"]
    return {
        "seconds": medians,
        "times_slower": {name: value / ours for name, value in medians.items()},
        "error": errors,
        "bound_apart": bound_apart(weights),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-large", action="store_true", help="leave 8,192 × 2,048 out: a minute less")
    parser.add_argument("--analyze", action="store_true", help="weightwatcher's whole analyze too: minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    place = machine() | {"threads": arguments.threads}
    found = {
        name: measured(weights, arguments.rounds, arguments.analyze)
        for name, weights in matrices(arguments.without_large).items()
    }
    if arguments.json:
        print_json({"machine": place, "figures": found})
        return
    rows: list[list[str] | None] = []
    for title, entry in found.items():
        for name, seconds in entry["seconds"].items():
            error = entry["error"][name]
            off = "" if error is None else f"{error:.1e}"
            rows.append([title, name, f"{seconds:.3f} s", f"{entry['times_slower'][name]:.1f} ×", off])
            title = ""
        if "weightwatcher, decomposition" not in entry["seconds"]:
            rows.append(["", "weightwatcher", "skipped: not installed", "", ""])
        rows.append(["", "bounds from the value, at most", "", "", f"{entry['bound_apart']:.1e}"])
        rows.append(None)
    heads = ("matrices", "way", "time", "of ours", "off by")
    show(f"A certified stable rank, {arguments.threads} threads", heads, rows, place)


if __name__ == "__main__":
    main()
