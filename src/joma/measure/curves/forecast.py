"""A remark on several runs of a grid: which one will end with the lowest loss, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas

from joma.errors import InvalidArgument
from joma.measure.curves.grid import LOSSES, GridRun, grid_of
from joma.measure.curves.order import HORIZON, LAST, epochs_to, last_step, level, scores
from joma.measure.curves.remarks import Remark
from joma.measure.curves.signs import short

FEWEST_RUNS = 3
BACK = 4.0
"""The prediction is checked by predicting the present losses from this fraction of the steps."""


def forecast(frame: pandas.DataFrame) -> tuple[str, Remark] | None:
    """Return the run that is predicted to end with the lowest held-out loss, and a remark that says so.

    Args:
        frame: the runs' measurements, as for ``predict_order``.

    Returns:
        ``None`` for fewer than ``FEWEST_RUNS`` runs with finite held-out losses, and if none of them has steps left.
    """
    try:
        runs = grid_of(frame[frame["metric"] != LOSSES[1]], "forecast")
    except InvalidArgument:
        return None
    going = [run for run in runs if not run.has_diverged and len(run.loss) >= LAST]
    if len(going) < FEWEST_RUNS or all((run.num_steps or math.inf) <= run.loss.steps[-1] for run in going):
        return None
    predicted = scores(going)
    first, second = np.argsort(predicted, kind="stable")[:2]
    goal = max(run.num_steps or HORIZON * last_step(going) for run in going)
    text = (
        f"Of {len(going)} runs, {_named(going[first])} is predicted to end with the lowest held-out loss, "
        f"{predicted[first]:.3f} nats at step {goal:,.0f}; "
        f"next is {_named(going[second])} with {predicted[second]:.3f}."
    )
    sure = _check(going)
    numbers = {"loss_nats": predicted[first], "next_loss_nats": predicted[second], "step": goal} | sure
    if sure:
        text += (
            f" From 1/{BACK:g} of these steps, the same method puts the present losses in order with a rank "
            f"correlation of {sure['rank_correlation']:.2f} and misses them by {short(sure['error_nats'])} nats "
            f"(median); this forecast spans a factor of {goal / last_step(going):.3g}"
        )
    else:
        text += " Too few probes to say how sure that is"
    passes = f"{epochs_to(goal, going[first]):.3g} passes over the text"
    remedy = f"train it on; this holds for Adam, a constant learning rate and {passes}"
    return str(going[first].name), Remark("open", "forecast", text, remedy, numbers)


def _named(run: GridRun) -> str:
    return f"{run.name} (learning rate {run.learning_rate:g})" if run.learning_rate else str(run.name)


def _check(runs: Sequence[GridRun]) -> dict[str, float]:
    """Predict the present losses from the first part of the steps; empty if it has too few probes, or all are equal."""
    from scipy.stats import spearmanr

    early = [replace(run.until(run.loss.steps[-1] / BACK), num_steps=float(run.loss.steps[-1])) for run in runs]
    if any(len(run.loss) < LAST for run in early):
        return {}
    predicted, present = scores(early, num_epochs=1), [level(run.loss) for run in runs]
    if np.ptp(predicted) == 0 or np.ptp(present) == 0:
        return {}
    error = float(np.median(np.abs(np.subtract(predicted, present))))
    return {"rank_correlation": float(spearmanr(predicted, present)[0]), "error_nats": error}
