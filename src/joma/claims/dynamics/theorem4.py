"""Claim theorem4: how much faster the salient component converges, the closed form against adaptive integration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from joma.charts import Chart, Curve
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.nonlinear import late_offset, speed_ratio_correction, speed_ratio_limit

TIMES = np.geomspace(0.1, 100, 40)

CRITERION = Criterion(
    "largest error in ln of the predicted ratio ln(1/δⱼ)/ln(1/δₖ), at any time",
    "<=",
    1e-6,
    "the integrator's relative tolerance of 1e-10, added up over some hundred steps, with a margin of 100",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare predicted and integrated ratios of convergence over several pairs of targets."""
    pairs = [draw(seed) for seed in workspace.seeds(5)]
    integrated = [integrated_convergence(j) / integrated_convergence(k) for j, k in pairs]
    limits = [float(speed_ratio_limit(j, k)) for j, k in pairs]
    predicted = [
        limit * (1 + speed_ratio_correction(j, k, torch.as_tensor(TIMES)).numpy())
        for (j, k), limit in zip(pairs, limits, strict=True)
    ]
    plain = [_largest(np.log(limit / ratio)) for limit, ratio in zip(limits, integrated, strict=True)]
    unfed = [_largest(np.log(limit)) for limit in limits]
    errors = [_largest(np.log(p / ratio)) for p, ratio in zip(predicted, integrated, strict=True)]
    exact, without, no_feedback = (Estimate.of(values, "", "lognormal") for values in (errors, plain, unfed))
    late = [ratio[-1] / limit - 1 for ratio, limit in zip(integrated, limits, strict=True)]
    law = [late_correction(j, k) for j, k in pairs]
    return Agreement(
        CRITERION,
        exact,
        (
            Control("without the correction Λ", without),
            Control("dynamics without feedback, where the ratio is 1", no_feedback),
        ),
        conclusion=_conclusion(exact, without, late, law),
        findings=(
            Finding("correction Λ at the last time, integrated", Estimate.of(late)),
            Finding("correction Λ at the last time, formula for late times", Estimate.of(law)),
        ),
        charts=(_chart(pairs[0], integrated[0], predicted[0], limits[0]),),
        notes=("ln(μ − v) is integrated instead of v, so that the distance to the target keeps all its digits.",),
    )


def draw(seed: int) -> tuple[float, float]:
    """Return a random pair of targets, the salient one first."""
    rng = np.random.default_rng(seed)
    return rng.uniform(2.0, 3.0), rng.uniform(0.5, 1.5)


def integrated_convergence(mu: float) -> np.ndarray:
    """Return ln(1/δ) at TIMES from a start at 0, by adaptive integration."""
    from scipy.integrate import solve_ivp

    def rate(_: float, log_x: np.ndarray) -> np.ndarray:
        return -np.exp((mu - np.exp(log_x)) ** 2 / 2)

    path = solve_ivp(rate, (0, TIMES[-1]), [np.log(mu)], "LSODA", t_eval=TIMES, rtol=1e-10, atol=1e-12)
    return np.log(mu) - path.y[0]


def late_correction(mu_j: float, mu_k: float) -> float:
    """Return Λ at the last time by the formula for late times."""
    c_j, c_k = float(late_offset(mu_j)), float(late_offset(mu_k))
    return (c_k - c_j) / (TIMES[-1] - c_k)


def _conclusion(exact: Estimate, limit_alone: Estimate, late: Sequence[float], law: Sequence[float]) -> str:
    agrees = "agrees with the prediction to" if CRITERION.met_by(exact) else "differs from the prediction by up to"
    return (
        f"The ratio {agrees} {max(exact.values):.1e} of its size at all times. It differs from its limit by a factor "
        f"of up to {np.exp(max(limit_alone.values)):.0f} early on and by {np.mean(np.abs(late)):.1e} of the limit at "
        f"time {TIMES[-1]:.0f}, where the formula for late times predicts {np.mean(np.abs(law)):.1e}."
    )


def _largest(error: np.ndarray | float) -> float:
    return float(np.abs(error).max())


def _chart(pair: tuple[float, float], integrated: np.ndarray, predicted: np.ndarray, limit: float) -> Chart:
    times = TIMES.tolist()
    return Chart(
        "speed_ratio",
        f"How much further μ = {pair[0]:.2f} has converged than μ = {pair[1]:.2f}",
        "The ratio rises from 1 and converges to the exponential factor of Theorem 4.",
        "time",
        "ln(1/δⱼ) / ln(1/δₖ)",
        (
            Curve("integrated", times, integrated.tolist()),
            Curve("exact", times, predicted.tolist(), role="predicted"),
            Curve("limit alone", times, [limit] * len(times), role="control"),
        ),
        x_scale="log",
    )
