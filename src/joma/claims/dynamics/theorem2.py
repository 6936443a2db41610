"""Claim theorem2: blow-up times of the linear dynamics, the closed form against adaptive integration."""

from __future__ import annotations

import math

import numpy as np

from joma.charts import Chart, Curve, Mark
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.linear import blow_up_time, linear_solution, winner

NUM_COMPONENTS = 6
FAR = 6.0  # from |v| = 6 to the blow-up it takes less than 3e-9/|Δ|

CRITERION = Criterion(
    "largest error in ln of a predicted blow-up time",
    "<=",
    1e-6,
    "the integrator's relative tolerance of 1e-10, added up over some hundred steps, with a margin of 100",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare predicted and integrated blow-up times and winners over several draws."""
    errors, without_start, winners_right, by_gradient = [], [], [], []
    for seed in workspace.seeds(5):
        delta, v0 = draw(seed)
        measured = np.array([integrated_blow_up(d, start) for d, start in zip(delta, v0, strict=True)])
        predicted = blow_up_time(delta, v0)
        errors.append(_largest(np.log(predicted / measured)))
        without_start.append(_largest(np.log(math.sqrt(math.pi / 2) / np.abs(delta) / measured)))
        winners_right.append(float(winner(delta, v0) == np.argmin(measured)))
        by_gradient.append(float(np.argmax(np.abs(delta)) == np.argmin(measured)))
    measured, others = (Estimate.of(values, "", "lognormal") for values in (errors, without_start))
    by_formula, by_size = (Estimate.of(values, "draws", "binary") for values in (winners_right, by_gradient))
    return Agreement(
        CRITERION,
        measured,
        (Control("without the start", others),),
        conclusion=_conclusion(measured, others, by_formula, by_size),
        findings=(
            Finding("predicted winner comes first", by_formula),
            Finding("component with the largest |Δ| comes first", by_size),
        ),
        charts=(_chart(),),
        notes=(f"{NUM_COMPONENTS} components per draw, |Δ| in [0.5, 2], |start| in [0.2, 0.8], signs at random.",),
    )


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random gradients Δ and starting values."""
    rng = np.random.default_rng(seed)
    delta, start = rng.uniform(0.5, 2.0, NUM_COMPONENTS), rng.uniform(0.2, 0.8, NUM_COMPONENTS)
    return delta * rng.choice([-1, 1], NUM_COMPONENTS), start * rng.choice([-1, 1], NUM_COMPONENTS)


def integrated_blow_up(delta: float, v0: float) -> float:
    """Return the time at which |v| passes FAR, by adaptive integration."""
    from scipy.integrate import solve_ivp

    def passed(_: float, v: np.ndarray) -> float:
        return abs(v[0]) - FAR

    passed.terminal = True  # ty: ignore[missing-attribute]  # SciPy reads this attribute of the function
    path = solve_ivp(
        lambda _, v: delta * np.exp(v**2 / 2), (0, math.inf), [v0], "LSODA", events=passed, rtol=1e-10, atol=1e-12
    )
    return float(path.t_events[0][0])


def _conclusion(measured: Estimate, without_start: Estimate, by_formula: Estimate, by_size: Estimate) -> str:
    agree = "agree with the formula's to" if CRITERION.met_by(measured) else "differ from the formula's by up to"
    return (
        f"The times at which components become infinite {agree} {max(measured.values):.1e} of their size; a formula "
        f"that ignores the start is off by a factor of up to {np.exp(max(without_start.values)):.1f}. The component "
        f"that the formula predicts becomes infinite first in {by_formula.mean:.0%} of the draws, the one with the "
        f"largest gradient in {by_size.mean:.0%}."
    )


def _largest(error: np.ndarray) -> float:
    return float(np.abs(error).max())


def _chart() -> Chart:
    from scipy.integrate import solve_ivp

    delta, v0 = draw(0)
    end = 0.9999 * blow_up_time(delta, v0).min()
    times = end * (1 - np.geomspace(1, 1e-4, 100))
    exact = linear_solution(delta, times[:, None], v0)
    path = solve_ivp(
        lambda _, v: delta * np.exp(v**2 / 2), (0, end), v0, "LSODA", t_eval=times[::9], rtol=1e-8, atol=1e-10
    )
    curves = []
    for j, d in enumerate(delta):
        curves.append(
            Curve(f"Δ = {d:.2f}, exact", times.tolist(), exact[:, j].tolist(), None, None, "predicted", f"{j}")
        )
        curves.append(Curve(f"Δ = {d:.2f}, integrated", path.t.tolist(), path.y[j].tolist(), group=f"{j}"))
    return Chart(
        "runaway",
        "One component runs away",
        "All components of the first draw up to the first blow-up, when the others are still finite.",
        "time",
        "v(t)",
        tuple(curves),
        (Mark("x", float(end), "blow-up"),),
    )
