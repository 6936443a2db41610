"""Claim hierarchy.order: whether attention between tokens grows in the order of their co-occurrence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from joma.charts import Chart, Mark
from joma.claims.hierarchy.association import (
    N_HIDDEN,
    NUM_MOMENTS,
    Movement,
    PairTable,
    in_random_places,
    movement_in_flow,
    movement_of,
    rank_correlation,
)
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.course import Course
from joma.problem.laws import common_heights
from joma.problem.tree import LatentTree, balanced_tree, digest
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.hierarchy import label_marginals, token_cooccurrence
from joma.train.recipes import Recipe, hierarchy_recipe


@dataclass(frozen=True)
class Sizes:
    """The trees, the training of the decoders, and the number of samples for each query of a flow."""

    branching: tuple[int, ...]
    num_steps: int
    learning_rate: float
    snapshot_every: int
    num_samples: int
    num_seeds: int


SIZES = {
    Profile.QUICK: Sizes((2, 3, 3), 200, 1e-3, 5, 512, 5),
    Profile.FULL: Sizes((2, 3, 3, 3), 3000, 1e-4, 25, 2048, 10),
}
POLARITY, JITTER = 0.8, 0.15
WIDTH, NUM_ORDERS = 64, 20

CRITERION = Criterion(
    "rank correlation of attention's first changes with co-occurrence, mean over queries",
    ">=",
    0.5,
    "it explains a quarter of the variance of the ranks; below it, other causes decide most of the order",
)


class Predictions(NamedTuple):
    """Tables that may decide the order of association, exact by sum–product, for two labels.

    Args:
        cooccurrence: P(l | m), as the claim has it.
        gradient: P(l, label 1 | m) − P(l, label 0 | m), the gradient of the label before training.
        covariance: P(l, label 1 | m) − P(l | m) P(label 1 | m), that gradient once P(label | m) is learned.
    """

    cooccurrence: PairTable
    gradient: PairTable
    covariance: PairTable


Tables = Mapping[str, Sequence[PairTable]]
"""The predictions by name, one table for each tree."""


def evaluate(workspace: Workspace) -> Agreement:
    """Rank tokens by attention gained in trained decoders and one-layer flows, and compare with co-occurrence."""
    sizes = SIZES[workspace.profile]
    seeds = workspace.seeds(sizes.num_seeds)
    laws = [tree(sizes, seed) for seed in seeds]
    names = ("co-occurrence", "label gradient", "label covariance")
    expected = dict(zip(names, zip(*map(predictions, laws), strict=True), strict=True))
    cooccurrences = expected["co-occurrence"]
    runs = workspace.train_on([(recipe(law, sizes, seed), law) for law, seed in zip(laws, seeds, strict=True)])
    decoders = [movement_of(run, law) for run, law in zip(runs, laws, strict=True)]
    constant, label = _flows(workspace, laws, seeds, sizes.num_samples)
    half_way = [seen.moved[seen.half_way] for seen in decoders]
    measured = _correlations(half_way, cooccurrences)
    permuted = [
        _correlations(half_way, [in_random_places(table, order) for table in cooccurrences]).values
        for order in range(NUM_ORDERS)
    ]
    steps = runs[0].snapshots()
    findings = (
        Finding(
            "decoder: when half of the loss is gone", Estimate.of([steps[seen.half_way] for seen in decoders], "steps")
        ),
        *_findings(decoders, label, expected),
        Finding(
            "flow with a constant gradient: co-occurrence",
            _correlations([seen.moved[-1] for seen in constant], cooccurrences),
            "at the end",
        ),
    )
    return Agreement(
        CRITERION,
        measured,
        (
            Control(f"leaves in random places (mean of {NUM_ORDERS})", Estimate.of(np.mean(permuted, axis=0))),
            Control(
                "logits of the untrained network", _correlations([seen.logits[0] for seen in decoders], cooccurrences)
            ),
        ),
        conclusion=_conclusion(measured, {finding.name: finding.estimate for finding in findings}),
        findings=findings,
        charts=(
            _course_chart(decoders, expected, steps),
            _height_chart(decoders, laws, steps),
            _flow_chart(constant, label, expected),
        ),
        notes=(
            f"Trees of branching {sizes.branching}, polarities {POLARITY:g} ± {JITTER:g}, one per seed; decoders of "
            f"width {WIDTH} with {len(sizes.branching) - 1} layers, {sizes.num_steps:,} steps; flows with exponential "
            f"attention, {sizes.num_samples:,} samples for each query, for the label with {N_HIDDEN} tanh units.",
        ),
    )


def tree(sizes: Sizes, seed: int) -> LatentTree:
    """Return a tree with a different polarity on each edge, so that no two pairs of tokens co-occur equally often."""
    return balanced_tree(sizes.branching, POLARITY, jitter=JITTER, seed=seed)


def predictions(law: LatentTree) -> Predictions:
    """Return the predictions for a tree with two labels."""
    given_query = label_marginals(law)  # (D, m)
    joint = [(token_cooccurrence(law, label) * given_query[label]).T for label in range(law.num_labels)]
    cooccurrence = token_cooccurrence(law).T
    covariance = joint[1] - cooccurrence * given_query[1][:, None]
    return Predictions(cooccurrence.numpy(), (joint[1] - joint[0]).numpy(), covariance.numpy())


def recipe(law: LatentTree, sizes: Sizes, seed: int) -> Recipe:
    """Return the recipe of a decoder that learns the label, with frequent snapshots."""
    return hierarchy_recipe(
        law,
        name=f"hierarchy-order_{digest(law)[:8]}_{sizes.num_steps}-steps_seed-{seed}",
        num_steps=sizes.num_steps,
        seed=seed,
        learning_rate=sizes.learning_rate,
        width=WIDTH,
        hidden=128,
        shuffle_tokens=True,
        snapshot_every=sizes.snapshot_every,
        probe_every=sizes.snapshot_every,
        early_until=0,
        num_probe_sequences=256,
    )


def _correlations(tables: Sequence[PairTable], *predicted: Sequence[PairTable]) -> Estimate:
    """The rank correlation of each table with its prediction, given a second prediction if there is one."""
    return Estimate.of(rank_correlation(*row) for row in zip(tables, *predicted, strict=True))


def _flows(
    workspace: Workspace, laws: Sequence[LatentTree], seeds: range, num: int
) -> tuple[list[Movement], list[Movement]]:
    """The one-layer flows of every tree, with a constant gradient and for the label."""
    found = []
    for constant in (True, False):
        for law, seed in zip(laws, seeds, strict=True):
            workspace.progress("one-layer flow", len(found), 2 * len(laws))
            found.append(movement_in_flow(law, num, seed, constant=constant))
    workspace.progress("one-layer flow", 1, 1)
    return found[: len(laws)], found[len(laws) :]


def _findings(decoders: Sequence[Movement], flows: Sequence[Movement], expected: Tables) -> list[Finding]:
    cooccurrence, gradient, covariance = expected.values()
    overlap = _correlations(cooccurrence, gradient)
    findings = [Finding("label gradient against co-occurrence", overlap, "both exact: how similar the two are")]
    for when in ("half way", "at the end"):
        decoder, flow = (
            [entry.moved[entry.half_way if when == "half way" else -1] for entry in seen] for seen in (decoders, flows)
        )
        spread = Estimate.of([float(table.std(axis=-1).mean()) for table in decoder])
        of, comment = f"decoder, {when}", "partial correlation"
        findings += [
            Finding(f"{of}: spread of the logits' movements", spread, "over each query's tokens"),
            Finding(f"{of}: co-occurrence", _correlations(decoder, cooccurrence)),
            Finding(f"{of}: label gradient", _correlations(decoder, gradient)),
            Finding(
                f"{of}: co-occurrence given the label gradient", _correlations(decoder, cooccurrence, gradient), comment
            ),
            Finding(
                f"{of}: label gradient given co-occurrence", _correlations(decoder, gradient, cooccurrence), comment
            ),
            Finding(f"{of}: label covariance", _correlations(decoder, covariance)),
            *(
                Finding(f"flow for the label, {when}: {name}", _correlations(flow, tables))
                for name, tables in expected.items()
            ),
        ]
    return findings


def _conclusion(measured: Estimate, found: Mapping[str, Estimate]) -> str:
    means = {name: f"{estimate.mean:.2f}" for name, estimate in found.items()}
    figures = (
        "The attention that a decoder's query gains for each other token correlates with how often the two tokens "
        f"occur together at {measured.mean:.2f} when half of the loss is gone, and at "
        f"{means['decoder, at the end: co-occurrence']} at the end; in a one-layer model with the constant gradient "
        f"that the theory assumes, at {means['flow with a constant gradient: co-occurrence']}. "
    )
    met = CRITERION.met_by(measured)
    if met is None:
        return figures + "Whether a decoder associates tokens in the order of co-occurrence is not decided."
    if met:
        return figures + "So in a decoder, too, tokens with a near common ancestor are associated first."
    return figures + (
        "A label gives no constant gradient: samples with its two values have opposite gradients, and in their "
        "difference the common ancestor cancels. With that difference the decoder's order correlates at "
        f"{means['decoder, at the end: label gradient']} at the end; a network that predicts a token instead of the "
        "label would meet the assumption."
    )


def _course_chart(decoders: Sequence[Movement], expected: Tables, steps: list[int]) -> Chart:
    cooccurrence = expected["co-occurrence"]
    permuted = [in_random_places(table, order) for order, table in enumerate(cooccurrence)]
    half_way = float(np.mean([steps[seen.half_way] for seen in decoders]))
    return Chart(
        "course",
        "In which order a decoder associates tokens",
        "Rank correlation between the movements of each query's logits and what may decide their order. Mean and "
        "standard deviation over seeds; the verdict is read at the vertical line.",
        "optimiser steps",
        "rank correlation, mean over queries",
        (
            _course(decoders, cooccurrence, steps).curve("with co-occurrence"),
            _course(decoders, expected["label gradient"], steps).curve("with the label gradient", "context"),
            _course(decoders, permuted, steps).curve("with co-occurrence, leaves in random places", "control"),
        ),
        (Mark("x", half_way, "half of the loss"), Mark("y", CRITERION.threshold, "the claim")),
    )


def _flow_chart(constant: Sequence[Movement], label: Sequence[Movement], expected: Tables) -> Chart:
    percent = [round(100 * moment / (NUM_MOMENTS - 1)) for moment in range(NUM_MOMENTS)]
    cooccurrence = expected["co-occurrence"]
    return Chart(
        "flow",
        "In which order the one-layer flow associates tokens",
        "With the constant gradient of the theory the order is that of co-occurrence, up to the noise of finitely many "
        "samples; with the gradient of a label it is a different one.",
        "time, % of the whole",
        "rank correlation, mean over queries",
        (
            _course(constant, cooccurrence, percent).curve("constant gradient, with co-occurrence", "predicted"),
            _course(label, cooccurrence, percent).curve("label, with co-occurrence"),
            _course(label, expected["label gradient"], percent).curve("label, with the label gradient", "context"),
        ),
        (Mark("y", CRITERION.threshold, "the claim"),),
    )


def _height_chart(decoders: Sequence[Movement], laws: Sequence[LatentTree], steps: list[int]) -> Chart:
    heights, curves = [common_heights(law).numpy() for law in laws], []
    for height in range(1, int(heights[0].max()) + 1):
        means = []
        for seen, table in zip(decoders, heights, strict=True):
            level = np.where(table > 0, seen.moved, 0).sum(-1, keepdims=True) / (len(table) - 1)
            means.append((seen.moved - level)[:, table == height].mean(-1))
        curves.append(Course(tuple(steps), np.stack(means)).curve(f"common ancestor at height {height}"))
    return Chart(
        "heights",
        "How far the decoder's attention moves, by height of the common ancestor",
        "The claim predicts that the logits of the nearest tokens rise first. Each query's mean is subtracted; mean "
        "and standard deviation over seeds.",
        "optimiser steps",
        "logit, moved since the start",
        tuple(curves),
    )


def _course(seen: Sequence[Movement], predicted: Sequence[PairTable], steps: Sequence[int]) -> Course:
    """The rank correlation at each moment except the first, where nothing has moved."""
    rows = [rank_correlation(entry.moved[1:], table) for entry, table in zip(seen, predicted, strict=True)]
    return Course(tuple(steps[1:]), np.stack(rows))
