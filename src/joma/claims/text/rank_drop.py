"""The rank of the MLP's lower layer: does it fall while attention becomes sparse, and come back with it?"""

from __future__ import annotations

import numpy as np

from joma.charts import Chart
from joma.claims.registry import claim
from joma.claims.text.networks import Variant, estimate, study, trained
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.courses import course_of

RANK = "stable_rank"
NUM_ORDERS = 50

CRITERION = Criterion(
    "smaller of fall and rise of the stable rank, as a share of its initial value",
    ">=",
    0.05,
    "one twentieth of the initial rank: well above what one probe changes, far below the fall itself",
)


@claim(
    "text.rank_drop",
    test="Stable rank of the MLP's lower layer over the runs of text.sparse_then_dense; fall and rise read as there.",
    control="The same curves with their probes in random order.",
    needs_text=True,
)
def evaluate(workspace: Workspace) -> Agreement:
    """Read how far the stable rank falls and whether it comes back, with and without the nonlinearity."""
    full_runs, linear_runs = trained(workspace, [Variant(), Variant("linear MLP")])
    full, linear = course_of(full_runs, RANK), course_of(linear_runs, RANK)
    start = full.values[:, 0].mean()
    measured = Estimate(_sizes(full), "")
    by_chance = np.array([_sizes(full.in_random_order(repetition)) for repetition in range(NUM_ORDERS)])
    findings = (*_shape("full network", full), *_shape("linear MLP", linear), _difference(full, linear))
    entropy = course_of(full_runs, ENTROPY)
    sparsest = [entropy.steps[entry.bottom_idx] for entry in entropy.rebounds()]
    return Agreement(
        CRITERION,
        measured,
        (Control(f"probes in random order (mean of {NUM_ORDERS})", Estimate(tuple(by_chance.mean(0)), "")),),
        conclusion=_conclusion(findings, start),
        findings=(
            *findings,
            Finding("step where attention is sparsest", Estimate(tuple(map(float, sparsest)), "steps")),
        ),
        charts=(
            Chart(
                "stable_rank",
                "Stable rank of the MLP's lower layer",
                "The theory lets the rank fall while few components are salient and rise as the others catch up.",
                "optimiser steps",
                "stable rank ‖W‖²_F / σ₁²",
                (full.curve("full network"), linear.curve("linear MLP", "control")),
            ),
        ),
        notes=(
            f"{study(workspace).num_steps:,} steps; the runs are those of text.sparse_then_dense and text.mechanism.",
        ),
    )


def _sizes(ranks: Course) -> tuple[float, ...]:
    return tuple(entry.size / start for entry, start in zip(ranks.rebounds(), ranks.values[:, 0], strict=True))


def _shape(name: str, ranks: Course) -> tuple[Finding, ...]:
    found = ranks.rebounds()
    return (
        Finding(f"{name}: at the start", Estimate(tuple(ranks.values[:, 0]), "")),
        Finding(f"{name}: lowest level", estimate(found, lambda entry: entry.bottom, "")),
        Finding(
            f"{name}: step of the lowest level", estimate(found, lambda entry: ranks.steps[entry.bottom_idx], "steps")
        ),
        Finding(f"{name}: last level", estimate(found, lambda entry: entry.end, "")),
    )


def _difference(full: Course, linear: Course) -> Finding:
    pairs = zip(linear.rebounds(), full.rebounds(), strict=True)
    rises = tuple(one.rise - two.rise for one, two in pairs)
    return Finding("rise with a linear MLP minus rise of the full network", Estimate(rises, ""), "seed by seed")


def _conclusion(findings: tuple[Finding, ...], start: float) -> str:
    means = {finding.name: finding.estimate.mean for finding in findings}
    full = {name: means[f"full network: {name}"] for name in ("lowest level", "last level")}
    linear = {name: means[f"linear MLP: {name}"] for name in ("lowest level", "last level")}
    more = (
        "more" if linear["last level"] - linear["lowest level"] > full["last level"] - full["lowest level"] else "less"
    )
    return (
        f"The stable rank falls from {start:.0f} to {full['lowest level']:.0f} and ends at {full['last level']:.0f}. "
        f"With a linear MLP it falls to {linear['lowest level']:.0f} and ends at {linear['last level']:.0f}: it comes "
        f"back {more} without the nonlinearity than with it, while the theory lets it come back with it only."
    )
