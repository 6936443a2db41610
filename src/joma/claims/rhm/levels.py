"""Claim rhm.levels: whether a network in training follows exact inference on laws filtered at ever higher levels.

Axes: T snapshots, F filters, from tokens that are independent given the label to the law itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from joma.charts import Chart
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm import represented
from joma.claims.rhm.training import SIZES, trained
from joma.claims.workspace import Workspace
from joma.measure.latents.posteriors import AgainstPosterior, against_posterior
from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.belief import posterior
from joma.threads import threads
from joma.train.decoder import seed_of
from joma.train.hierarchies import seeded_samples
from joma.train.run import Run

NUM_SAMPLES, NUM_ORDERS = 1000, 200
FLAT = -1
"""The filter with which tokens are independent of each other given the label."""

CRITERION = Criterion(
    "rank correlation of the filters, from the lowest level up, with the steps at which the network is nearest to them",
    ">=",
    0.8,
    "with four filters 0.8 is one exchange of neighbours",
)

Errors = list[list[AgainstPosterior]]
"""The network of every snapshot against the posterior of every filter."""


def evaluate(workspace: Workspace) -> Agreement:
    """Compare a decoder at every snapshot with belief propagation on filtered laws."""
    laws, runs = trained(workspace)
    _, flat_runs = trained(workspace, "flat")
    seen, of_flat = [], []
    for place, (law, run, flat) in enumerate(zip(laws, runs, flat_runs, strict=True)):
        workspace.progress("predictions against belief propagation", place, len(runs))
        seen.append(_errors(run, law))
        of_flat.append(_errors(flat, law))
    distances, flat_distances = ([_divergences(errors) for errors in part] for part in (seen, of_flat))
    steps = runs[0].snapshots()
    trained_units, untrained_units = (
        [_represented(run, law, step) for run, law in zip(runs, laws, strict=True)] for step in (steps[-1], steps[0])
    )
    agreement = Agreement(
        CRITERION,
        Estimate.of(map(_order, distances), why_equal="there are few orders of so few filters"),
        (
            Control(
                f"snapshots in random order (mean of {NUM_ORDERS})",
                Estimate.of(_order_by_chance(rows, seed) for seed, rows in enumerate(distances)),
            ),
            Control(
                "trained on a flat law, whose tokens depend on the label alone",
                Estimate.of(map(_order, flat_distances), why_equal="there are few orders of so few filters"),
            ),
        ),
        conclusion="",
        findings=(*_findings(seen, distances, steps), *represented.findings(trained_units, untrained_units)),
        charts=(
            _chart("levels", "while it learns the law", distances, steps),
            _chart("flat", "while it learns the flat law", flat_distances, steps),
            _accuracy_chart(seen, steps),
        ),
        notes=(
            str(SIZES[workspace.profile]),
            f"{NUM_SAMPLES:,} new samples of the unfiltered law for each seed. Probes read the last position."
            + " Trees were not read off: scikit-bio is missing (the extra trees)." * (not trained_units[0].trees),
        ),
    )
    return replace(agreement, conclusion=_conclusion(agreement, distances))


@threads(1)
@torch.no_grad()
def _errors(run: Run, law: RandomHierarchy) -> Errors:
    samples = seeded_samples(law, NUM_SAMPLES, seed_of(run.recipe.seed, "levels"))
    filters = [*(filtered(law, level) for level in range(FLAT, law.depth - 1)), law]
    posteriors = [posterior(one, samples.tokens).labels for one in filters]
    found = []
    for step in run.snapshots():
        predicted = run.decoder(step)(samples.tokens, last_only=True).double().log_softmax(-1)
        found.append([against_posterior(predicted, exact) for exact in posteriors])
    return found


@threads(1)
def _represented(run: Run, law: RandomHierarchy, step: int) -> represented.Represented:
    samples = seeded_samples(law, NUM_SAMPLES, seed_of(run.recipe.seed, "levels"))
    return represented.represented(run.decoder(step), law, samples)


def _divergences(errors: Errors) -> Float[np.ndarray, "T F"]:
    """The divergence of the network's predictions from each filter's posterior, nats."""
    return np.array([[entry.divergence_nats for entry in row] for row in errors])


def _order(distances: Float[np.ndarray, "T F"]) -> float:
    """Spearman's correlation of filters with the snapshots nearest to them; 0 if one snapshot is nearest to all."""
    from scipy.stats import rankdata

    nearest = rankdata(distances.argmin(0))
    if np.ptp(nearest) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(nearest)), nearest)[0, 1])


def _order_by_chance(distances: Float[np.ndarray, "T F"], seed: int) -> float:
    chance = np.random.default_rng(seed)
    return float(np.mean([_order(chance.permutation(distances)) for _ in range(NUM_ORDERS)]))


def _name(place: int, num: int) -> str:
    return "the law itself" if place == num - 1 else f"filter above level {place - 1}" if place else "no level"


def _findings(seen: Sequence[Errors], distances: Sequence[np.ndarray], steps: Sequence[int]) -> tuple[Finding, ...]:
    num, found = distances[0].shape[1], []
    for place in range(num):
        name = _name(place, num)
        nearest = [int(rows[:, place].argmin()) for rows in distances]
        at = Estimate.of([steps[idx] for idx in nearest], "steps", why_equal="read at snapshots only")
        best = np.mean([errors[0][place].best_accuracy for errors in seen])
        reached = np.mean([errors[-1][place].accuracy for errors in seen])
        comment = f"best accuracy under it {best:.2f}, that of the network at the end {reached:.2f}"
        found += [
            Finding(f"{name}: step of the smallest divergence", at, comment),
            Finding(
                f"{name}: smallest divergence",
                Estimate.of([rows[:, place].min() for rows in distances], "nats"),
                f"{np.mean([rows[0, place] for rows in distances]):.2f} untrained, "
                f"{np.mean([rows[-1, place] for rows in distances]):.2f} at the end",
            ),
        ]
    return tuple(found)


def _conclusion(agreement: Agreement, distances: Sequence[np.ndarray]) -> str:
    nearest = [np.mean([rows[:, place].min() for rows in distances]) for place in range(distances[0].shape[1])]
    flat = agreement.controls[1].estimate.mean
    figures = (
        f"The order in which the network comes nearest to inference with ever more levels correlates with that of the "
        f"levels at {agreement.measured.mean:.2f}, for a network that learns a flat law at {flat:.2f}. It passes these "
        f"stages at {min(nearest):.2f} to {max(nearest):.2f} nats from exact inference. "
    )
    met = CRITERION.met_by(agreement.measured)
    if met:
        return figures + "So levels are learned from the tokens up."
    return figures + ("The order is not decided." if met is None else "So levels are not learned one after the other.")


def _chart(id: str, when: str, distances: Sequence[np.ndarray], steps: Sequence[int]) -> Chart:
    values = np.stack(distances)
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


def _accuracy_chart(seen: Sequence[Errors], steps: Sequence[int]) -> Chart:
    reached = np.array([[row[-1].accuracy for row in errors] for errors in seen])
    num = len(seen[0][0])
    best = [
        (_name(place, num), np.array([[errors[0][place].best_accuracy] * len(steps) for errors in seen]))
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
