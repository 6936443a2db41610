"""Claim text.rank_drop: whether the rank of the MLP's lower layer falls and rises together with attention entropy."""

from __future__ import annotations

import numpy as np

from joma.charts import Chart
from joma.claims.text.networks import Variant, study, trained
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
    "one twentieth of the initial rank: well above the change between two probes, far below the fall itself",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read how far the stable rank falls and whether it rises again, with and without the nonlinearity."""
    full_runs, linear_runs = trained(workspace, [Variant(), Variant("linear MLP")])
    full, linear = course_of(full_runs, RANK), course_of(linear_runs, RANK)
    start = full.values[:, 0].mean()
    measured = Estimate(_sizes(full))
    by_chance = np.array([_sizes(full.in_random_order(repetition)) for repetition in range(NUM_ORDERS)])
    findings = (*full.levels("full network"), *linear.levels("linear MLP"), _difference(full, linear))
    entropy = course_of(full_runs, ENTROPY)
    sparsest = [entropy.steps[entry.bottom_idx] for entry in entropy.rebounds()]
    return Agreement(
        CRITERION,
        measured,
        (Control(f"probes in random order (mean of {NUM_ORDERS})", Estimate.of(by_chance.mean(0))),),
        conclusion=_conclusion(findings, start),
        findings=(*findings, Finding("step where attention is sparsest", Estimate.of(sparsest, "steps"))),
        charts=(
            Chart(
                "stable_rank",
                "Stable rank of the MLP's lower layer",
                "The theory predicts that the rank falls while few components are salient and rises as the others "
                "catch up.",
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


def _difference(full: Course, linear: Course) -> Finding:
    pairs = zip(linear.rebounds(), full.rebounds(), strict=True)
    rises = tuple(one.rise - two.rise for one, two in pairs)
    return Finding("rise with a linear MLP minus rise of the full network", Estimate(rises, ""), "seed by seed")


def _conclusion(findings: tuple[Finding, ...], start: float) -> str:
    means = {finding.name: finding.estimate.mean for finding in findings}
    full, linear = (
        f"{means[f'{name}: lowest level']:.0f} at its lowest and {means[f'{name}: last level']:.0f} at the end"
        for name in ("full network", "linear MLP")
    )
    return (
        f"The stable rank, the effective number of directions of a matrix, starts at {start:.0f}; it is {full}. "
        f"With a linear MLP it is {linear}. The theory predicts that the rank rises again only with a nonlinear MLP."
    )
