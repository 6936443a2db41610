"""Transformers trained on the rows of a table: their surprise, and whether attention finds the tree's edges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from joma.claims.anomaly.tables import Case, exchanged
from joma.measure.trees.coding import coding_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.roc import of_one
from joma.train.rows import RowDecoder, RowSettings, train_rows

HALF = 0.5
"""Share of the fall of the loss at which the order of learning is read, as in hierarchy.order."""

_SHOWN = 500  # rows on which attention and loss are measured


@dataclass(frozen=True)
class Learned:
    """A Transformer's results on one table.

    Args:
        auroc: of its surprise.
        steps: at which attention was measured.
        edges: AUROC of the tree's edges among all pairs of columns by attention, at each step.
        order: Spearman correlation, over pairs of columns, of mutual information with the growth of attention when the
            loss has made half of its fall.
        loss: mean surprise of held-out normal rows, at each step.
    """

    auroc: float
    steps: tuple[int, ...]
    edges: tuple[float, ...]
    order: float
    loss: tuple[float, ...]


def learned(case: Case, settings: RowSettings, *, look_every: int, is_control: bool = False) -> Learned:
    """Train a Transformer on the rows to learn from, or, as a control, on the same with columns exchanged.

    Pairs of columns are those in which the earlier one is not just before the later one (``RowDecoder.attention``);
    attention counts relative to uniform attention over the columns before.
    """
    coding = coding_of(case.train)
    codes = coding.codes(case.train)
    information = mutual_information(PairCounts(codes, coding.sizes).counts(), coding.sizes)
    if is_control:
        codes = coding.codes(exchanged(case.train, settings.seed))
    test = coding.codes(case.test)
    normal = test[~case.is_anomaly][:_SHOWN]
    attention: list[Float[np.ndarray, "n n"]] = []
    losses: list[float] = []
    steps = [*range(0, settings.num_steps, look_every), settings.num_steps]

    def look(step: int, decoder: RowDecoder) -> None:
        if step in steps:
            attention.append(decoder.attention(normal))
            losses.append(float(decoder.surprise(normal).sum(1).mean()))

    decoder = train_rows(codes, coding.sizes, settings, look)
    num = len(information)
    pairs = np.tril(np.ones((num, num), dtype=bool), -2)
    is_edge = np.zeros((num, num), dtype=bool)
    one, other = np.sort(chow_liu(information), axis=1).T
    is_edge[other, one] = True
    relative = [weights * np.arange(num)[:, None] for weights in attention]
    return Learned(
        of_one(decoder.surprise(test).sum(1), case.is_anomaly),
        tuple(steps),
        tuple(_of_edges(weights[pairs], is_edge[pairs]) for weights in relative),
        _order(relative, losses, information, pairs),
        tuple(losses),
    )


def settings_of(num_steps: int, seed: int) -> RowSettings:
    """Return the network and training of the claim."""
    return replace(RowSettings(num_steps), seed=seed)


def _of_edges(weights: np.ndarray, is_edge: np.ndarray) -> float:
    """AUROC of edges; that of chance if all pairs are edges or none is, as in tables of few columns."""
    return of_one(weights, is_edge) if is_edge.any() and not is_edge.all() else 0.5


def _order(relative: list[np.ndarray], losses: list[float], information: np.ndarray, pairs: np.ndarray) -> float:
    wanted = losses[0] - HALF * (losses[0] - min(losses))
    at = next(place for place, loss in enumerate(losses) if loss <= wanted)
    growth = (relative[at] - relative[0])[pairs]
    return float(spearmanr(growth, information[pairs])[0]) if at and len(growth) > 2 else 0.0
