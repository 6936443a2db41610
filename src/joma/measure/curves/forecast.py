"""A remark on several runs of a grid: which one will end with the lowest loss, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas

from joma.measure.curves.grid import LOSSES, GridRun, grid_of
from joma.measure.curves.order import HORIZON, LAST, epochs_to, last_step, level, scores
from joma.measure.curves.remarks import Remark
from joma.measure.curves.signs import short

FEWEST_RUNS = 3
BACK = 4.0
"""The prediction is checked by predicting the present losses from this fraction of the steps."""


def forecast(frame: pandas.DataFrame) -> tuple[str, Remark] | None:
    """Return the run that is predicted to end with the lowest held-out loss, and a remark that says so.

    Only runs with steps left are predicted; if one that has ended is lower, it is named too.

    Args:
        frame: the runs' measurements, as for ``predict_order``.

    Returns:
        ``None`` for fewer than ``FEWEST_RUNS`` runs with finite held-out losses that did not fail, and if none of them
        has steps left.

    Raises:
        InvalidArgument: as ``predict_order``, but not of a table without held-out losses.
    """
    held_out = frame[(frame["metric"] == LOSSES[0]) & frame["value"].notna()] if "metric" in frame else frame[:0]
    if held_out["run"].nunique() < FEWEST_RUNS:
        return None
    measured = {*held_out["run"]}
    runs = [run for run in grid_of(frame, "forecast") if run.name in measured]
    sound = [run for run in runs if not run.has_diverged and len(run.loss) >= LAST]
    if len(sound) < FEWEST_RUNS or not any(run.is_going for run in sound):
        return None
    predicted = scores(sound)
    order = np.argsort(predicted, kind="stable")
    ahead = [at for at in order if sound[at].is_going]
    goals = [_goal(run, sound) for run in sound]
    first = ahead[0]
    which = "" if len(ahead) == len(sound) else " of those with steps left"
    said = (
        f"is predicted to end with the lowest held-out loss{which},"
        if len(ahead) > 1
        else ("alone has steps left, and is predicted to end with a held-out loss of")
    )
    text = f"Of {len(sound)} runs, {_named(sound[first])} {said} {_at(predicted[first], goals[first])}"
    numbers = {"loss_nats": predicted[first], "step": goals[first]}
    if len(ahead) > 1:
        second = ahead[1]
        text += f"; next is {_named(sound[second])} with {_at(predicted[second], goals[second], goals[first])}"
        numbers["next_loss_nats"] = predicted[second]
    text += "."
    if (best := int(order[0])) != first:
        text += f" {_named(sound[best])} has ended lower, with {predicted[best]:.3f} nats."
        numbers["ended_loss_nats"] = predicted[best]
    numbers |= (sure := _check(sound))
    if sure:
        text += (
            f" From 1/{BACK:g} of these steps, the same method puts the present losses in order with a rank "
            f"correlation of {sure['rank_correlation']:.2f} and misses them by {short(sure['error_nats'])} nats "
            f"(median); this forecast spans a factor of {goals[first] / float(sound[first].loss.steps[-1]):.3g}"
        )
    else:
        text += " Too few probes to say how sure that is"
    passes = f"{epochs_to(goals[first], sound[first]):.3g} passes over the text"
    remedy = f"train it on; this holds for Adam, a constant learning rate and {passes}"
    return str(sound[first].name), Remark("open", "forecast", text, remedy, numbers)


def _goal(run: GridRun, runs: Sequence[GridRun]) -> float:
    """Return the last step of a run's whole training, as ``scores`` takes it."""
    return max(run.num_steps or HORIZON * last_step(runs), float(run.loss.steps[-1]))


def _at(loss: float, goal: float, other: float | None = None) -> str:
    return f"{loss:.3f}" + ("" if goal == other else f" nats at step {goal:,.0f}")


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
