"""Trees of the columns of a user's table: what ``joma tree learn`` and ``joma.learn_tree`` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from joma.charts import Chart, Curve
from joma.measure.trees import learning
from joma.measure.trees.learning import FEWEST_ROWS, Method
from joma.progress import Progress, silent
from joma.report.drawing.trees import FIRM, write_tree
from joma.report.trees import conclusion, is_outer, name_of, strength_of, tree_picture, tree_record
from joma.studies.result import Result
from joma.tables.columns import Table, read_table
from joma.tables.reading import Source

if TYPE_CHECKING:
    from joma.report.drawing.single import Picture


class LearnedTree(learning.Tree, Result):
    """A tree of columns: ``frame()`` has its edges, ``verdicts()`` which of them are firm, ``plot()`` its picture."""

    def frame(self) -> pandas.DataFrame:
        """Return one row per edge: one, other, strength, support; inner nodes have numbers in brackets."""
        rows = [
            (name_of(self, edge.one), name_of(self, edge.other), edge.strength, edge.support) for edge in self.edges
        ]
        return pandas.DataFrame(rows, columns=pandas.Index(["one", "other", "strength", "support"]))

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per edge that not every tree has: whether nearly all bootstrap samples have it."""
        inner = [not is_outer(self, edge) for edge in self.edges]
        found = self.frame()[inner].reset_index(drop=True)
        known = found["support"].notna()
        verdict = (
            (found["support"] >= FIRM).map({True: "firm", False: "uncertain"}).where(known, "support not measured")
        )
        return found.assign(verdict=verdict)

    def pictures(self) -> Sequence[Picture]:
        """Return the tree and, if it was measured, the support of the edges over their strength."""
        known = [edge for edge in self.edges if edge.support is not None]
        if not known:
            return [tree_picture(self)]
        x, y = [edge.strength for edge in known], [float(edge.support or 0) for edge in known]
        points = (Curve("one edge", x, y, joined=False),)
        caption = f"One point per edge: share of {self.num_bootstraps} bootstrap samples whose tree has it."
        support = Chart("support", "Support of the edges", caption, strength_of(self), "support", points)
        return [tree_picture(self), support]

    def summary(self) -> str:
        """Return the tree in a sentence."""
        return conclusion(self)

    def to_json(self) -> dict[str, Any]:
        """Return the tree as plain data."""
        return tree_record(self)

    def draw(self, stem: str | Path) -> tuple[Path, Path]:
        """Draw the tree as ``<stem>.svg`` and ``<stem>.png``, and return these paths."""
        return write_tree(tree_picture(self), Path(stem))

    def write(self, folder: str | Path, source: str = "a table") -> Path:
        """Write ``report.html`` with the pictures and the explorer into a folder, and return the path of the first.

        Args:
            folder: made if it is not there.
            source: where the table comes from, in words.
        """
        from joma.report.pages.document import write_document
        from joma.report.pages.trees import columns_page
        from joma.studies.explorer import write_explorer

        svg, _ = self.draw(Path(folder) / "tree")
        page = columns_page(self, svg.read_bytes(), source)
        write_explorer(folder, {})
        return write_document(page, Path(folder) / "report.html")


def learn_tree(
    table: Source | Table,
    *,
    method: Method = "chow-liu",
    num_bootstraps: int = 100,
    num_bins: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> LearnedTree:
    """Learn a tree of the columns of a table, with the support that bootstrap samples give to each edge.

    >>> import numpy as np, pandas, joma
    >>> first = np.random.default_rng(0).normal(size=1000)
    >>> noise = np.random.default_rng(1).normal(size=(1000, 2))
    >>> table = pandas.DataFrame({"a": first, "b": first + noise[:, 0], "c": first + noise.sum(1)})
    >>> found = joma.learn_tree(table, num_bootstraps=20)
    >>> found.frame()[["one", "other", "support"]].values.tolist()
    [['b', 'c', 1.0], ['a', 'b', 1.0]]
    >>> axes = found.plot()

    Args:
        table: a CSV, TSV, Parquet, .npy or .npz file, a pandas table or an array; numbers and categories, with missing
            values. Columns of dates, free text and constants are left out with a warning.
        method: ``chow-liu``: columns are joined by the edges with the most mutual information, numbers in bins;
            ``neighbour-joining``: columns are the leaves, joined by inner nodes so that sums of lengths fit −ln of a
            correlation. That is exact if all columns are jointly normal after monotone transformations, or have two
            values each; with categories of more values it is −ln of the maximal correlation, exact for latents of two
            values. It takes the extra ``trees``.
        num_bootstraps: samples of as many rows with replacement; 0 for no support.
        num_bins: of numbers; by default up to 8, fewer in tables of fewer than 320 rows.
        seed: of the samples.
        progress: called with the number of samples done.

    Raises:
        BadInput: a table that cannot be read or has too few rows or columns.
        NotInstalled: neighbour joining without scikit-bio.

    Sources: Chow and Liu 1968; Saitou and Nei 1987; docs/trees-from-data.md.
    """
    read = read_table(table, least_rows=FEWEST_ROWS)
    test: dict[str, Any] = {"num_bootstraps": num_bootstraps, "num_bins": num_bins, "seed": seed}
    return LearnedTree(**vars(learning.learn(read, method, **test, progress=progress)))
