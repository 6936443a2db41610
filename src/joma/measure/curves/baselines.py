"""Simple ways to predict the order of a grid's runs, which ``predict_order`` has to beat; a lower score is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from joma.measure.curves.grid import GridRun
from joma.measure.curves.order import HORIZON, last_step, level
from joma.measure.curves.signs import SIGNS

BETA = 0.32
"""The exponent with which the best learning rate falls with the length of training (arXiv 2409.19913)."""

STUCK = 0.02
"""Share of a run's fall that a run which still learns loses in the second half of its steps."""


@dataclass(frozen=True)
class Setting:
    """What a baseline may know in addition to the curves.

    Args:
        best_rate: the learning rate that was best elsewhere; ``None`` for the middle one of the grid.
        num_steps: steps of the whole training; ``None`` for 29 times the last one.
    """

    best_rate: float | None = None
    num_steps: float | None = None


Baseline = Callable[[Sequence[GridRun], Setting], list[float] | None]
"""Scores of runs that have a loss; ``None`` if learning rates are needed and not there."""


def early_loss(runs: Sequence[GridRun], setting: Setting) -> list[float]:
    """Return the loss so far."""
    return [level(run.loss) for run in runs]


def area(runs: Sequence[GridRun], setting: Setting) -> list[float]:
    """Return the mean training loss over steps (TSE, arXiv 2006.04492); of the held-out loss where there is none."""
    curves = [run.trained if len(run.trained) else run.loss for run in runs]
    means = [np.trapezoid(curve.values, curve.steps) / max(np.ptp(curve.steps), 1.0) for curve in curves]
    return [float(mean) if len(curve) > 1 else level(curve) for mean, curve in zip(means, curves, strict=True)]


def prior(runs: Sequence[GridRun], setting: Setting) -> list[float] | None:
    """Return the distance from the learning rate that was best elsewhere, on a logarithmic axis; no curve is used."""
    rates = _log_rates(runs)
    if rates is None:
        return None
    middle = float(np.median(rates)) if setting.best_rate is None else math.log(setting.best_rate)
    return [abs(rate - middle) for rate in rates]


def horizon_law(runs: Sequence[GridRun], setting: Setting) -> list[float] | None:
    """Return the loss so far that a learning rate has which is larger by the factor of the law of horizons.

    The losses of runs of one shape are interpolated over logarithms of learning rates, and extended by the last slope.
    """
    rates = _log_rates(runs)
    if rates is None:
        return None
    shift = BETA * math.log((setting.num_steps or HORIZON * last_step(runs)) / last_step(runs))
    found = []
    for run, rate in zip(runs, rates, strict=True):
        alike = [at for at, other in enumerate(runs) if other.shape == run.shape]
        grid = sorted({rates[at] for at in alike})
        means = [np.mean([level(runs[at].loss) for at in alike if rates[at] == one]) for one in grid]
        slope = (means[-1] - means[-2]) / (grid[-1] - grid[-2]) if len(grid) > 1 else 0.0
        beyond = max(rate + shift - grid[-1], 0.0)
        own = level(run.loss) - float(means[grid.index(rate)])  # between seeds
        found.append(float(np.interp(rate + shift, grid, means)) + slope * beyond + own)
    return found


def power_law(runs: Sequence[GridRun], setting: Setting) -> list[float]:
    """Return the last loss of a power law with a floor, fitted to each run's own curve after its first eighth."""
    goal = setting.num_steps or HORIZON * last_step(runs)
    return [_extended(run, goal) for run in runs]


def _extended(run: GridRun, goal: float) -> float:
    from scipy.optimize import least_squares

    late = (run.loss.steps > 0) & (run.loss.steps >= run.loss.steps[-1] / 8)
    steps, values = run.loss.steps[late] / run.loss.steps[-1], run.loss.values[late]
    if len(steps) < 4:
        return level(run.loss)
    found = least_squares(
        lambda law: law[0] + law[1] * steps ** -law[2] - values,
        [0.8 * float(values.min()), 0.2 * float(values.min()), 0.5],
        bounds=([0, 0, 0.05], [np.inf, np.inf, 3]),
        loss="soft_l1",
        f_scale=0.02 * max(float(np.ptp(values)), 1e-6),
    )
    floor, fall, exponent = found.x
    return float(floor + fall * (goal / run.loss.steps[-1]) ** -exponent)


def divergence_rules(runs: Sequence[GridRun], setting: Setting) -> list[float]:
    """Return the loss so far, with broken runs last: collapsed attention, large logits, a high loss that stands still.

    Entropy, in the mean over layers, and logits, in each layer, count by the signs for which ``joma.watch`` raises an
    alarm. High is above the middle of all losses so far: there a run that stands still knows little more than
    frequencies.
    """
    levels = [level(run.loss) for run in runs]
    worst, middle = max(levels), float(np.median(levels))
    broken = [_is_broken(run, now > middle) for run, now in zip(runs, levels, strict=True)]
    return [now + worst * is_broken for now, is_broken in zip(levels, broken, strict=True)]


def _is_broken(run: GridRun, is_high: bool) -> bool:
    loss, curves = run.loss, [("collapse", run.entropy), *(("logits", curve) for curve in run.logits)]
    has_sign = any(len(curve) > 0 and SIGNS[sign].since(curve.values) is not None for sign, curve in curves)
    half = loss.values[loss.steps <= loss.steps[-1] / 2]
    still = len(half) > 0 and half[-1] - level(loss) <= STUCK * np.ptp(loss.values)
    return bool(has_sign or (is_high and still))


def _log_rates(runs: Sequence[GridRun]) -> list[float] | None:
    rates = [run.learning_rate for run in runs]
    return [math.log(rate) for rate in rates if rate] if all(rates) else None


BASELINES: Mapping[str, Baseline] = {
    "loss so far": early_loss,
    "area under the training loss": area,
    "prior: learning rate alone": prior,
    "loss so far, best rate moved by the law of horizons": horizon_law,
    "power law of each run": power_law,
    "loss so far, broken runs last": divergence_rules,
}
"""The baselines by name."""
