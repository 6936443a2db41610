"""hierarchy.expressible: weights, written down and not trained, with which every latent is one hidden unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from joma.charts import Chart, Role
from joma.claims.hierarchy.levels import accuracy, curve_of, score_of
from joma.claims.hierarchy.table1 import CORNER, NUM_SEEDS, SIZES, every_input, recipe
from joma.claims.workspace import Workspace
from joma.expressive.counts import count_small
from joma.expressive.separable import one_layer_fewer
from joma.expressive.weights import Needs, check_expressive, expressive_decoder, needs
from joma.problem.combinatorial import Combinatorial
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.decoder import Decoder
from joma.train.latents import level_by_level, untrained
from joma.train.run import Run

OTHER = 1000  # seeds of the other hierarchies, which no seed of the first ones reaches
SMALL = (5, 5, 5)
"""Tokens, latents and classes of the hierarchies that are gone through exhaustively, pairs throughout."""

CRITERION = Criterion(
    "correlation of the latents with hidden units of their layer, one-to-one, over all classes, mean over levels",
    ">=",
    0.999,
    "it should be 1; float32 keeps sequences' means to 1e-6, and a single wrong class would cost more than 0.001",
)


@dataclass(frozen=True)
class Written:
    """One hierarchy with the decoder written for it and others.

    Args:
        law: the hierarchy.
        size: of the decoder.
        own, other: level by level, the scores of its units with its latents, and with those of another hierarchy.
        accuracy, worst_unit_error: of the own decoder.
    """

    law: Combinatorial
    size: Needs
    own: list[float]
    other: list[float]
    accuracy: float
    worst_unit_error: float


def evaluate(workspace: Workspace) -> Agreement:
    """Write decoders down, look at them, and hold beside them what training finds in the same hierarchies."""
    seeds = workspace.seeds(NUM_SEEDS)
    written = [_written(seed) for seed in seeds]
    sizes = SIZES[workspace.profile]
    runs = workspace.train_on(
        [(recipe(part.law, sizes, seed), part.law) for part, seed in zip(written, seeds, strict=True)]
    )
    trained = [_scores(run.decoder(), part.law, part.law) for run, part in zip(runs, written, strict=True)]
    before = [_scores(untrained(run), part.law, part.law) for run, part in zip(runs, written, strict=True)]
    return Agreement(
        CRITERION,
        Estimate.of([np.mean(part.own) for part in written]),
        (
            Control("latents of another hierarchy", Estimate.of([np.mean(part.other) for part in written])),
            Control("untrained network with more units", Estimate.of([np.mean(scores) for scores in before])),
        ),
        conclusion=_conclusion(written, trained, before),
        findings=_findings(written, runs, trained, before),
        charts=(_chart(written, trained, before),),
        notes=(f"Hierarchies: {CORNER}, drawn so that no two classes show the same tokens.",),
    )


def _written(seed: int) -> Written:
    law, another = (CORNER.law(number, distinct=True) for number in (seed, OTHER + seed))
    decoder = expressive_decoder(law)
    checked, size = check_expressive(decoder, law), needs(law)
    return Written(
        law,
        size,
        own=_scores(decoder, law, law, size.num_front_layers),
        other=_scores(decoder, law, another, size.num_front_layers),
        accuracy=checked.accuracy,
        worst_unit_error=checked.worst_unit_error,
    )


def _scores(decoder: Decoder, shown: Combinatorial, sought: Combinatorial, first_layer: int = 0) -> list[float]:
    """One-to-one scores over all classes, level by level.

    Args:
        decoder: whose units.
        shown: the hierarchy whose inputs it sees.
        sought: the one whose latents are looked for.
        first_layer: where level 0 is looked for.
    """
    tokens, _, labels = every_input(shown)
    presence = every_input(sought)[1]
    found = level_by_level(decoder, tokens, presence, groups=labels, first_layer=first_layer)
    return [score_of(entry.one_to_one) for entry in found]


def _findings(
    written: Sequence[Written], runs: Sequence[Run], trained: Sequence[list[float]], before: Sequence[list[float]]
) -> tuple[Finding, ...]:
    gaps = [np.mean(part.own) - np.mean(scores) for part, scores in zip(written, trained, strict=True)]
    fewer = [one_layer_fewer(part.law) for part in written]
    small = count_small(SMALL)
    clear = small.hierarchies - small.ambiguous
    return (
        Finding("accuracy", Estimate.of([part.accuracy for part in written]), "share of all classes"),
        Finding("worst error of a unit", Estimate.of([part.worst_unit_error for part in written]), "from 0 or 1"),
        Finding("layers needed", Estimate.of([part.size.num_layers for part in written])),
        Finding("width needed", Estimate.of([part.size.width for part in written])),
        Finding(
            "hidden units needed", Estimate.of([part.size.feed_forward for part in written]), "the most of a layer"
        ),
        Finding("heads needed", Estimate.of([part.size.num_heads for part in written])),
        Finding("one layer fewer would do", Estimate.of([part.possible for part in fewer]), "share; uniform attention"),
        Finding(
            f"{small.shape}, all {clear:,} unambiguous hierarchies: one layer is too few",
            Estimate.of([small.front_layer / clear]),
            "share, by exhaustive search; levels are one",
        ),
        Finding("trained on the same hierarchy: accuracy", Estimate.of([accuracy(run) for run in runs])),
        Finding("trained on the same hierarchy: score", Estimate.of([np.mean(scores) for scores in trained])),
        Finding("gap: what can be expressed minus what training finds", Estimate.of(gaps)),
    )


def _conclusion(written: Sequence[Written], trained: Sequence[list[float]], before: Sequence[list[float]]) -> str:
    worst = max(part.worst_unit_error for part in written)
    front = sum(part.size.num_front_layers for part in written)
    return (
        f"With the weights written down, every latent is a hidden unit of its own layer, off by at most {worst:.0e}, "
        f"and {min(part.accuracy for part in written):.0%} of the classes are right; {front} of these {len(written)} "
        "hierarchies need a layer in front for that. In the same hierarchies the units of a trained network, which are "
        f"many more, correlate with the latents at {np.mean(trained):.2f} after training and at {np.mean(before):.2f} "
        "before it. How much of such a score is luck is another claim (hierarchy.table1)."
    )


def _chart(written: Sequence[Written], trained: Sequence[list[float]], before: Sequence[list[float]]) -> Chart:
    kinds: tuple[tuple[str, Sequence[list[float]], Role], ...] = (
        ("weights written down", [part.own for part in written], "predicted"),
        ("trained", trained, "measured"),
        ("the same before training", before, "control"),
        ("latents of another hierarchy", [part.other for part in written], "context"),
    )
    levels = range(len(written[0].law.level_sizes))
    curves = [curve_of(label, levels, np.array(scores), role) for label, scores, role in kinds]
    return Chart(
        "gap",
        "What can be expressed, and what training finds",
        "The distance of the trained network's line from 1 is the gap; how little of the line training has lifted "
        "shows beside the untrained one. Bands: lowest to highest seed.",
        "level of latents (0: just above the tokens)",
        "correlation with a hidden unit (one-to-one)",
        tuple(curves),
    )
