"""Claim text.mechanism: whether attention becomes dense again because of the MLP's nonlinearity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from joma.arrays import REAL
from joma.charts import Chart
from joma.claims.text.networks import Variant, frequencies_learned, movement, study, trained
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.course import Course
from joma.measure.curves.rebound import rebounds
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.dynamics import paper_figure4, solve
from joma.train.courses import course_of, probe_groups
from joma.train.run import Run

ABLATIONS = {
    Profile.QUICK: ("linear MLP",),
    Profile.FULL: ("linear MLP", "no MLP", "no LayerNorm", "frozen value path"),
}

LEFT = 0.25
"""The largest share of the recovery without the nonlinearity for which the nonlinearity still counts as the reason."""

CRITERION = Criterion(
    "recovery of attention entropy with a linear MLP, beyond a quarter of the full network's, nats",
    "<=",
    0.0,
    "the theory predicts none without the nonlinearity; a quarter allows for noise and for effects of LayerNorm",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the recovery of attention entropy with and without parts of the network, seed by seed."""
    names = ABLATIONS[workspace.profile]
    full_runs, *ablated_runs = trained(workspace, [Variant(), *(Variant(name) for name in names)])
    onset = frequencies_learned(workspace, full_runs)
    full = course_of(full_runs, ENTROPY).between(onset)
    ablated = {name: course_of(runs, ENTROPY).between(onset) for name, runs in zip(names, ablated_runs, strict=True)}
    measured = _left(ablated["linear MLP"], full)
    return Agreement(
        CRITERION,
        measured,
        (Control("nothing removed, other held-out sequences", _with_nothing_removed(full_runs, onset)),),
        conclusion=_conclusion(measured, full, ablated),
        findings=(
            Finding("recovery of the full network", Estimate.of(_rises(full), "nats")),
            *(Finding(f"recovery: {name}", Estimate.of(_rises(part), "nats")) for name, part in ablated.items()),
            *(finding for name in names for finding in _differences(name, ablated[name], full)),
            Finding(
                "theory: recovery with linear dynamics, as a share of the nonlinear",
                Estimate((_theory_share(),), "", "constant"),
                "the test applied to the theory's own two curves, where the claim holds",
            ),
        ),
        charts=(
            Chart(
                "ablations",
                "Attention entropy with parts of the network removed",
                "According to the theory, entropy rises again because of the nonlinearity of the MLP. Bands: one "
                "standard deviation over seeds.",
                "optimiser steps",
                "mean attention entropy (nats)",
                (full.curve("full network"), *(part.curve(name, "control") for name, part in ablated.items())),
            ),
        ),
        notes=_notes(workspace, names),
    )


def _rises(entropy: Course) -> list[float]:
    return [entry.rise for entry in entropy.rebounds()]


def _left(ablated: Course, full: Course) -> Estimate:
    pairs = zip(_rises(ablated), _rises(full), strict=True)
    return Estimate.of((one - LEFT * two for one, two in pairs), "nats")


def _with_nothing_removed(full_runs: list[Run], onset: int) -> Estimate:
    """The deciding number of the full network on one half of the probe sequences against the other half."""
    names = probe_groups(full_runs[0], ENTROPY, "sequences")
    groups = [course_of(full_runs, ENTROPY, group=name).between(onset) for name in names]
    halves = [replace(one, values=(one.values + two.values) / 2) for one, two in (groups[1::2], groups[::2])]
    return _left(*halves)


def _differences(name: str, ablated: Course, full: Course) -> tuple[Finding, ...]:
    pairs = list(zip(ablated.rebounds(), full.rebounds(), strict=True))
    differences = {side: [getattr(one, side) - getattr(two, side) for one, two in pairs] for side in ("fall", "rise")}
    return tuple(
        Finding(f"{name}: {side} minus the full network's", Estimate.of(values, "nats"))
        for side, values in differences.items()
    )


def _theory_share() -> float:
    """The deciding number for the theory's own two curves, which shows that the test can succeed."""
    times = torch.logspace(-2, 3, 60, dtype=REAL)
    nonlinear, linear = (solve(paper_figure4(symbol), times).entropy.numpy() for symbol in ("μ", "Δ"))
    return rebounds(linear[None])[0].rise / rebounds(nonlinear[None])[0].rise


def _conclusion(measured: Estimate, full: Course, ablated: Mapping[str, Course]) -> str:
    rise = float(np.mean(_rises(full)))
    meanings = {
        True: "So at least three quarters of the rise need the nonlinearity",
        None: f"Whether the latter is less than a quarter of the former ({LEFT * rise:.3f} nats) is not decided",
        False: "So more than a quarter of the rise does not need the nonlinearity, contrary to the theory",
    }
    meaning = meanings[CRITERION.met_by(measured)] if rise > 0 else "So there is no rise to explain"
    frozen, linear = ablated.get("frozen value path"), movement(ablated["linear MLP"], " nats")
    return (
        f"Attention entropy {movement(full, ' nats')} in the full network; with a linear MLP it {linear}. "
        f"{meaning}; the theory assumes a constant upstream gradient, a frozen value path, no LayerNorm and gradient "
        "flow, and this network violates all four."
        + ("" if frozen is None else f" With a frozen value path it {movement(frozen, ' nats')}.")
    )


def _notes(workspace: Workspace, names: tuple[str, ...]) -> tuple[str, ...]:
    sizes = study(workspace)
    notes = [
        f"{sizes.num_steps:,} steps of Adam at {sizes.learning_rate:g}, {sizes.num_seeds} seeds, same initial weights."
    ]
    if left_out := set(ABLATIONS[Profile.FULL]) - set(names):
        notes.append(f"Left out in this profile: {', '.join(sorted(left_out))}; included with --profile full.")
    return tuple(notes)
