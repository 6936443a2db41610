"""Claim text.mechanism: whether attention becomes dense again because of the MLP's nonlinearity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch

from joma.arrays import REAL
from joma.charts import Chart
from joma.claims.text.ablations import FULL, Ablation, ablations
from joma.claims.text.networks import Variant, movement, study, trained
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.course import Course
from joma.measure.curves.rebound import rebounds
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.dynamics import paper_figure4, solve
from joma.train.courses import course_of, probe_groups
from joma.train.recipes import VARIANTS
from joma.train.run import Run

LINEAR = "linear MLP"

ABLATIONS = {
    Profile.QUICK: (LINEAR,),
    Profile.FULL: tuple(name for name in VARIANTS if name != FULL),
}

MORE_RATES = {Profile.QUICK: (), Profile.FULL: (1e-3,)}
"""Learning rates at which the comparison is repeated."""

LENGTHS = {Profile.QUICK: (1.0,), Profile.FULL: (1.0, 0.25)}
"""Shares of the training steps after which networks are compared."""

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
    sizes, tokens = study(workspace), workspace.tokens()
    names, rates = (FULL, *ABLATIONS[workspace.profile]), (None, *MORE_RATES[workspace.profile])
    wanted = [Variant(name, learning_rate=rate) for rate in rates for name in names]
    every = iter(trained(workspace, wanted))
    runs = {rate: {name: next(every) for name in names} for rate in rates}
    compared = {
        (rate, steps): ablations(of_rate, tokens, steps)
        for rate, of_rate in runs.items()
        for steps in (round(share * sizes.num_steps) for share in LENGTHS[workspace.profile])
    }
    first, *others = compared.values()
    full, linear = first[FULL].course, first[LINEAR]
    measured = linear.beyond("rise", LEFT)
    where = [f", {steps:,} steps at {rate or sizes.learning_rate:g}" for rate, steps in compared]
    return Agreement(
        CRITERION,
        measured,
        (Control("nothing removed, other held-out sequences", _with_nothing_removed(runs[None][FULL], full)),),
        conclusion=_conclusion(measured, full, first),
        findings=(
            *_findings(first),
            Finding(
                "theory: recovery with linear dynamics, as a share of the nonlinear",
                Estimate((_theory_share(),), "", "constant"),
                "the test applied to the theory's own two curves, where the claim holds",
            ),
            *(finding for at, one in zip(where[1:], others, strict=True) for finding in _findings(one, at)),
        ),
        charts=tuple(_charts(first)),
        notes=_notes(workspace, names),
    )


def _findings(found: Mapping[str, Ablation], where: str = "") -> Iterable[Finding]:
    yield Finding(f"recovery of the full network{where}", Estimate.of(found[FULL].rises, "nats"))
    others = {name: one for name, one in found.items() if name != FULL}
    for name, one in others.items():
        yield Finding(f"recovery: {name}{where}", Estimate.of(one.rises, "nats"))
    for name, one in others.items():
        for side in ("fall", "rise"):
            yield Finding(f"{name}{where}: {side} minus the full network's", one.beyond(side))


def _charts(found: Mapping[str, Ablation]) -> Iterable[Chart]:
    """One chart of removed parts, and one of the theory's other assumptions if there are any."""
    names = [name for name in found if name != FULL]
    removed = [name for name in names if name in ABLATIONS[Profile.FULL][:4]]
    assumed = [name for name in names if name not in removed]
    for id, title, some in (
        ("ablations", "Attention entropy with parts of the network removed", removed),
        ("assumptions", "Attention entropy under assumptions of the theory", assumed),
    ):
        if some:
            yield Chart(
                id,
                title,
                "According to the theory, entropy rises again because of the nonlinearity of the MLP. Bands: one "
                "standard deviation over seeds.",
                "optimiser steps",
                "mean attention entropy (nats)",
                (found[FULL].course.curve(FULL), *(found[name].course.curve(name, "control") for name in some)),
            )


def _with_nothing_removed(full_runs: list[Run], full: Course) -> Estimate:
    """The deciding number of the full network on one half of the probe sequences against the other half."""
    names = probe_groups(full_runs[0], ENTROPY, "sequences")
    groups = [course_of(full_runs, ENTROPY, group=name).between(full.steps[0]) for name in names]
    one, two = (replace(one, values=(one.values + two.values) / 2) for one, two in (groups[1::2], groups[::2]))
    return Ablation(one, two).beyond("rise", LEFT)


def _theory_share() -> float:
    """The deciding number for the theory's own two curves, which shows that the test can succeed."""
    times = torch.logspace(-2, 3, 60, dtype=REAL)
    nonlinear, linear = (solve(paper_figure4(symbol), times).entropy.numpy() for symbol in ("μ", "Δ"))
    return rebounds(linear[None])[0].rise / rebounds(nonlinear[None])[0].rise


def _conclusion(measured: Estimate, full: Course, found: Mapping[str, Ablation]) -> str:
    rise = float(np.mean([one.rise for one in full.rebounds()]))
    meanings = {
        True: "So at least three quarters of the rise need the nonlinearity",
        None: f"Whether the latter is less than a quarter of the former ({LEFT * rise:.3f} nats) is not decided",
        False: "So more than a quarter of the rise does not need the nonlinearity, contrary to the theory",
    }
    meaning = meanings[CRITERION.met_by(measured)] if rise > 0 else "So there is no rise to explain"
    gone = [name for name, one in found.items() if name != LINEAR and CRITERION.met_by(one.beyond("rise", LEFT))]
    return (
        f"Attention entropy {movement(full, ' nats')} in the full network; with a linear MLP it "
        f"{movement(found[LINEAR].course, ' nats')}. {meaning}; the theory assumes a constant upstream gradient, a "
        "frozen value path, no LayerNorm and gradient flow, and this network violates all four."
        + (f" At most a quarter of the rise is left with each of: {', '.join(gone)}." if gone and rise > 0 else "")
    )


def _notes(workspace: Workspace, names: tuple[str, ...]) -> tuple[str, ...]:
    sizes = study(workspace)
    notes = [
        f"{sizes.num_steps:,} steps of Adam at {sizes.learning_rate:g}, {sizes.num_seeds} seeds, same initial weights.",
        "The answer changes with the length of training: docs/findings.md, What takes the way back away.",
    ]
    if left_out := [name for name in ABLATIONS[Profile.FULL] if name not in names]:
        notes.append(f"Left out in this profile: {', '.join(left_out)}; included with --profile full.")
    return tuple(notes)
