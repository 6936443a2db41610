"""Claim text.learning_rate: whether the loss is best at the learning rates at which attention comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata

from joma.charts import Chart, Curve
from joma.claims.text.networks import Variant, study, trained, unigram_nats
from joma.claims.text.settings import entropy_of, findings, first_half, last_losses, point_of, rebounds
from joma.claims.workspace import Profile, Workspace
from joma.correlations import correlation
from joma.measure.curves.points import LOSS, Point
from joma.records import Agreement, Control, Criterion, Estimate, Finding

RATES = {
    Profile.QUICK: (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    Profile.FULL: (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
}
NUM_LAYERS = {Profile.QUICK: 1, Profile.FULL: 5}
NUM_ORDERS = 50

CRITERION = Criterion(
    "rank correlation over learning rates between the last validation loss and how far attention comes back",
    "<=",
    -0.5,
    "half of a perfect order, which is −1; with the learning rates in random order it is 0 on average",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Train at several learning rates, and compare the last loss with the rise of attention entropy, seed by seed."""
    tokens, rates = workspace.tokens(), RATES[workspace.profile]
    variants = [Variant(learning_rate=rate, num_layers=NUM_LAYERS[workspace.profile]) for rate in rates]
    unigram = unigram_nats(tokens, tokens.held_out)
    settings = [
        point_of(f"learning rate {rate:g}", runs, unigram)
        for rate, runs in zip(rates, trained(workspace, variants), strict=True)
    ]
    halves = [first_half(setting, unigram) for setting in settings]
    measured = Estimate.of(_correlations(_losses(settings), _rises(settings)))
    best = [int(np.argmin(losses)) for losses in _losses(settings)]
    found = (
        *(finding for setting in settings for finding in findings(setting)),
        Finding("the same at half of the steps", Estimate.of(_correlations(_losses(halves), _rises(halves)))),
        Finding(
            "between the last loss and how far attention falls",
            Estimate.of(_correlations(_losses(settings), _falls(settings))),
        ),
        Finding(
            "learning rate of the lowest loss",
            Estimate.of((rates[at] for at in best), why_equal="one of the learning rates that were tried"),
        ),
        Finding("loss where attention comes back farthest, above the lowest", _regret(settings)),
    )
    return Agreement(
        CRITERION,
        measured,
        (Control(f"learning rates in random order (mean of {NUM_ORDERS})", _at_random(settings)),),
        conclusion=_conclusion(measured, settings, rates),
        findings=found,
        charts=_charts(settings, rates),
        notes=(
            f"{study(workspace).num_steps:,} steps of Adam, {NUM_LAYERS[workspace.profile]} layers; read again at half "
            "of that. At a fixed number of steps a larger learning rate is also a longer training.",
            "In longer training the lowest loss and the farthest return come apart: docs/findings.md, Whether and when "
            "attention comes back.",
        ),
    )


def _losses(settings: Sequence[Point]) -> np.ndarray:
    """(seeds, learning rates)."""
    return np.array([last_losses(setting) for setting in settings]).T


def _rises(settings: Sequence[Point]) -> np.ndarray:
    return np.array([[one.rise for one in rebounds(setting)] for setting in settings]).T


def _falls(settings: Sequence[Point]) -> np.ndarray:
    return np.array([[one.fall for one in rebounds(setting)] for setting in settings]).T


def _correlations(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Spearman's rank correlation of each row; 0 where all numbers of a row are equal."""
    ranks = (torch.from_numpy(rankdata(values, axis=1)) for values in (first, second))
    return correlation(*ranks).tolist()


def _at_random(settings: Sequence[Point]) -> Estimate:
    losses, rises = _losses(settings), _rises(settings)
    found = [
        _correlations(losses, np.random.default_rng(repetition).permuted(rises, axis=1))
        for repetition in range(NUM_ORDERS)
    ]
    return Estimate.of(np.mean(found, axis=0))


def _regret(settings: Sequence[Point]) -> Estimate:
    """By how much the loss of the setting with the largest rise is above the lowest, by seed."""
    pairs = zip(_losses(settings), _rises(settings).argmax(axis=1), strict=True)
    return Estimate.of((float(losses[at] - losses.min()) for losses, at in pairs), "nats", why_equal="0 at the best")


def _conclusion(measured: Estimate, settings: Sequence[Point], rates: Sequence[float]) -> str:
    losses, rises = _losses(settings).mean(axis=0), _rises(settings).mean(axis=0)
    best, farthest = int(losses.argmin()), int(rises.argmax())
    where = "the same" if best == farthest else f"at {rates[farthest]:g}"
    return (
        f"The validation loss is lowest at a learning rate of {rates[best]:g} ({losses[best]:.2f} nats), where "
        f"attention comes back by {max(0.0, rises[best]):.2f} nats; it comes back farthest {where} "
        f"({max(0.0, rises[farthest]):.2f} nats). Over all learning rates, loss and return have a rank correlation of "
        f"{measured.mean:.2f}."
    )


def _charts(settings: Sequence[Point], rates: Sequence[float]) -> tuple[Chart, ...]:
    losses, rises = _losses(settings).mean(axis=0), _rises(settings).mean(axis=0)
    return (
        Chart(
            "entropy",
            "Attention entropy at several learning rates",
            "Mean over layers. Bands: one standard deviation over seeds.",
            "optimiser steps",
            "mean attention entropy (nats)",
            tuple(entropy_of(setting).curve(setting.settings["name"]) for setting in settings),
        ),
        Chart(
            "return",
            "How far attention comes back, and the last validation loss",
            "One dot for each learning rate, means over seeds. The claim expects the lowest loss where attention comes "
            "back farthest.",
            "rise of attention entropy after its fall (nats)",
            "last validation loss (nats)",
            tuple(
                Curve(f"{rate:g}", (float(rise),), (float(loss),), joined=False)
                for rate, rise, loss in zip(rates, rises, losses, strict=True)
            ),
        ),
        Chart(
            "loss",
            "Validation loss at several learning rates",
            "Bands: one standard deviation over seeds.",
            "optimiser steps",
            "loss (nats per token)",
            tuple(setting.courses[LOSS, None].curve(setting.settings["name"]) for setting in settings),
        ),
    )
