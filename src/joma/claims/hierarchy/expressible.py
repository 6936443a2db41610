"""Claim hierarchy.expressible: constructed weights with which every latent is exactly one hidden unit."""

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

ALL_RIGHT = "as many classes are right in each hierarchy"
EXACT, COUNT = "each latent equals a unit, up to rounding", "a whole number"
OTHER_SEEDS = 1000
"""Added to a seed for the hierarchy of the control."""
SMALL = (5, 5, 5)
"""Numbers of tokens, latents and classes of the hierarchies that are enumerated exhaustively, with pairs as members."""

CRITERION = Criterion(
    "correlation of the latents with hidden units of their layer, one-to-one, over all classes, mean over levels",
    ">=",
    0.999,
    "the exact value is 1; float32 means over a sequence are exact to 1e-6, and one wrong class costs more than 0.001",
)


@dataclass(frozen=True)
class Constructed:
    """One hierarchy and its constructed decoder.

    Args:
        law: the hierarchy.
        size: the size of the decoder.
        own, other: scores by level, with its own latents and with those of another hierarchy.
        accuracy, worst_unit_error: as in ``joma.expressive.weights.Expressed``.
    """

    law: Combinatorial
    size: Needs
    own: list[float]
    other: list[float]
    accuracy: float
    worst_unit_error: float


def evaluate(workspace: Workspace) -> Agreement:
    """Score constructed decoders, and networks that were trained on the same hierarchies."""
    seeds, sizes = workspace.seeds(NUM_SEEDS), SIZES[workspace.profile]
    built = [_constructed(seed) for seed in seeds]
    laws = [part.law for part in built]
    runs = workspace.train_on([(recipe(law, sizes, seed), law) for law, seed in zip(laws, seeds, strict=True)])
    trained = [_scores(run.decoder(), law, law) for run, law in zip(runs, laws, strict=True)]
    before = [_scores(untrained(run), law, law) for run, law in zip(runs, laws, strict=True)]
    own = Estimate.of([np.mean(part.own) for part in built], why_equal=EXACT)
    return Agreement(
        CRITERION,
        own,
        (
            Control("latents of another hierarchy", Estimate.of([np.mean(part.other) for part in built])),
            Control("untrained network with more units", Estimate.of([np.mean(scores) for scores in before])),
        ),
        conclusion=_conclusion(own, built, trained, before),
        findings=_findings(built, runs, trained),
        charts=(_chart(built, trained, before),),
        notes=(f"Hierarchies: {CORNER}, drawn so that no two classes show the same tokens.",),
    )


def _constructed(seed: int) -> Constructed:
    law, another = (CORNER.law(number, distinct=True) for number in (seed, OTHER_SEEDS + seed))
    decoder, size = expressive_decoder(law), needs(law)
    own, other = (_scores(decoder, law, sought, size.num_front_layers) for sought in (law, another))
    checked = check_expressive(decoder, law)
    return Constructed(law, size, own, other, checked.accuracy, checked.worst_unit_error)


def _scores(decoder: Decoder, shown: Combinatorial, sought: Combinatorial, first_layer: int = 0) -> list[float]:
    """One-to-one scores over all classes, by level.

    Args:
        decoder: the network.
        shown: the hierarchy that its inputs are from.
        sought: the hierarchy that the latents are from.
        first_layer: the layer of level 0.
    """
    tokens, _, labels = every_input(shown)
    found = level_by_level(decoder, tokens, every_input(sought)[1], groups=labels, first_layer=first_layer)
    return [score_of(entry.one_to_one) for entry in found]


def _findings(built: Sequence[Constructed], runs: Sequence[Run], trained: Sequence[list[float]]) -> tuple[Finding, ...]:
    gaps = [np.mean(part.own) - np.mean(scores) for part, scores in zip(built, trained, strict=True)]
    fewer = [one_layer_fewer(part.law) for part in built]
    small = count_small(SMALL)
    accuracies = [part.accuracy for part in built]
    clear = small.hierarchies - small.ambiguous
    return (
        Finding("accuracy", Estimate.of(accuracies, why_equal=ALL_RIGHT), "share of all classes"),
        Finding(
            "worst error of a unit",
            Estimate.of([part.worst_unit_error for part in built], "", "lognormal"),
            "from 0 or 1",
        ),
        Finding("layers needed", Estimate.of([part.size.num_layers for part in built], why_equal=COUNT)),
        Finding("width needed", Estimate.of([part.size.width for part in built])),
        Finding("hidden units needed", Estimate.of([part.size.hidden for part in built]), "in the widest layer"),
        Finding("heads needed", Estimate.of([part.size.num_heads for part in built], why_equal=COUNT)),
        Finding(
            "one layer fewer suffices",
            Estimate.of([part.possible for part in fewer], "", "binary"),
            "uniform attention",
        ),
        Finding(
            f"{small.shape}, all {clear:,} unambiguous hierarchies: one layer is too few",
            Estimate.of([small.front_layer / clear], "", "constant"),
            "share, by exhaustive search; one level of latents",
        ),
        Finding("trained on the same hierarchy: accuracy", Estimate.of([accuracy(run) for run in runs])),
        Finding("trained on the same hierarchy: score", Estimate.of([np.mean(scores) for scores in trained])),
        Finding("gap: score of the constructed weights minus score of the trained network", Estimate.of(gaps)),
    )


def _conclusion(
    own: Estimate, built: Sequence[Constructed], trained: Sequence[list[float]], before: Sequence[list[float]]
) -> str:
    met = CRITERION.met_by(own)
    equals = "equals a hidden unit of its own layer to within" if met else "differs from its own hidden unit by up to"
    worst = max(part.worst_unit_error for part in built)
    front = sum(part.size.num_front_layers for part in built)
    return (
        f"With the constructed weights, every latent {equals} {worst:.0e}, and "
        f"{min(part.accuracy for part in built):.0%} of the classes are predicted correctly; {front} of the "
        f"{len(built)} hierarchies need an additional first layer for that. A trained network has many more units; on "
        f"the same hierarchies they correlate with the latents at {np.mean(trained):.2f} after training and at "
        f"{np.mean(before):.2f} before it. How much of such a score is chance is another claim (hierarchy.table1)."
    )


def _chart(built: Sequence[Constructed], trained: Sequence[list[float]], before: Sequence[list[float]]) -> Chart:
    kinds: tuple[tuple[str, Sequence[list[float]], Role], ...] = (
        ("constructed weights", [part.own for part in built], "predicted"),
        ("trained", trained, "measured"),
        ("the same before training", before, "control"),
        ("latents of another hierarchy", [part.other for part in built], "context"),
    )
    levels = range(len(built[0].law.level_sizes))
    curves = [curve_of(label, levels, np.array(scores), role) for label, scores, role in kinds]
    return Chart(
        "gap",
        "What can be expressed, and what training finds",
        "The distance of the trained network's line from 1 is the gap; its distance from the untrained network's line "
        "is what training has added. Bands: lowest to highest seed.",
        "level of latents (0: just above the tokens)",
        "correlation with a hidden unit (one-to-one)",
        tuple(curves),
    )
