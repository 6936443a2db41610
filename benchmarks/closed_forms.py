"""The exact solution of v̇ = (μ − v) exp(v²/2): how exact it is, and how fast compared with integrators in the same run.

Accuracy: against 50 digits at random points of μ, v₀ in [−8, 8] and t from 1e-6 to 1e6, and at as many random places
of random paths, which random times rarely meet. An error counts beyond what one rounding of t costs.

Speed: all components at 100 times. LSODA gets a diagonal Jacobian and as many components as it can take in reasonable
time; what it costs per component then favours it, since it takes the steps that its worst component needs. The explicit
methods do not finish: DOP853 is stopped, and the Euler loop of the literature is counted, at the largest step that is
stable.

    python benchmarks/closed_forms.py [--json] [--points 2000] [--components 100000] [--peer-components 500]
"""

import argparse
import json
import sys
import time
from pathlib import Path as FilePath

import numpy as np
import psutil
import torch
from scipy.integrate import solve_ivp

from joma.theory import inversion
from joma.theory.nonlinear import nonlinear_solution

sys.path.insert(0, str(FilePath(__file__).parents[1] / "tests" / "golden"))
from fifty_digits import Path, mp

GOAL = 1e-10
TIMES = np.logspace(-6, 6, 100)
PEER_TOLERANCE = 1e-10
PATIENCE_S = 20.0


def problems(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-8, 8, num), rng.uniform(-8, 8, num), rng


def times_on_the_way(mu: np.ndarray, v0: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Times at which the components are at random places of their paths, down to 1e-9 of the way left."""
    num = len(mu)
    share = np.where(rng.random(num) < 0.5, rng.random(num), 1 - 10 ** rng.uniform(-9, 0, num))
    return np.array([float(Path(m, v).time(-mp.log1p(-mp.mpf(s)))) for m, v, s in zip(mu, v0, share, strict=True)])


def accuracy(mu: np.ndarray, v0: np.ndarray, t: np.ndarray) -> dict:
    """Worst relative errors beyond one rounding of t, of v and of 1 − v/μ, and how many roundings of t they are."""
    v, u = nonlinear_solution(mu, t, v0), inversion.log_convergence_at(*map(torch.from_numpy, (mu, v0, t[:, None])))
    worst = {"v": (0.0, ()), "1 - v/mu": (0.0, ()), "roundings of t": (0.0, ())}
    for j, (place, guess) in enumerate(zip(v, u[:, 0].tolist(), strict=True)):
        path = Path(mu[j], v0[j])
        exact_u = path.log_convergence(t[j], guess)
        exact = path.v(exact_u)
        rounding_u = path.speed(exact_u) * mp.mpf(t[j]) * mp.mpf(2) ** -53
        error_u = abs(mp.mpf(guess) - exact_u)
        # 1 − v/μ is (1 − v0/μ) exp(−u): its relative error is that of exp(−u), read where it still is a number.
        found = {
            "v": max(0, (abs(mp.mpf(place) - exact) - rounding_u * abs(path.mu - exact)) / abs(exact)),
            "1 - v/mu": max(0, error_u - rounding_u) if exact_u < 700 else 0,
            "roundings of t": error_u / rounding_u if exact_u < 700 and error_u > 1e-12 else 0,
        }
        for name, error in found.items():
            worst[name] = max(worst[name], (float(error), (mu[j], v0[j], t[j])))
    return {
        name: {"worst": error, "at": dict(zip(("mu", "v0", "t"), map(float, place), strict=False))}
        for name, (error, place) in worst.items()
    }


def timed(action) -> tuple[float, object]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def ours(mu: np.ndarray, v0: np.ndarray) -> np.ndarray:
    return nonlinear_solution(mu, TIMES[:, None], v0)


class OutOfPatience(Exception):
    pass


def integrated(mu: np.ndarray, v0: np.ndarray, method: str, patience_s: float = float("inf")):
    # NumPy's overflow is what an explicit method's trial steps run into here; the step is then refused.
    end = time.perf_counter() + patience_s
    reached = [0.0]

    def rate(t, v):
        if time.perf_counter() > end:
            raise OutOfPatience
        reached[0] = t
        return (mu - v) * np.exp(v * v / 2)

    extra = {}
    if method == "LSODA":
        extra = {"jac": lambda t, v: (((mu - v) * v - 1) * np.exp(v * v / 2))[None], "lband": 0, "uband": 0}
    try:
        path = solve_ivp(rate, (0, TIMES[-1]), v0, method, t_eval=TIMES, rtol=PEER_TOLERANCE, atol=1e-12, **extra)
    except OutOfPatience:
        return None, reached[0]
    return path.y.T, TIMES[-1]


def speed(num: int, num_peer: int) -> dict:
    mu, v0, _ = problems(num)
    ours(mu[:100], v0[:100])  # warm
    our_s, _ = timed(lambda: ours(mu, v0))
    few = mu[:num_peer], v0[:num_peer]
    our_few_s, exact = timed(lambda: ours(*few))
    peer_s, (path, _) = timed(lambda: integrated(*few, "LSODA"))
    _, (explicit, reached) = timed(lambda: integrated(*few, "DOP853", PATIENCE_S))
    euler_steps = TIMES[-1] * np.exp(np.maximum(mu**2, v0**2).max() / 2) / 2
    step_s, _ = timed(lambda: v0 + 1e-9 * (mu - v0) * np.exp(v0**2 / 2))
    return {
        "components": num,
        "times": len(TIMES),
        "exact_s": our_s,
        "exact_ns_per_value": 1e9 * our_s / num / len(TIMES),
        "peer_components": num_peer,
        "lsoda_s": peer_s,
        "lsoda_error": float(np.abs(path - exact).max()),
        "faster_than_lsoda_per_component": peer_s / num_peer / (our_s / num),
        "faster_than_lsoda_at_its_own_size": peer_s / our_few_s,
        "dop853": "finished"
        if explicit is not None
        else f"stopped after {PATIENCE_S:.0f} s at t = {reached:.1e} of 1e6",
        "euler": f"{euler_steps:.0e} steps of {1000 * step_s:.1f} ms, {euler_steps * step_s / 3.15e7:.0e} years",
    }


def where_time_goes(num: int) -> dict:
    """Shares of the parts of the inversion, by wrapping them in clocks."""
    spent = dict.fromkeys(("_cut", "_within_piece", "_within_tail"), 0.0)
    kept = {name: getattr(inversion, name) for name in spent}

    def clocked(name):
        def run(*given):
            seconds, result = timed(lambda: kept[name](*given))
            spent[name] += seconds
            return result

        return run

    for name in spent:
        setattr(inversion, name, clocked(name))
    try:
        mu, v0, _ = problems(num)
        total, _ = timed(lambda: ours(mu, v0))
    finally:
        for name, function in kept.items():
            setattr(inversion, name, function)
    names = {"_cut": "cutting paths", "_within_piece": "on the way", "_within_tail": "near the target"}
    shares = {names[name]: seconds / total for name, seconds in spent.items()}
    return shares | {"sorting, gathering, v from u": 1 - sum(shares.values())}


def growth(largest: int) -> list[dict]:
    """Time and memory for one time each, up to the largest number of components."""
    rows, process = [], psutil.Process()
    for num in [n for n in (10**5, 10**6, 10**7) if n <= largest]:
        mu, v0, rng = problems(num)
        t = 10 ** rng.uniform(-6, 6, num)
        before = process.memory_info().rss
        seconds, v = timed(lambda given=(mu, t, v0): nonlinear_solution(*given))
        rows.append(
            {
                "components": num,
                "seconds": seconds,
                "kept_bytes_per_component": (process.memory_info().rss - before) / num,
            }
        )
        del v
    return rows


def figures(arguments: argparse.Namespace) -> dict:
    mu, v0, rng = problems(arguments.points)
    return {
        "threads": torch.get_num_threads(),
        "points": arguments.points,
        "goal": GOAL,
        "random times": accuracy(mu, v0, 10 ** rng.uniform(-6, 6, arguments.points)),
        "on the way": accuracy(mu, v0, times_on_the_way(mu, v0, rng)),
        "speed": speed(arguments.components, arguments.peer_components),
        "where the time goes": where_time_goes(min(arguments.components, 20_000)),
        "growth": growth(arguments.largest),
    }


def show(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "where", title=f"v̇ = (μ − v) exp(v²/2), {found['threads']} thread(s)")
    for kind in ("random times", "on the way"):
        for name, entry in found[kind].items():
            unit = f"{entry['worst']:.1e}" if name != "roundings of t" else f"{entry['worst']:.1f}"
            table.add_row(f"{kind}: worst {name}", unit, ", ".join(f"{k} = {x:.6g}" for k, x in entry["at"].items()))
    table.add_section()
    for name, value in found["speed"].items():
        table.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value), "")
    table.add_section()
    for name, share in found["where the time goes"].items():
        table.add_row(name, f"{share:.0%}", "")
    table.add_section()
    for row in found["growth"]:
        table.add_row(
            f"{row['components']:,} components, one time each",
            f"{row['seconds']:.2f} s",
            f"{row['kept_bytes_per_component']:.0f} bytes each",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--components", type=int, default=100_000)
    parser.add_argument("--peer-components", type=int, default=500)
    parser.add_argument("--largest", type=int, default=1_000_000, help="10000000 takes about a minute")
    found = figures(parser.parse_args())
    print(json.dumps(found)) if "--json" in sys.argv else show(found)


if __name__ == "__main__":
    main()
