"""How far attention entropy falls and rises in networks with parts removed or assumptions of the theory put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from joma.claims.text.networks import unigram_nats
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.errors import RunFailed
from joma.measure.curves.course import Course
from joma.records import Estimate
from joma.train.courses import course_of, probe_groups
from joma.train.run import Run
from joma.train.text.vocabulary import Tokens

FULL = "full network"


@dataclass(frozen=True, eq=False)
class Ablation:
    """Attention entropy of one network from the learning of word frequencies to a step, with the full network's.

    Args:
        course: of this network, one row per seed.
        full: of the full network with the same seeds, from its own first step; for a network with one query, over the
            last positions only.
        last_loss: validation loss at the end, by seed.
    """

    course: Course
    full: Course
    last_loss: Estimate | None = None

    @property
    def rises(self) -> list[float]:
        """How far entropy rises again, by seed."""
        return [found.rise for found in self.course.rebounds()]

    @property
    def falls(self) -> list[float]:
        """How far entropy falls first, by seed."""
        return [found.fall for found in self.course.rebounds()]

    def beyond(self, side: str, share: float = 1.0) -> Estimate:
        """Return ``fall`` or ``rise`` minus a share of the full network's, seed by seed."""
        pairs = zip(self.course.rebounds(), self.full.rebounds(), strict=True)
        return Estimate.of((getattr(one, side) - share * getattr(two, side) for one, two in pairs), "nats")


def ablations(runs: Mapping[str, Sequence[Run]], tokens: Tokens, last: int | None = None) -> dict[str, Ablation]:
    """Return the ablation of each network by its name.

    A network is read from the step on at which its mean loss and the full network's are below that of word frequencies;
    one that never gets there, from the full network's step on.

    Args:
        runs: runs of each network by name, with the same seeds; one is the ``full network``.
        tokens: the text.
        last: the step to read up to; ``None`` for the last one.

    Raises:
        RunFailed: the full network never predicts better than word frequencies.
    """
    end, unigram = np.inf if last is None else last, unigram_nats(tokens, tokens.held_out)
    losses = {name: course_of(of_name, "val_loss_nats", None).between(0, end) for name, of_name in runs.items()}
    onset = losses[FULL].first_below(unigram, "the network")
    groups = probe_groups(runs[FULL][0], ENTROPY, "positions")
    found = {}
    for name, of_name in runs.items():
        try:
            first = max(onset, losses[name].first_below(unigram, name))
        except RunFailed:
            first = onset
        group = groups[-1] if of_name[0].recipe.one_query else None
        course, full = course_of(of_name, ENTROPY), course_of(runs[FULL], ENTROPY, group=group)
        last_loss = Estimate.of(losses[name].values[:, -1], "nats")
        found[name] = Ablation(course.between(first, end), full.between(onset, end), last_loss)
    return found
