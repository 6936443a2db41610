"""How far attention dips and comes back in networks that differ in one setting, such as learning rate or depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from joma.claims.text.sparse_then_dense import ENTROPY
from joma.measure.curves.course import Course
from joma.measure.curves.rebound import Rebound
from joma.records import Estimate, Finding
from joma.train.courses import course_of
from joma.train.run import Run

FEWEST_PROBES = 9
"""The probes that start, bottom and end of a curve need."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The networks of one setting, one for each seed.

    Args:
        name: of the setting, such as ``learning rate 0.001``.
        layers: attention entropy of each layer, mean over heads.
        loss: validation loss, in nats.
        unigram_nats: the loss by word frequencies.
    """

    name: str
    layers: tuple[Course, ...]
    loss: Course
    unigram_nats: float

    @property
    def entropy(self) -> Course:
        """Attention entropy, mean over layers."""
        return replace(self.layers[0], values=np.mean([layer.values for layer in self.layers], axis=0))

    @property
    def rebounds(self) -> list[Rebound]:
        """How far entropy falls and rises by seed, as ``read`` from its mean over layers."""
        return self.read(self.entropy).rebounds()

    @property
    def last_losses(self) -> list[float]:
        """The last validation loss by seed, in nats."""
        return self.loss.values[:, -1].tolist()

    def read(self, course: Course) -> Course:
        """Return the part from the step on at which word frequencies are learned.

        All of it, if fewer than ``FEWEST_PROBES`` follow such a step: a small learning rate may not get there.
        """
        below = np.flatnonzero(self.loss.mean < self.unigram_nats)
        has_part = len(below) and len(self.loss.steps) - below[0] >= FEWEST_PROBES
        return course.between(self.loss.steps[below[0]]) if has_part else course

    def until(self, last: float) -> Setting:
        """Return the same networks up to a step, as if they had been trained no longer."""
        layers = tuple(layer.between(0, last) for layer in self.layers)
        return replace(self, layers=layers, loss=self.loss.between(0, last))

    def findings(self) -> tuple[Finding, ...]:
        """Return fall, rise and last loss."""
        found = self.rebounds
        return (
            Finding(f"{self.name}: fall", Estimate.of((one.fall for one in found), "nats")),
            Finding(f"{self.name}: rise after it", Estimate.of((one.rise for one in found), "nats")),
            Finding(f"{self.name}: last validation loss", Estimate.of(self.last_losses, "nats")),
        )


def setting_of(name: str, runs: Sequence[Run], unigram_nats: float) -> Setting:
    """Return what the runs of one setting measured."""
    layers = range(runs[0].recipe.decoder.num_layers)
    courses = tuple(course_of(runs, ENTROPY, layer) for layer in layers)
    return Setting(name, courses, course_of(runs, "val_loss_nats", None), unigram_nats)


def half(setting: Setting) -> float:
    """Return half of the steps of a setting, at which its networks are read again."""
    return math.floor(setting.loss.steps[-1] / 2)
