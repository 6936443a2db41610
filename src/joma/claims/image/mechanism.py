"""Claim image.mechanism: whether attention on pictures becomes dense again because of the MLP's nonlinearity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from joma.charts import Chart, id_of
from joma.claims.image.networks import (
    ENTROPY,
    entropy_of,
    every_pictures,
    labels_learned,
    notes,
    notes_on_length,
    trained,
)
from joma.claims.text.ablations import Ablation
from joma.claims.text.mechanism import LEFT
from joma.claims.text.networks import movement
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.courses import course_of, probe_groups
from joma.train.images.pictures import Pictures
from joma.train.run import Run

CRITERION = Criterion(
    "recovery of attention entropy with a linear MLP, beyond a quarter of the full network's, as a share of the "
    "entropy of uniform attention",
    "<=",
    0.0,
    "as in text.mechanism: the theory predicts none without the nonlinearity; a quarter allows for noise and for "
    "effects of LayerNorm",
)


@dataclass(frozen=True)
class Twins:
    """Networks that learned some pictures with all their parts, and with a linear MLP from the same initial weights.

    Args:
        pictures: what they learned.
        full, linear: by seed.
    """

    pictures: Pictures
    full: Sequence[Run]
    linear: Sequence[Run]

    def compared(self) -> Ablation:
        """Return attention entropy of both from the step on at which both know more than frequencies of labels."""
        onset = labels_learned(self.full, self.pictures)
        later = max(onset, labels_learned(self.linear, self.pictures))
        return Ablation(entropy_of(self.linear).between(later), entropy_of(self.full).between(onset))

    def with_nothing_removed(self) -> Ablation:
        """Return attention entropy of the full network on one half of the unseen pictures, and on the other."""
        onset, names = labels_learned(self.full, self.pictures), probe_groups(self.full[0], ENTROPY, "sequences")
        groups = [entropy_of(self.full, name).between(onset) for name in names]
        return Ablation(_mean(groups[1::2]), _mean(groups[::2]))


def _mean(courses: Sequence[Course]) -> Course:
    return replace(courses[0], values=np.mean([one.values for one in courses], axis=0))


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the recovery of attention entropy with and without the nonlinearity, seed by seed."""
    pictures = every_pictures(workspace)
    found = trained(workspace, pictures, ["full network", "linear MLP"])
    every = [Twins(some, *runs) for some, runs in zip(pictures, found, strict=True)]
    compared = [twins.compared() for twins in every]
    measured = Estimate.of(np.max([one.beyond("rise", LEFT).values for one in compared], axis=0))
    same = [twins.with_nothing_removed().beyond("rise", LEFT).values for twins in every]
    return Agreement(
        CRITERION,
        measured,
        (Control("nothing removed, other unseen pictures", Estimate.of(np.min(same, axis=0))),),
        conclusion=_conclusion(every, compared, measured),
        findings=tuple(
            finding for twins, one in zip(every, compared, strict=True) for finding in _findings(twins, one)
        ),
        charts=tuple(_chart(twins) for twins in every),
        notes=(
            *notes(workspace, pictures),
            *notes_on_length(workspace),
            "Both networks of a seed start from the same weights.",
        ),
    )


def _findings(twins: Twins, compared: Ablation) -> list[Finding]:
    name = twins.pictures.name
    return [
        *compared.full.movements(f"{name}, full network: "),
        *compared.course.movements(f"{name}, linear MLP: "),
        *(
            Finding(
                f"{name}, {network}: accuracy on unseen pictures",
                Estimate.of(course_of(runs, "val_accuracy", None).values[:, -1]),
            )
            for network, runs in (("full network", twins.full), ("linear MLP", twins.linear))
        ),
    ]


def _chart(twins: Twins) -> Chart:
    name = twins.pictures.name
    return Chart(
        f"mechanism_{id_of(name)}",
        f"Attention entropy with and without the MLP's nonlinearity ({name})",
        "According to the theory, entropy rises again because of the nonlinearity of the MLP. Bands: one standard "
        "deviation over seeds.",
        "optimiser steps",
        "attention entropy (1: uniform)",
        (entropy_of(twins.full).curve("full network"), entropy_of(twins.linear).curve("linear MLP", "control")),
    )


def _conclusion(every: Sequence[Twins], compared: Sequence[Ablation], measured: Estimate) -> str:
    moves = "; ".join(
        f"on {twins.pictures.name} it {movement(one.full)} in the full network and {movement(one.course)} with a "
        "linear MLP"
        for twins, one in zip(every, compared, strict=True)
    )
    rises = all(np.mean([found.rise for found in one.full.rebounds()]) > 0 for one in compared)
    meanings = {
        True: "So at least three quarters of the rise need the nonlinearity",
        None: "Whether at most a quarter of the rise is left without the nonlinearity is not decided",
        False: "So more than a quarter of the rise does not need the nonlinearity, contrary to the theory",
    }
    meaning = meanings[CRITERION.met_by(measured)] if rises else "So there is no rise to explain"
    return f"Attention entropy as a share of that of uniform attention: {moves}. {meaning}."
