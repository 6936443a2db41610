"""Which tokens a query associates first, against how often they come with it: in decoders and in one-layer flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The trees, the decoders that learn them, and the samples of each query in a flow."""

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
WIDTH, FEED_FORWARD = 64, 128
NUM_PROBES, NUM_ORDERS = 256, 20

CRITERION = Criterion(
    "rank correlation of attention's first changes with co-occurrence, mean over queries",
    ">=",
    0.5,
    "it explains a quarter of the variance of the ranks; with less, other things decide most of the order",
)


Moment = Callable[[Movement], int]
"""At which moment to read."""


class Predictions(NamedTuple):
    """What may decide the order, exactly, by sum–product.

    Args:
        together: P(l | m), which the claim says.
        pull: P(l, label 1 | m) − P(l, label 0 | m): the label's gradient before anything is learned.
        news: P(l, label 1 | m) − P(l | m) P(label 1 | m): what is left of it once the query's own share is learned.
    """

    together: PairTable
    pull: PairTable
    news: PairTable


def evaluate(workspace: Workspace) -> Agreement:
    """Rank tokens in trained decoders and in one-layer flows, and compare with co-occurrence."""
    sizes = SIZES[workspace.profile]
    seeds = workspace.seeds(sizes.num_seeds)
    laws = [tree(sizes, seed) for seed in seeds]
    expected = [predictions(law) for law in laws]
    together = [entry.together for entry in expected]
    runs = workspace.train_on([(recipe(law, sizes, seed), law) for law, seed in zip(laws, seeds, strict=True)])
    decoders = [movement_of(run, law) for run, law in zip(runs, laws, strict=True)]
    flows = _flows(workspace, laws, seeds, sizes.num_samples)
    measured = _agreement(decoders, _half_way, together)
    elsewhere = [
        _agreement(decoders, _half_way, [in_random_places(table, order) for table in together]).values
        for order in range(NUM_ORDERS)
    ]
    untrained = [rank_correlation(seen.logits[0], table) for seen, table in zip(decoders, together, strict=True)]
    halves = [run.snapshots()[seen.half_way] for run, seen in zip(runs, decoders, strict=True)]
    findings = (
        Finding("decoder: when half of the loss is gone", Estimate.of(halves, "steps")),
        *_findings(decoders, flows, expected),
    )
    return Agreement(
        CRITERION,
        measured,
        (
            Control(f"leaves in random places (mean of {NUM_ORDERS})", Estimate.of(np.mean(elsewhere, axis=0))),
            Control("logits of the untrained network", Estimate.of(untrained)),
        ),
        conclusion=_conclusion(measured, {finding.name: finding.estimate for finding in findings}),
        findings=findings,
        charts=(
            _course_chart(decoders, expected, runs[0].snapshots()),
            _height_chart(decoders, laws, runs[0].snapshots()),
            _flow_chart(flows, expected),
        ),
        notes=(
            f"Trees of branching {sizes.branching}, polarities {POLARITY:g} ± {JITTER:g}, one per seed; decoders of "
            f"width {WIDTH} with {len(sizes.branching) - 1} layers, {sizes.num_steps:,} steps; flows with exponential "
            f"attention, {sizes.num_samples:,} samples for each query, for the label with {N_HIDDEN} tanh units.",
        ),
    )


def tree(sizes: Sizes, seed: int) -> LatentTree:
    """A tree in which every edge has a polarity of its own, so that no two pairs of tokens are alike."""
    return balanced_tree(sizes.branching, POLARITY, jitter=JITTER, seed=seed)


def predictions(law: LatentTree) -> Predictions:
    """What may decide the order in which a query's tokens are associated; for two labels."""
    given_query = label_marginals(law)  # (D, m)
    joint = [(token_cooccurrence(law, label) * given_query[label]).T for label in range(law.num_labels)]
    together = token_cooccurrence(law).T
    news = joint[1] - together * given_query[1][:, None]
    return Predictions(together.numpy(), (joint[1] - joint[0]).numpy(), news.numpy())


def recipe(law: LatentTree, sizes: Sizes, seed: int) -> Recipe:
    """A decoder that learns the label and keeps its weights often."""
    return hierarchy_recipe(
        law,
        name=f"hierarchy-order_{digest(law)[:8]}_{sizes.num_steps}-steps_seed-{seed}",
        num_steps=sizes.num_steps,
        seed=seed,
        learning_rate=sizes.learning_rate,
        width=WIDTH,
        feed_forward=FEED_FORWARD,
        shuffle_tokens=True,
        snapshot_every=sizes.snapshot_every,
        probe_every=sizes.snapshot_every,
        early_until=0,
        num_probe_sequences=NUM_PROBES,
    )


def _half_way(seen: Movement) -> int:
    return seen.half_way


def _end(_: Movement) -> int:
    return -1


def _agreement(seen: Sequence[Movement], moment: Moment, *predicted: Sequence[PairTable]) -> Estimate:
    """The rank correlation of each network's movement with what was predicted for it.

    What follows from a second prediction is taken out first.
    """
    rows = zip(seen, *predicted, strict=True)
    return Estimate.of(rank_correlation(entry.moved[moment(entry)], *tables) for entry, *tables in rows)


def _flows(workspace: Workspace, laws: Sequence[LatentTree], seeds: range, num: int) -> dict[bool, list[Movement]]:
    """The one-layer flows of every tree, by whether their gradient is constant."""
    flows: dict[bool, list[Movement]] = {True: [], False: []}
    for constant, found in flows.items():
        for law, seed in zip(laws, seeds, strict=True):
            workspace.progress("one-layer flow", len(flows[True]) + len(flows[False]), 2 * len(laws))
            found.append(movement_in_flow(law, num, seed, constant=constant))
    workspace.progress("one-layer flow", 1, 1)
    return flows


def _findings(
    decoders: Sequence[Movement], flows: dict[bool, list[Movement]], expected: Sequence[Predictions]
) -> tuple[Finding, ...]:
    together, pull, news = (list(tables) for tables in zip(*expected, strict=True))
    overlap = [rank_correlation(entry.together, entry.pull) for entry in expected]
    findings = [
        Finding("pull of the label against co-occurrence", Estimate.of(overlap), "both exact: how far they are one")
    ]
    for when, moment in (("half way", _half_way), ("at the end", _end)):
        spread = [float(seen.moved[moment(seen)].std(axis=-1).mean()) for seen in decoders]
        findings += [
            Finding(
                f"decoder, {when}: spread of the logits' movements", Estimate.of(spread), "over each query's tokens"
            ),
            Finding(f"decoder, {when}: co-occurrence", _agreement(decoders, moment, together)),
            Finding(f"decoder, {when}: pull of the label", _agreement(decoders, moment, pull)),
            Finding(
                f"decoder, {when}: co-occurrence beyond pull of the label",
                _agreement(decoders, moment, together, pull),
                "partial correlation",
            ),
            Finding(
                f"decoder, {when}: pull of the label beyond co-occurrence",
                _agreement(decoders, moment, pull, together),
                "partial correlation",
            ),
            Finding(f"decoder, {when}: news of the label", _agreement(decoders, moment, news)),
            Finding(f"flow for the label, {when}: co-occurrence", _agreement(flows[False], moment, together)),
            Finding(f"flow for the label, {when}: pull of the label", _agreement(flows[False], moment, pull)),
            Finding(f"flow for the label, {when}: news of the label", _agreement(flows[False], moment, news)),
        ]
    constant = _agreement(flows[True], _end, together)
    return (*findings, Finding("flow with a constant gradient: co-occurrence", constant, "at the end"))


def _conclusion(measured: Estimate, found: dict[str, Estimate]) -> str:
    means = {name: f"{estimate.mean:.2f}" for name, estimate in found.items()}
    figures = (
        "How strongly a decoder comes to associate a query with each other token correlates with how often they come "
        f"together at {measured.mean:.2f} when half of the loss is gone, and at "
        f"{means['decoder, at the end: co-occurrence']} at the end; in a one-layer model with the constant gradient "
        f"that the theory assumes, at {means['flow with a constant gradient: co-occurrence']}. "
    )
    if CRITERION.met_by(measured):
        return figures + "So in a decoder too the tokens with a near common ancestor are associated first."
    return figures + (
        "A label gives no constant gradient: samples of its two values pull in opposite directions, and in the pull "
        "that is left the common ancestor cancels. With that pull the decoder's order correlates at "
        f"{means['decoder, at the end: pull of the label']} at the end; a token to be predicted in place of the label "
        "would meet the assumption."
    )


def _course_chart(decoders: Sequence[Movement], expected: Sequence[Predictions], steps: list[int]) -> Chart:
    together, pull, _ = (list(tables) for tables in zip(*expected, strict=True))
    elsewhere = [in_random_places(table, order) for order, table in enumerate(together)]
    half_way = float(np.mean([steps[seen.half_way] for seen in decoders]))
    return Chart(
        "course",
        "In which order a decoder associates tokens",
        "Rank correlation between how far each query's logits have moved and what may decide their order. Mean and "
        "standard deviation over seeds; the vertical line is where the verdict is read.",
        "optimiser steps",
        "rank correlation, mean over queries",
        (
            _course(decoders, together, steps).curve("with co-occurrence"),
            _course(decoders, pull, steps).curve("with the label's pull", "context"),
            _course(decoders, elsewhere, steps).curve("with co-occurrence, leaves in random places", "control"),
        ),
        (Mark("x", half_way, "half of the loss"), Mark("y", CRITERION.threshold, "the claim")),
    )


def _flow_chart(flows: dict[bool, list[Movement]], expected: Sequence[Predictions]) -> Chart:
    percent = [round(100 * moment / (NUM_MOMENTS - 1)) for moment in range(NUM_MOMENTS)]
    together, pull, _ = (list(tables) for tables in zip(*expected, strict=True))
    return Chart(
        "flow",
        "In which order the one-layer flow associates tokens",
        "With the constant gradient of the theory the order is that of co-occurrence (what is missing is the noise of "
        "finitely many samples); with the gradient of a label it is another one.",
        "time, % of the whole",
        "rank correlation, mean over queries",
        (
            _course(flows[True], together, percent).curve("constant gradient, with co-occurrence", "predicted"),
            _course(flows[False], together, percent).curve("label, with co-occurrence"),
            _course(flows[False], pull, percent).curve("label, with the label's pull", "context"),
        ),
        (Mark("y", CRITERION.threshold, "the claim"),),
    )


def _height_chart(decoders: Sequence[Movement], laws: Sequence[LatentTree], steps: list[int]) -> Chart:
    """How far logits have moved, by the height of the common ancestor."""
    heights, curves = [common_heights(law).numpy() for law in laws], []
    for height in range(1, int(heights[0].max()) + 1):
        means = []
        for seen, table in zip(decoders, heights, strict=True):
            moved = seen.moved
            level = np.where(table > 0, moved, 0).sum(-1, keepdims=True) / (len(table) - 1)
            means.append((moved - level)[:, table == height].mean(-1))
        curves.append(Course(tuple(steps), np.stack(means)).curve(f"common ancestor at height {height}"))
    return Chart(
        "heights",
        "How far the decoder's attention moves, near and far",
        "The claim lets the logits of the nearest tokens rise first. Each query's mean is subtracted; mean and "
        "standard deviation over seeds.",
        "optimiser steps",
        "logit, moved since the start",
        tuple(curves),
    )


def _course(seen: Sequence[Movement], predicted: Sequence[PairTable], steps: Sequence[int]) -> Course:
    """The rank correlation at each moment but the first, where nothing has moved."""
    rows = [rank_correlation(entry.moved[1:], table) for entry, table in zip(seen, predicted, strict=True)]
    return Course(tuple(steps[1:]), np.stack(rows))
