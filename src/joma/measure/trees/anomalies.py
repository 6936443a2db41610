"""Rows that break the relations between columns: how unlikely each is under a tree that was learned on other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from joma.measure.trees.coding import Coding, coding_of
from joma.measure.trees.information import PairCounts, chow_liu, mutual_information
from joma.measure.trees.learning import Edge, Tree
from joma.measure.trees.likelihood import TreeModel, tree_model
from joma.progress import Progress, silent
from joma.tables.columns import Table

NUM_FOLDS = 5
"""Parts of a table, each scored by a tree that was learned on the others."""

SUSPECT_SHARE = 0.1
"""Share of the rows with the largest surprise that the final trees of a table are not learned on."""


@dataclass(frozen=True)
class Detector:
    """A tree with its distribution of rows.

    Args:
        coding: of the columns.
        model: the distribution.
        information: mutual information of all pairs of columns, in nats; 0 without edges.
    """

    coding: Coding
    model: TreeModel
    information: Float[np.ndarray, "n n"]

    def surprise(self, table: Table) -> Float[np.ndarray, " rows"]:
        """Return −ln of the probability of each row, in nats; missing values are summed over."""
        return self.model.surprise(self.coding.codes(table))


def detector_of(table: Table, *, with_edges: bool = True, num_bins: int | None = None) -> Detector:
    """Learn a Chow–Liu tree and its distribution of rows from a table.

    Args:
        table: of normal rows, most of them at least.
        with_edges: otherwise the columns are independent, which leaves only how rare each value is by itself.
        num_bins: of numbers, as in ``coding_of``.
    """
    coding = coding_of(table, num_bins)
    counts = PairCounts(coding.codes(table), coding.sizes).counts()
    if not with_edges:
        none = np.zeros((len(coding.sizes), len(coding.sizes)))
        return Detector(coding, tree_model(counts, coding.sizes, np.empty((0, 2), dtype=int)), none)
    information = mutual_information(counts, coding.sizes)
    return Detector(coding, tree_model(counts, coding.sizes, chow_liu(information)), information)


@dataclass(frozen=True)
class Scores:
    """The surprise of every row of a table.

    Args:
        table: of the rows.
        detectors: each with the indices of the rows that it scored.
    """

    table: Table
    detectors: Sequence[tuple[np.ndarray, Detector]]

    @cached_property
    def surprise(self) -> Float[np.ndarray, " rows"]:
        """−ln of the probability of each row, in nats."""
        found = np.empty(self.table.num_rows)
        for rows, detector in self.detectors:
            found[rows] = detector.surprise(self.table.take(rows))
        return found

    @cached_property
    def tree(self) -> Tree:
        """The tree with the most information, mean over the detectors; support is the share of them with the edge."""
        information = np.mean([detector.information for _, detector in self.detectors], axis=0)
        found = [{frozenset(edge) for edge in detector.model.edges} for _, detector in self.detectors]
        edges = [
            Edge(one, other, max(0.0, float(information[one, other])), _share(frozenset((one, other)), found))
            for one, other in chow_liu(information).tolist()
        ]
        names = [column.name for column in self.detectors[0][1].coding.columns]
        return Tree("chow-liu", names, edges, self.table.num_rows, 0)

    def parts(self, row: int) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
        """Return what each column alone and each edge add to the surprise of a row, in nats (``TreeModel.parts``)."""
        detector = self._detector(row)
        own, relations = detector.model.parts(detector.coding.codes(self.table.take(np.array([row]))))
        names = [column.name for column in detector.coding.columns]
        edges = [(names[parent], names[column]) for column, parent in detector.model.edges]
        return dict(zip(names, own[0].tolist(), strict=True)), dict(zip(edges, relations[0].tolist(), strict=True))

    def columns(self, row: int) -> dict[str, tuple[float, str]]:
        """Return for each column the surprise of its value given all others in the row, and what was likely there.

        The second is empty where nothing else was likelier than the value itself.
        """
        detector = self._detector(row)
        codes = detector.coding.codes(self.table.take(np.array([row])))
        surprise, expected = detector.model.surprise_given_others(codes)
        return {
            column.name: (float(surprise[0, at]), column.text(int(code)) if code not in (-1, codes[0, at]) else "")
            for at, (column, code) in enumerate(zip(detector.coding.columns, expected[0], strict=True))
        }

    def _detector(self, row: int) -> Detector:
        return next(detector for rows, detector in self.detectors if row in rows)


def _share(edge: frozenset[int], trees: Sequence[set[frozenset[int]]]) -> float | None:
    """The share of several trees that have an edge; of a single one nothing is known."""
    return sum(edge in tree for tree in trees) / len(trees) if len(trees) > 1 else None


def scores_with(detector: Detector, table: Table) -> Scores:
    """Score a table with a tree that was learned on another one."""
    return Scores(table, [(np.arange(table.num_rows), detector)])


def scores_within(
    table: Table, *, seed: int = 0, with_edges: bool = True, num_bins: int | None = None, progress: Progress = silent
) -> Scores:
    """Score each row of a table with a tree that was learned on other rows of it, and not on suspect ones.

    The rows are dealt into ``NUM_FOLDS`` parts. Each part is scored by a tree learned on the others, first on all their
    rows, then without the ``SUSPECT_SHARE`` of all rows that were the most surprising.
    """
    order = np.random.default_rng(seed).permutation(table.num_rows)
    folds = [np.sort(order[fold::NUM_FOLDS]) for fold in range(min(NUM_FOLDS, table.num_rows))]
    is_suspect = np.zeros(table.num_rows, dtype=bool)
    for final in (False, True):
        detectors = []
        for done, rows in enumerate(folds):
            progress("trees", len(folds) * final + done, 2 * len(folds))
            others = np.setdiff1d(np.flatnonzero(~is_suspect), rows)
            detectors.append((rows, detector_of(table.take(others), with_edges=with_edges, num_bins=num_bins)))
        scores = Scores(table, detectors)
        if not final:
            num_suspect = int(SUSPECT_SHARE * table.num_rows)
            is_suspect[np.argsort(-scores.surprise, kind="stable")[:num_suspect]] = True
    return scores
