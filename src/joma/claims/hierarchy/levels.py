"""What the claims on learned hierarchies share: numbers of an alignment, over seeds."""

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
    """One number of a matching: its mean score, that of shuffled latents, the score corrected for it, its p-value.

    Raises:
        RunFailed: there is none.
    """
    value = getattr(matching, which)
    if value is None:
        raise RunFailed(
            f"no alignment could be measured: {matching.reason}",
            kept="the networks are kept",
            remedy="measure on more samples, or on a law in which latents vary",
        )
    return value


def gain(learned: Scores, untrained: Scores) -> Scores:
    """How much of what the untrained network leaves open was found: 0 nothing, 1 everything, below 0 less than it."""
    return (learned - untrained) / (1 - untrained)


def accuracy(run: Run) -> float:
    """The held-out share of labels told right after the last step."""
    last = run.recipe.num_steps
    return next(entry.value for entry in run.measurements() if entry.metric == "val_accuracy" and entry.step == last)


def curve_of(
    label: str, x: Sequence[float], values: Float[np.ndarray, "seeds x"], role: Role, group: str = ""
) -> Curve:
    """The mean over seeds, with a band from the lowest to the highest."""
    low, mean, high = (part.tolist() for part in (values.min(0), values.mean(0), values.max(0)))
    return Curve(label, tuple(map(float, x)), mean, low, high, role=role, group=group)
