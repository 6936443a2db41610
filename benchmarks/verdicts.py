"""How often a claim gets a wrong verdict, or loses a clear one, when seeds are added one by one.

Every claim says that a number is at most its true value, or at least; so the threshold is as hard as it can be, and a
clear verdict is wrong for one of the two. Read after each of 3, …, 20 seeds:

    wrong            claims whose interval is ever on the wrong side of the threshold, for the worse of the two sides
    wrong, usual     the same with the usual 95 % interval, computed again after each seed
    unclear          claims, with the threshold one spread away, whose clear verdict becomes undecided or another one
    unclear, usual   the same with the usual 95 % interval
    seeds            until half of the claims are decided, with the threshold one and two spreads away

The aim is wrong ≤ 5 % and unclear = 0. The lines below the rule are numbers that a claim should not declare normal.

    python benchmarks/verdicts.py [--json] [--claims 4000] [--seeds 20]
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

from joma.intervals import FEWEST, geometric, interval, moments, student
from table import machine, print_json, show

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from simulated_claims import FITTING, MISFITTING, Simulated

COLUMNS = ("number", "declared", "wrong", "wrong, usual", "unclear", "unclear, usual", "seeds")


def sides(ends: np.ndarray, threshold: float) -> np.ndarray:
    """The side of the threshold at which each interval lies: −1, 1, or 0 where it contains the threshold."""
    return (ends[..., 0] > threshold).astype(int) - (ends[..., 1] < threshold)


def changed(found: np.ndarray) -> float:
    """The share of claims whose clear side is followed by another side or none."""
    pairs = itertools.pairwise(found.T)
    return float(np.any([(before != 0) & (after != before) for before, after in pairs], axis=0).mean())


def median_seeds(found: np.ndarray) -> float | None:
    first = np.where(found.any(1), found.astype(bool).argmax(1) + FEWEST, np.inf)
    return float(np.median(first)) if np.isfinite(np.median(first)) else None


def measure(claim: Simulated, num_claims: int, num_seeds: int) -> dict[str, float | None]:
    drawn = [claim.values(seed, num_seeds) for seed in range(num_claims)]
    counts = range(FEWEST, num_seeds + 1)
    ours = np.array([[interval(values[:num], claim.distribution) for num in counts] for values in drawn])
    usual = np.array([[student(values[:num]) for num in counts] for values in drawn])
    pooled = [value for values in drawn for value in values]
    spread = moments(pooled)[1] if claim.distribution != "lognormal" else geometric(pooled)[1]
    far = [claim.true * spread**k if claim.distribution == "lognormal" else claim.true + k * spread for k in (1, 2)]
    if claim.distribution == "binary":
        far = [claim.true + k * (1 - claim.true) / 3 for k in (1, 2)]

    def wrong(ends: np.ndarray) -> float:
        found = sides(ends, claim.true)
        return max(float((found == side).any(1).mean()) for side in (-1, 1))

    return {
        "wrong": wrong(ours),
        "wrong_usual": wrong(usual),
        "unclear": changed(sides(ours, far[0])),
        "unclear_usual": changed(sides(usual, far[0])),
        "seeds_one": median_seeds(sides(ours, far[0])),
        "seeds_two": median_seeds(sides(ours, far[1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--claims", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    place, rows = machine(), []
    found = {}
    for kind, claims in (("fitting", FITTING), ("misfitting", MISFITTING)):
        found[kind] = {name: measure(claim, options.claims, options.seeds) for name, claim in claims.items()}
        for name, one in found[kind].items():
            shares = [f"{one[key]:.1%}" for key in ("wrong", "wrong_usual", "unclear", "unclear_usual")]
            until = " / ".join("more" if one[key] is None else f"{one[key]:.0f}" for key in ("seeds_one", "seeds_two"))
            rows.append((name, claims[name].distribution, *shares, until))
        rows.append(None)
    if options.json:
        print_json({"claims": options.claims, "seeds": options.seeds, "found": found, "machine": place})
    else:
        show(
            f"{options.claims:,} claims of each kind, read after 3 to {options.seeds} seeds", COLUMNS, rows[:-1], place
        )


if __name__ == "__main__":
    main()
