"""Claim theorem5: co-occurrence of tokens by height of their common ancestor, the closed form against samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from joma.charts import Chart, Curve
from joma.claims.hierarchy.levels import curve_of
from joma.claims.workspace import Profile, Workspace
from joma.problem.tree import LatentTree, balanced_tree
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.cooccurrence import presence_in_draws
from joma.theory.hierarchy import cooccurrence, token_cooccurrence


class Setting(NamedTuple):
    """A binary tree of depth L with polarity ρ₀ on the edges of the label and ρ on all others."""

    rho: float
    rho0: float
    depth: int

    def __str__(self) -> str:
        return f"ρ = {self.rho:g}, ρ₀ = {self.rho0:g}, L = {self.depth}".replace("-", "−")

    def tree(self, jitter: float = 0.0, seed: int = 0) -> LatentTree:
        """Return the tree; ``jitter`` makes polarities differ from edge to edge, which the theorem excludes."""
        polarities = (self.rho0, *(self.rho,) * (self.depth - 1))
        return balanced_tree((2,) * self.depth, polarities, jitter=jitter, seed=seed)

    def predicted(self, label_sign: int, first_height: int = 1) -> Float[np.ndarray, " H"]:
        """Return the prediction of Theorem 5 for the heights from ``first_height`` to that of the label."""
        heights = range(first_height, self.depth + 1)
        return np.array([float(cooccurrence(self.rho, self.rho0, self.depth, at, label_sign)) for at in heights])


class Shares(NamedTuple):
    """The share of samples with leaf 0 that have another leaf, by the height of the common ancestor, from 1."""

    share: Float[np.ndarray, " H"]
    standard_error: Float[np.ndarray, " H"]


Draw = dict[tuple[Setting, int], Shares]
"""The shares of one seed by setting and sign of the label."""

EXAMPLE, EXAMPLE_HEIGHT = Setting(0.7, 0.6, 4), 2  # 0.5216 in docs/theory section 5a
SETTINGS = (EXAMPLE, Setting(0.9, 0.5, 3), Setting(0.5, 0.9, 2), Setting(-0.8, 0.6, 4))
SIGNS = (-1, 1)
CASES = tuple((setting, sign) for setting in SETTINGS for sign in SIGNS)
NUM_DEVIATIONS = sum(setting.depth for setting, _ in CASES)
NUM_SAMPLES = {Profile.QUICK: 100_000, Profile.FULL: 1_000_000}
BATCH = 100_000
JITTER = 0.15

CRITERION = Criterion(
    "largest deviation of simulated co-occurrence from the formula, in standard errors",
    "<=",
    4.5,
    f"the largest of {NUM_DEVIATIONS} standard normal deviations is above 4.5 in "
    f"{1 - math.erf(4.5 / math.sqrt(2)) ** NUM_DEVIATIONS:.3%} of the draws",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare formula, sum–product and samples over several draws."""
    seeds, num = workspace.seeds(5), NUM_SAMPLES[workspace.profile]
    seen = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)  # shared by the cases, so that their samples are independent
        seen.append({(setting, sign): simulated(setting.tree(), sign, num, generator) for setting, sign in CASES})
    exact = max(float(np.abs(sum_product(tree.tree(), sign) - tree.predicted(sign)).max()) for tree, sign in CASES)
    unequal = _unequal_polarities(seeds, num)
    measured = _deviations(seen, lambda setting, sign: setting.predicted(sign))
    higher = _deviations(seen, lambda setting, sign: setting.predicted(sign, 2))
    flipped = _deviations(seen, lambda setting, sign: setting.predicted(-sign))
    return Agreement(
        CRITERION,
        measured,
        (Control("common ancestor one level too high", higher), Control("label's sign flipped", flipped)),
        conclusion=f"How often two tokens occur together in {num:,} samples differs from the formula by at most "
        f"{max(measured.values):.1f} standard errors in all cases, and an exact calculation differs from it by "
        f"{exact:.0e}. The formula assumes that all edges of the tree below the top are equally strong: where their "
        f"strengths differ by up to {JITTER:g}, its error is up to {max(unequal[0].estimate.values):.2f}.",
        findings=(
            Finding(
                "largest difference between formula and sum–product", Estimate.of([exact], "", "constant"), "all cases"
            ),
            *_example([draws[EXAMPLE, -1].share[EXAMPLE_HEIGHT - 1] for draws in seen]),
            *unequal,
        ),
        charts=tuple(_chart(sign, seen) for sign in SIGNS),
        notes=(f"{num:,} samples for each of {len(CASES)} cases and each seed; all trees are binary.",),
    )


def simulated(tree: LatentTree, label_sign: int, num: int, generator: torch.Generator) -> Shares:
    """Return the shares in ``num`` samples of a binary tree, given the sign of the label; one other leaf per height."""
    partners = [2**height for height in range(len(tree.levels) - 1)]  # leaves by height of the ancestor with leaf 0
    there = presence_in_draws(tree, SIGNS.index(label_sign), num, generator, batch=BATCH)
    given = there[there[:, 0]][:, partners].numpy()
    share = given.mean(0)
    return Shares(share, np.sqrt(share * (1 - share) / len(given)))


def sum_product(tree: LatentTree, label_sign: int) -> Float[np.ndarray, " H"]:
    """Return the exact values of the shares that ``simulated`` estimates, for any polarities."""
    partners = [2**height for height in range(len(tree.levels) - 1)]
    return token_cooccurrence(tree, SIGNS.index(label_sign))[partners, 0].numpy()


def _unequal_polarities(seeds: range, num: int) -> tuple[Finding, Finding]:
    """The errors of the formula and of sum–product where polarities differ from edge to edge."""
    formula, deviations = [], []
    for seed in seeds:
        tree, generator = EXAMPLE.tree(JITTER, seed), torch.Generator().manual_seed(seed)
        exact = {sign: sum_product(tree, sign) for sign in SIGNS}
        formula.append(max(float(np.abs(exact[sign] - EXAMPLE.predicted(sign)).max()) for sign in SIGNS))
        deviations.append(max(_largest(simulated(tree, sign, num, generator), exact[sign]) for sign in SIGNS))
    return (
        Finding("unequal polarities: largest error of the formula", Estimate.of(formula), f"ρ ± {JITTER:g} by edge"),
        Finding(
            "unequal polarities: largest deviation from sum–product", Estimate.of(deviations), "in standard errors"
        ),
    )


def _example(shares: list[float]) -> tuple[Finding, Finding]:
    name = f"{EXAMPLE}, H = {EXAMPLE_HEIGHT}, label −1"
    formula = float(EXAMPLE.predicted(-1)[EXAMPLE_HEIGHT - 1])
    return Finding(f"{name}: simulated", Estimate.of(shares)), Finding(
        f"{name}: formula", Estimate.of([formula], "", "constant")
    )


def _deviations(seen: list[Draw], formula: Callable[[Setting, int], Float[np.ndarray, " H"]]) -> Estimate:
    """The largest deviation of each draw from ``formula``."""
    return Estimate.of([max(_largest(found, formula(*case)) for case, found in draw.items()) for draw in seen])


def _largest(found: Shares, expected: Float[np.ndarray, " H"]) -> float:
    """The largest deviation in standard errors over the first heights, as many as ``expected`` has."""
    num = len(expected)
    return float((np.abs(found.share[:num] - expected) / found.standard_error[:num]).max())


def _chart(label_sign: int, seen: list[Draw]) -> Chart:
    curves = []
    for setting in SETTINGS:
        heights, name = tuple(map(float, range(setting.depth + 1))), str(setting)
        shares = np.stack([draw[setting, label_sign].share for draw in seen])
        formula = setting.predicted(label_sign, 0).tolist()
        curves.append(Curve(f"{name}, formula", heights, formula, role="predicted", group=name))
        curves.append(curve_of(f"{name}, simulated", heights[1:], shares, "measured", name))
    sign = "+1" if label_sign > 0 else "−1"
    return Chart(
        f"cooccurrence_{'plus' if label_sign > 0 else 'minus'}",
        f"Co-occurrence of tokens by height of their common ancestor (label {sign})",
        "Formula and samples coincide at every height; at the last height the common ancestor is the label. Bands, too "
        "narrow to be visible at most heights: lowest to highest seed.",
        "height of the common ancestor (levels above the tokens)",
        "P(token present | other token present)",
        tuple(curves),
    )
