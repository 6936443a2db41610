"""Alignment scores and accuracies over seeds, for the claims on learned hierarchies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from joma.charts import Curve, Role
from joma.errors import RunFailed
from joma.measure.latents.alignment import Matching
from joma.train.run import Run

Scores = Float[np.ndarray, "..."]


def score_of(matching: Matching, which: Literal["mean", "chance", "corrected", "p_value"] = "mean") -> float:
    """Return the mean score of a matching, or the named number of its permutation test.

    Raises:
        RunFailed: the matching has no score.
    """
    value = getattr(matching, which)
    if value is None:
        remedy = "measure on more samples, or on a law in which latents vary"
        raise RunFailed(f"no alignment was measured: {matching.reason}", kept="the networks are kept", remedy=remedy)
    return value


def gain(learned: Scores, untrained: Scores) -> Scores:
    """Return the rise of a score relative to the untrained network's distance from 1 (negative for a fall)."""
    return (learned - untrained) / (1 - untrained)


def accuracy(run: Run) -> float:
    """Return the held-out accuracy after the last step."""
    last = run.recipe.num_steps
    return next(entry.value for entry in run.measurements() if entry.metric == "val_accuracy" and entry.step == last)


def curve_of(
    label: str, x: Sequence[float], values: Float[np.ndarray, "seeds x"], role: Role, group: str = ""
) -> Curve:
    """Return the curve of the mean over seeds, with a band from the lowest to the highest seed."""
    low, mean, high = (part.tolist() for part in (values.min(0), values.mean(0), values.max(0)))
    return Curve(label, tuple(map(float, x)), mean, low, high, role=role, group=group)
