"""Claim text.depth: whether attention becomes sparse and then dense at every depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from joma.charts import Chart, Curve
from joma.claims.text.networks import Variant, study, trained, unigram_nats
from joma.claims.text.settings import entropy_of, findings, first_half, point_of, read, rebounds
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.points import LOSS, Point
from joma.measure.curves.rebound import Rebound
from joma.records import Agreement, Control, Criterion, Estimate, Finding

DEPTHS = {Profile.QUICK: (1, 2, 3, 5), Profile.FULL: (1, 2, 3, 5, 10)}
NUM_ORDERS = 50

CRITERION = Criterion(
    "smaller of fall and rise of the mean attention entropy, at the depth where it is smallest, nats",
    ">=",
    0.05,
    "as for text.sparse_then_dense: 2 % of the entropy of uniform attention over these keys",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Train networks of several depths, and read fall and rise of attention entropy at each."""
    tokens, depths = workspace.tokens(), DEPTHS[workspace.profile]
    unigram = unigram_nats(tokens, tokens.held_out)
    networks = trained(workspace, [Variant(num_layers=depth) for depth in depths])
    settings = [point_of(_named(depth), runs, unigram) for depth, runs in zip(depths, networks, strict=True)]
    halves = [first_half(setting, unigram) for setting in settings]
    measured = Estimate.of(_smallest([rebounds(setting) for setting in settings]), "nats")
    found = (
        *(finding for setting in settings for finding in findings(setting)),
        Finding("the same at half of the steps", Estimate.of(_smallest([rebounds(one) for one in halves]), "nats")),
        *(finding for setting in settings[1:] for finding in _by_layer(setting)),
    )
    return Agreement(
        CRITERION,
        measured,
        (Control(f"probes in random order (mean of {NUM_ORDERS})", _at_random(settings)),),
        conclusion=_conclusion(settings, depths),
        findings=found,
        charts=_charts(settings, depths),
        notes=(
            f"{study(workspace).num_steps:,} steps of Adam at {study(workspace).learning_rate:g} at every depth, read "
            "again at half of that. Entropy is the mean over layers.",
            "In 3,000 steps the lowest layer of deep networks still does not return; those above it return by up to a "
            "tenth of a nat in the mean: docs/findings.md, Whether and when attention comes back.",
        ),
    )


def _named(depth: int) -> str:
    return f"{depth} layer{'' if depth == 1 else 's'}"


def _smallest(by_setting: Sequence[Sequence[Rebound]]) -> list[float]:
    """The smallest of the settings' sizes, by seed."""
    return np.min([[one.size for one in found] for found in by_setting], axis=0).tolist()


def _at_random(settings: Sequence[Point]) -> Estimate:
    courses = [read(setting, entropy_of(setting)) for setting in settings]
    found = [
        _smallest([course.in_random_order(repetition).rebounds() for course in courses])
        for repetition in range(NUM_ORDERS)
    ]
    return Estimate.of(np.mean(found, axis=0), "nats")


def _by_layer(setting: Point) -> list[Finding]:
    return [
        Finding(
            f"{setting.settings['name']}, layer {number}: smaller of fall and rise",
            Estimate.of((one.size for one in read(setting, layer).rebounds()), "nats"),
        )
        for number, layer in setting.layers(ENTROPY).items()
    ]


def _means(settings: Sequence[Point], side: str) -> list[float]:
    return [float(np.mean([getattr(one, side) for one in rebounds(setting)])) for setting in settings]


def _conclusion(settings: Sequence[Point], depths: Sequence[int]) -> str:
    moved = zip(depths, _means(settings, "fall"), _means(settings, "rise"), strict=True)
    parts = [f"{fall:.2f} and {max(0.0, rise):.2f} nats at {_named(depth)}" for depth, fall, rise in moved]
    deepest = settings[-1]
    sizes = [
        np.mean([one.size for one in read(deepest, layer).rebounds()]) for layer in deepest.layers(ENTROPY).values()
    ]
    returning = sum(size >= CRITERION.threshold for size in sizes)
    return (
        f"Attention entropy falls and then comes back by {', '.join(parts)}. In the deepest network it does so in "
        f"{returning} of {len(sizes)} layers."
    )


def _charts(settings: Sequence[Point], depths: Sequence[int]) -> tuple[Chart, ...]:
    deepest = settings[-1]
    return (
        Chart(
            "entropy",
            "Attention entropy of networks of several depths",
            "Mean over layers. Bands: one standard deviation over seeds.",
            "optimiser steps",
            "mean attention entropy (nats)",
            tuple(entropy_of(setting).curve(setting.settings["name"]) for setting in settings),
        ),
        Chart(
            "layers",
            f"Attention entropy of each layer, {deepest.settings['name']}",
            "Bands: one standard deviation over seeds.",
            "optimiser steps",
            "mean attention entropy (nats)",
            tuple(layer.curve(f"layer {number}") for number, layer in deepest.layers(ENTROPY).items()),
        ),
        Chart(
            "depth",
            "Fall and return by depth",
            "Means over seeds of how far entropy falls and comes back.",
            "layers",
            "nats",
            tuple(
                Curve(label, tuple(map(float, depths)), tuple(_means(settings, side)))
                for side, label in (("fall", "fall"), ("rise", "rise after it"))
            ),
        ),
        Chart(
            "loss",
            "Validation loss of networks of several depths",
            "Bands: one standard deviation over seeds.",
            "optimiser steps",
            "loss (nats per token)",
            tuple(setting.courses[LOSS, None].curve(setting.settings["name"]) for setting in settings),
        ),
    )
