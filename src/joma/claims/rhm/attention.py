"""Claim rhm.attention: whether attention becomes sparse and then dense while a decoder learns a Random Hierarchy Model.

Axes: V tokens as the last one of a sequence, P places before it, T snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from joma.charts import Chart, Mark
from joma.claims.rhm.training import SETTINGS, trained
from joma.claims.workspace import Workspace
from joma.measure.curves.course import Course
from joma.problem.random_hierarchy import RandomHierarchy
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.correlations import token_correlations
from joma.threads import threads
from joma.train.courses import course_of
from joma.train.decoder import Decoder
from joma.train.run import Run

ENTROPY, RANK, LOSS = "attention_entropy_nats", "stable_rank", "val_loss_nats"
NUM_ORDERS = 50

THRESHOLD = 0.04  # nats

Table = Float[np.ndarray, "V PV"]
"""A number for each query token (row) and each key token at each place before it."""


class Association(NamedTuple):
    """How far the first layer's logits have moved since the start, at each snapshot, and what may decide it.

    Args:
        moved: logits of each token in the last place with each token in each place before it.
        cooccurrence: P(key token at its place | query token in the last place), exact.
        losses: held-out losses, nats.
    """

    moved: Float[np.ndarray, "T V PV"]
    cooccurrence: Table
    losses: Float[np.ndarray, " T"]

    @property
    def half_way(self) -> int:
        """The first snapshot at which the loss has fallen by half of the way to its minimum."""
        return int(np.argmax(self.losses <= (self.losses[0] + self.losses.min()) / 2))

    def correlations(self) -> Float[np.ndarray, " T"]:
        """Spearman's correlation of movements and co-occurrence, mean over queries; 0 at the start."""
        return np.array([0.0, *(_spearman(table, self.cooccurrence) for table in self.moved[1:])])


def evaluate(workspace: Workspace) -> Agreement:
    """Read fall and rise of entropy and rank off decoders that learn the law, and off those that cannot learn."""
    laws, runs = trained(workspace)
    _, unrelated = trained(workspace, "unrelated")
    layers = range(runs[0].recipe.decoder.num_layers)
    entropy, of_unrelated = (_mean_over_layers(part, ENTROPY, layers) for part in (runs, unrelated))
    rank, rank_of_unrelated = (_mean_over_layers(part, RANK, layers) for part in (runs, unrelated))
    measured = _size(entropy)
    by_chance = [
        [entry.size for entry in entropy.in_random_order(repetition).rebounds()] for repetition in range(NUM_ORDERS)
    ]
    associations = [association(run, law) for run, law in zip(runs, laws, strict=True)]
    findings = (
        *entropy.movements("attention entropy: ", "nats"),
        *(
            Finding(
                f"attention entropy, layer {layer}: smaller of fall and rise", _size(course_of(runs, ENTROPY, layer))
            )
            for layer in layers
        ),
        *rank.movements("stable rank of the lower MLP layers: "),
        Finding("stable rank, labels unrelated to tokens: smaller of fall and rise", _size(rank_of_unrelated, "")),
        *_association_findings(associations),
    )
    decisive = criterion(laws[0].length)
    return Agreement(
        decisive,
        measured,
        (
            Control(f"probes in random order (mean of {NUM_ORDERS})", Estimate.of(np.mean(by_chance, axis=0), "nats")),
            Control("labels unrelated to tokens", _size(of_unrelated)),
        ),
        conclusion=_conclusion(
            decisive.met_by(measured), entropy, {finding.name: finding.estimate for finding in findings}
        ),
        findings=findings,
        charts=(
            _chart("entropy", "Attention entropy", "mean attention entropy (nats)", entropy, of_unrelated),
            _chart("rank", "Stable rank of the lower MLP layers", "stable rank", rank, rank_of_unrelated),
            _layers_chart(runs, layers),
            _association_chart(associations, runs[0].snapshots()),
        ),
        notes=(str(SETTINGS[workspace.profile]), "Entropy is that of the last position, which predicts the label."),
    )


def criterion(num_keys: int) -> Criterion:
    """Return what fall and rise of the entropy of attention over so many keys must reach, with the reason for it."""
    return Criterion(
        "smaller of fall and rise of attention entropy, mean over layers, nats",
        ">=",
        THRESHOLD,
        f"{THRESHOLD / np.log(num_keys):.1%} of the entropy of uniform attention over {num_keys} keys, about the share "
        "that text.sparse_then_dense asks for",
    )


def _mean_over_layers(runs: Sequence[Run], metric: str, layers: range) -> Course:
    courses = [course_of(runs, metric, layer) for layer in layers]
    return Course(courses[0].steps, np.mean([course.values for course in courses], axis=0))


def _size(course: Course, unit: str = "nats") -> Estimate:
    return Estimate.of((entry.size for entry in course.rebounds()), unit)


@threads(1)
def association(run: Run, law: RandomHierarchy) -> Association:
    """Return how a decoder's first layer associates tokens at each of its snapshots."""
    steps = run.snapshots()
    losses = {entry.step: entry.value for entry in run.measurements() if entry.metric == LOSS}
    logits = np.stack([_place_logits(run.decoder(step), law) for step in steps])
    return Association(logits - logits[0], _cooccurrence(law), np.array([losses[step] for step in steps]))


@torch.no_grad()
def _place_logits(decoder: Decoder, law: RandomHierarchy) -> Table:
    """The first layer's logit from each token in the last place to each token in each place before it.

    First-layer queries and keys depend on token and position alone, so one sequence per token, which repeats the token,
    gives all of them.
    """
    seen: list[Tensor] = []

    def observe(layer: int, q: Tensor, k: Tensor) -> None:
        if layer == 0:
            seen.append(torch.einsum("mhe,vhpe->mpv", q[:, :, -1], k[:, :, :-1]) / q.shape[1] / q.shape[-1] ** 0.5)

    decoder(torch.arange(law.num_symbols)[:, None].expand(-1, law.length), observe)
    return seen[0].double().flatten(1).numpy()


def _cooccurrence(law: RandomHierarchy) -> Table:
    marginals = law.label_marginals(-1).mean(0)  # (places, symbols)
    joint = token_correlations(law)[-1, :-1] + marginals[-1][None, :, None] * marginals[:-1][:, None, :]
    given = joint / marginals[-1][None, :, None].clamp_min(1e-300)
    return given.transpose(0, 1).flatten(1).numpy()


def _spearman(measured: Table, predicted: Table) -> float:
    rows = [pair for pair in zip(measured, predicted, strict=True) if all(map(np.ptp, pair))]
    return float(np.mean([spearmanr(*pair).statistic for pair in rows])) if rows else 0.0


def _association_findings(associations: Sequence[Association]) -> tuple[Finding, ...]:
    courses = [one.correlations() for one in associations]
    others = [
        one._replace(cooccurrence=_in_random_places(one.cooccurrence, seed)) for seed, one in enumerate(associations)
    ]
    half = [row[one.half_way] for row, one in zip(courses, associations, strict=True)]
    control = [one.correlations()[one.half_way] for one in others]
    return (
        Finding("association with co-occurrence, half way", Estimate.of(half), "rank correlation, mean over queries"),
        Finding("association with co-occurrence, at the end", Estimate.of([row[-1] for row in courses])),
        Finding("the same half way, tokens and places permuted", Estimate.of(control)),
    )


def _in_random_places(table: Table, seed: int) -> Table:
    return np.random.default_rng(seed).permutation(table, axis=1)


def _conclusion(met: bool | None, entropy: Course, found: dict[str, Estimate]) -> str:
    fall, rise = found["attention entropy: fall"].mean, found["attention entropy: rise after it"].mean
    order = found["association with co-occurrence, half way"].mean
    start = entropy.values[:, 0].mean()
    figures = (
        f"Attention entropy of {start:.2f} nats {'falls' if fall > 0 else 'rises'} by {abs(fall):.2f} and then "
        f"{'rises' if rise > 0 else 'falls further'} by {abs(rise):.2f} while a decoder learns the law. "
    )
    said = {
        True: "So attention becomes sparse and then dense on hierarchies, too. ",
        False: "So it does not become sparse and then dense. ",
        None: "Whether it becomes sparse and then dense is not decided. ",
    }[met]
    return (
        figures
        + said
        + (
            f"The order in which it associates tokens correlates with their co-occurrence at {order:.2f} when half of "
            "the loss is gone."
        )
    )


def _chart(id: str, title: str, y_label: str, course: Course, unrelated: Course) -> Chart:
    return Chart(
        id,
        f"{title} while a decoder learns a Random Hierarchy Model",
        "Mean over layers; bands: one standard deviation over seeds. The dashed line shows where fall and rise are "
        "read.",
        "optimiser steps",
        y_label,
        (
            course.curve("labels of the law"),
            unrelated.curve("labels unrelated to tokens", "control"),
            course.read_levels("read from it", "labels of the law"),
        ),
    )


def _layers_chart(runs: Sequence[Run], layers: range) -> Chart:
    return Chart(
        "layers",
        "Attention entropy in each layer",
        "Of the last position, which predicts the label. Bands: one standard deviation over seeds.",
        "optimiser steps",
        "mean attention entropy (nats)",
        tuple(course_of(runs, ENTROPY, layer).curve(f"layer {layer}") for layer in layers),
    )


def _association_chart(associations: Sequence[Association], steps: Sequence[int]) -> Chart:
    shuffled = [
        one._replace(cooccurrence=_in_random_places(one.cooccurrence, seed)) for seed, one in enumerate(associations)
    ]
    courses = [
        Course(tuple(steps[1:]), np.stack([one.correlations()[1:] for one in part]))
        for part in (associations, shuffled)
    ]
    half_way = float(np.mean([steps[one.half_way] for one in associations]))
    return Chart(
        "association",
        "In which order the first layer associates tokens",
        "Rank correlation of the movements of attention logits with the co-occurrence of the tokens at their places. "
        "Mean and standard deviation over seeds.",
        "optimiser steps",
        "rank correlation, mean over queries",
        (
            courses[0].curve("with co-occurrence"),
            courses[1].curve("with co-occurrence, tokens and places permuted", "control"),
        ),
        (Mark("x", half_way, "half of the loss"),),
    )
