"""Claim rhm.levels: whether a network in training follows exact inference on laws filtered at ever higher levels.

A network that knows no level, but guesses less and less, comes nearest to one filter after the other, too: its
predictions are mixtures of guessing and of what it predicts in the end. So a filter counts as passed only where a
network is nearer to it than every such mixture.

Axes: T snapshots, F filters, from tokens that are independent given the label to the law itself, N samples, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from joma.charts import Chart
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm import represented
from joma.claims.rhm.training import SETTINGS, trained
from joma.claims.workspace import Workspace
from joma.measure.latents.posteriors import AgainstPosterior, against_posterior
from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.theory.belief import posterior
from joma.threads import threads
from joma.train.decoder import seed_of
from joma.train.hierarchies import seeded_samples
from joma.train.run import Run

NUM_SAMPLES, NUM_ORDERS, NUM_WEIGHTS = 1000, 200, 101
MOST_CERTAIN = 0.99  # so that no label is excluded
FLAT = -1
"""The filter with which tokens are independent of each other given the label."""

CRITERION = Criterion(
    "how much nearer a network comes to a filter than the nearest mixture of guessing and its last prediction, as a "
    "share of the mixture's divergence, smallest over filters; at most 0 if it does not come nearest to them in order",
    ">=",
    0.1,
    "mixtures, which know no level, are at 0; a tenth is more than steps of a hundredth of their weights change",
)
WHY_EQUAL = "a network that is not nearest to the filters in their order counts as 0"


class Passed(NamedTuple):
    """A network at its snapshots against the posteriors of all filters.

    Args:
        errors: of every snapshot, for each filter.
        distances: divergence of every snapshot's predictions from each filter's posterior, nats.
        mixtures: that of the nearest mixture of guessing and the last snapshot's predictions.
    """

    errors: list[list[AgainstPosterior]]
    distances: Float[np.ndarray, "T F"]
    mixtures: Float[np.ndarray, " F"]

    @classmethod
    def of(cls, predictions: Sequence[Float[Tensor, "N C"]], posteriors: Sequence[Float[Tensor, "N C"]]) -> Passed:
        """Compare the logarithms of the probabilities of every snapshot with the posterior of every filter."""
        errors = [[against_posterior(predicted, exact) for exact in posteriors] for predicted in predictions]
        of_mixtures = _divergences(
            [[against_posterior(mixture, exact) for exact in posteriors] for mixture in mixtures(predictions[-1])]
        )
        return cls(errors, _divergences(errors), of_mixtures.min(0))

    @property
    def nearer(self) -> Float[np.ndarray, " F"]:
        """How much nearer the nearest snapshot is to each filter than the nearest mixture, as a share of the latter."""
        return 1 - self.distances.min(0) / np.maximum(self.mixtures, np.finfo(float).tiny)

    @property
    def order(self) -> float:
        """Spearman's correlation of filters with the snapshots nearest to them; 0 if one snapshot is nearest to all."""
        nearest = self.distances.argmin(0)
        return float(spearmanr(np.arange(len(nearest)), nearest).statistic) if np.ptp(nearest) else 0.0

    @property
    def score(self) -> float:
        """The deciding number; the law itself, which is no filter, counts for the order alone."""
        smallest = float(self.nearer[:-1].min())
        in_order = bool((np.diff(self.distances.argmin(0)) > 0).all())
        return smallest if in_order else min(smallest, 0.0)

    def score_by_chance(self, seed: int) -> float:
        """The mean score of the snapshots in random orders."""
        chance = np.random.default_rng(seed)
        return float(
            np.mean([self._replace(distances=chance.permutation(self.distances)).score for _ in range(NUM_ORDERS)])
        )


def mixtures(log_probabilities: Float[Tensor, "N C"]) -> list[Float[Tensor, "N C"]]:
    """Return arithmetic and geometric mixtures of guessing and a prediction, with the same weight for all samples."""
    weights = torch.linspace(0, 1, NUM_WEIGHTS, dtype=log_probabilities.dtype)
    guessing = 1 / log_probabilities.shape[-1]
    return [
        mixture
        for weight in weights
        for mixture in (
            ((1 - weight) * guessing + weight * log_probabilities.exp()).log(),
            (weight * log_probabilities).log_softmax(-1),
        )
    ]


def evaluate(workspace: Workspace) -> Agreement:
    """Compare a decoder at every snapshot with belief propagation on filtered laws."""
    laws, runs = trained(workspace)
    _, flat_runs = trained(workspace, "flat")
    seen, of_flat, of_mixtures = [], [], []
    for place, (law, run, flat) in enumerate(zip(laws, runs, flat_runs, strict=True)):
        workspace.progress("predictions against belief propagation", place, len(runs))
        samples = seeded_samples(law, NUM_SAMPLES, seed_of(run.recipe.seed, "levels"))
        filters = [*(filtered(law, level) for level in range(FLAT, law.depth - 1)), law]
        posteriors = [posterior(one, samples.tokens).labels for one in filters]
        seen.append(Passed.of(_predictions(run, samples.tokens), posteriors))
        of_flat.append(Passed.of(_predictions(flat, samples.tokens), posteriors))
        of_mixtures.append(Passed.of(guessing_less(posteriors[-1], len(run.snapshots())), posteriors))
    steps = runs[0].snapshots()
    trained_units, untrained_units = (
        [_represented(run, law, step) for run, law in zip(runs, laws, strict=True)] for step in (steps[-1], steps[0])
    )
    agreement = Agreement(
        CRITERION,
        Estimate.of([one.score for one in seen], why_equal=WHY_EQUAL),
        (
            Control(
                "guessing mixed with the label's posterior, the same for all samples",
                Estimate.of([one.score for one in of_mixtures], why_equal=WHY_EQUAL),
            ),
            Control(
                f"snapshots in random order (mean of {NUM_ORDERS})",
                Estimate.of([one.score_by_chance(seed) for seed, one in enumerate(seen)], why_equal=WHY_EQUAL),
            ),
            Control(
                "trained on a flat law, whose tokens depend on the label alone",
                Estimate.of([one.score for one in of_flat], why_equal=WHY_EQUAL),
            ),
        ),
        conclusion="",
        findings=(
            *_order_findings(seen, of_mixtures, of_flat),
            *_findings(seen, steps),
            _label_finding(seen),
            *represented.findings(trained_units, untrained_units),
        ),
        charts=(
            _chart("levels", "while it learns the law", seen, steps),
            _chart("flat", "while it learns the flat law", of_flat, steps),
            _accuracy_chart(seen, steps),
        ),
        notes=(
            str(SETTINGS[workspace.profile]),
            "Level 0 is that of the tuples of tokens. No level: tokens are independent of each other given the label.",
            f"{NUM_SAMPLES:,} new samples of the unfiltered law for each seed. Probes read the last position."
            + " Trees were not read off: scikit-bio is missing (the extra trees)." * (not trained_units[0].trees),
        ),
    )
    return replace(agreement, conclusion=_conclusion(agreement, seen))


@threads(1)
@torch.no_grad()
def _predictions(run: Run, tokens: Tensor) -> list[Float[Tensor, "N C"]]:
    """The logarithms of the label's probabilities at every snapshot."""
    return [run.decoder(step)(tokens, last_only=True).double().log_softmax(-1) for step in run.snapshots()]


def guessing_less(exact: Float[Tensor, "N C"], num: int) -> list[Float[Tensor, "N C"]]:
    """The predictions of a network that knows no level: guessing, mixed with more and more of the exact posterior."""
    return [((1 - weight) / exact.shape[-1] + weight * exact).log() for weight in np.linspace(0, MOST_CERTAIN, num)]


@threads(1)
def _represented(run: Run, law: RandomHierarchy, step: int) -> represented.Represented:
    samples = seeded_samples(law, NUM_SAMPLES, seed_of(run.recipe.seed, "levels"))
    return represented.represented(run.decoder(step), law, samples)


def _divergences(errors: list[list[AgainstPosterior]]) -> Float[np.ndarray, "_ F"]:
    return np.array([[entry.divergence_nats for entry in row] for row in errors])


def _name(place: int, num: int) -> str:
    return "the law itself" if place == num - 1 else f"filter above level {place - 1}" if place else "no level"


def _order_findings(seen: Sequence[Passed], mixed: Sequence[Passed], flat: Sequence[Passed]) -> tuple[Finding, ...]:
    few = "there are few orders of so few filters"
    return tuple(
        Finding(
            f"rank correlation of filters with the snapshots nearest to them, {name}",
            Estimate.of([one.order for one in part], why_equal=few),
            comment,
        )
        for name, part, comment in (
            ("networks", seen, "1 if they come nearest to one filter after the other"),
            ("guessing mixed with the posterior", mixed, "so that this order alone says nothing about levels"),
            ("networks on the flat law", flat, ""),
        )
    )


def _findings(seen: Sequence[Passed], steps: Sequence[int]) -> tuple[Finding, ...]:
    num, found = seen[0].distances.shape[1], []
    for place in range(num):
        name = _name(place, num)
        at = [steps[int(one.distances[:, place].argmin())] for one in seen]
        best = np.mean([one.errors[0][place].best_accuracy for one in seen])
        reached = np.mean([one.errors[-1][place].accuracy for one in seen])
        comment = f"best accuracy under it {best:.2f}, that of the network at the end {reached:.2f}"
        found += [
            Finding(
                f"{name}: step of the smallest divergence",
                Estimate.of(at, "steps", why_equal="read at snapshots only"),
                comment,
            ),
            Finding(
                f"{name}: smallest divergence",
                Estimate.of([one.distances[:, place].min() for one in seen], "nats"),
                f"{np.mean([one.distances[0, place] for one in seen]):.2f} untrained, "
                f"{np.mean([one.distances[-1, place] for one in seen]):.2f} at the end, "
                f"{np.mean([one.mixtures[place] for one in seen]):.2f} of the nearest mixture",
            ),
        ]
        if place < num - 1:
            nearer = Estimate.of([one.nearer[place] for one in seen])
            found.append(Finding(f"{name}: nearer than the nearest mixture, by a share of", nearer))
    return tuple(found)


def _label_finding(seen: Sequence[Passed]) -> Finding:
    """The error of the network's own prediction; those of lower latents are read off its layers."""
    lowest = np.mean([one.errors[-1][-1].lowest_error for one in seen])
    before = np.mean([one.errors[0][-1].error for one in seen])
    return Finding(
        "label: error",
        Estimate.of([one.errors[-1][-1].error for one in seen]),
        f"belief propagation {lowest:.2f}, untrained {before:.2f}",
    )


def _conclusion(agreement: Agreement, seen: Sequence[Passed]) -> str:
    times = 1 - np.mean([one.nearer[:-1] for one in seen], axis=0)
    order, mixed = (finding.estimate.mean for finding in agreement.findings[:2])
    figures = (
        f"The order in which the network comes nearest to inference with ever more levels correlates with that of the "
        f"levels at {order:.2f}, but that of guessing less and less does so at {mixed:.2f}. The network's divergence "
        f"from these stages is {times.min():.2f} to {times.max():.2f} times that of the nearest such mixture. "
    )
    said = {
        Verdict.HOLDS: "So levels are learned from the tokens up.",
        Verdict.UNDECIDED: "Whether levels are learned one after the other is not decided.",
        Verdict.FAILS: "That is not enough to say that levels are learned one after the other.",
    }
    return figures + said[agreement.verdict]


def _chart(id: str, when: str, seen: Sequence[Passed], steps: Sequence[int]) -> Chart:
    values = np.stack([one.distances for one in seen])
    num = values.shape[-1]
    return Chart(
        id,
        f"Distance of a decoder from inference with more and more levels, {when}",
        "Divergence of its predictions from the posterior of the label in laws whose correlations are cut above a "
        "level, on samples of the unfiltered law. Mean, lowest and highest seed.",
        "optimiser steps",
        "divergence (nats)",
        tuple(
            curve_of(_name(place, num), steps, values[..., place], role="measured", group=_name(place, num))
            for place in range(num)
        ),
    )


def _accuracy_chart(seen: Sequence[Passed], steps: Sequence[int]) -> Chart:
    reached = np.array([[row[-1].accuracy for row in one.errors] for one in seen])
    num = len(seen[0].mixtures)
    best = [
        (_name(place, num), np.array([[one.errors[0][place].best_accuracy] * len(steps) for one in seen]))
        for place in range(num)
    ]
    return Chart(
        "accuracy",
        "Accuracy of the decoder on the label",
        "With the expected accuracy of the best guess in each filtered law, if the sample came from it.",
        "optimiser steps",
        "accuracy",
        (
            curve_of("decoder", steps, reached, role="measured", group="decoder"),
            *(curve_of(f"{name}, best", steps, values, role="predicted", group=name) for name, values in best),
        ),
    )
