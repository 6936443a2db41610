"""Transformers trained on the rows of a table: their surprise, and whether attention finds the tree's edges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import spearmanr

from joma.claims.anomaly.tables import Case, exchanged
from joma.measure.trees.coding import coding_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.roc import of_one
from joma.train.rows import RowDecoder, RowSettings, train_rows

HALF = 0.5
"""Share of the fall of the loss at which the order of learning is read, as in hierarchy.order."""

_SHOWN = 500  # rows on which attention and loss are measured


@dataclass
class Course:
    """Attention and loss of a Transformer on normal rows, during training.

    Args:
        every: steps between measurements; the first is before training.
        steps: at which they were made.
        attention: relative to uniform attention over the columns before, by pair of columns, at each step.
        losses: mean surprise of the rows at each step.
    """

    every: int
    steps: list[int] = field(default_factory=list)
    attention: list[Float[np.ndarray, "n n"]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def look(self, step: int, decoder: RowDecoder, rows: Int[np.ndarray, "rows n"]) -> None:
        """Measure at a step that is due."""
        if step % self.every == 0:
            self.steps.append(step)
            self.attention.append(decoder.attention(rows) * np.arange(rows.shape[1])[:, None])
            self.losses.append(float(decoder.surprise(rows).sum(1).mean()))


@dataclass(frozen=True)
class Edges:
    """Whether attention finds the edges of the Chow–Liu tree, among pairs of columns.

    Pairs are those in which the earlier column is not just before the later one (``RowDecoder.attention``).

    Args:
        steps: at which attention was measured.
        areas: AUROC of the edges by attention, at each step.
        order: Spearman correlation, over pairs, of mutual information with the growth of attention when the loss has
            made half of its fall.
    """

    steps: tuple[int, ...]
    areas: tuple[float, ...]
    order: float


def row_surprise(
    case: Case, settings: RowSettings, *, is_mixed: bool = False, course: Course | None = None
) -> Float[np.ndarray, " rows"]:
    """Train a Transformer on the rows to learn from, and return the surprise of the rows to score.

    That is the sum over columns of its loss, −ln p(column | columns before it).

    Args:
        case: the rows.
        settings: of network and training.
        is_mixed: whether columns are exchanged between rows in training, as a control.
        course: filled during training.
    """
    coding = coding_of(case.train)
    train, test = (
        coding.codes(exchanged(case.train, settings.seed) if is_mixed else case.train),
        coding.codes(case.test),
    )
    normal = test[~case.is_anomaly][:_SHOWN]

    def look(step: int, decoder: RowDecoder) -> None:
        if course is not None:
            course.look(step, decoder, normal)

    return train_rows(train, coding.sizes, settings, look).surprise(test).sum(1)


def edges_in(course: Course, case: Case) -> Edges:
    """Compare attention with the tree of the rows to learn from."""
    coding = coding_of(case.train)
    information = mutual_information(PairCounts(coding.codes(case.train), coding.sizes).counts(), coding.sizes)
    num = len(information)
    pairs = np.tril(np.ones((num, num), dtype=bool), -2)
    is_edge = np.zeros((num, num), dtype=bool)
    one, other = np.sort(chow_liu(information), axis=1).T
    is_edge[other, one] = True
    areas = tuple(_of_edges(weights[pairs], is_edge[pairs]) for weights in course.attention)
    return Edges(tuple(course.steps), areas, _order(course, information, pairs))


def settings_of(num_steps: int, seed: int) -> RowSettings:
    """Return the network and training of the claim."""
    return replace(RowSettings(num_steps), seed=seed)


def _of_edges(weights: np.ndarray, is_edge: np.ndarray) -> float:
    """AUROC of edges; that of chance if all pairs are edges or none is, as in tables of few columns."""
    return of_one(weights, is_edge) if is_edge.any() and not is_edge.all() else 0.5


def _order(course: Course, information: np.ndarray, pairs: np.ndarray) -> float:
    losses = course.losses
    wanted = losses[0] - HALF * (losses[0] - min(losses))
    at = next(place for place, loss in enumerate(losses) if loss <= wanted)
    growth = (course.attention[at] - course.attention[0])[pairs]
    return float(spearmanr(growth, information[pairs])[0]) if at and len(growth) > 2 else 0.0
