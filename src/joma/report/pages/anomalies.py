"""The page of ``joma tree anomalies``: rows with the columns that made them anomalous, and the tree of the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from joma.charts import Chart
from joma.provenance import versions
from joma.report.drawing.anomalies import OddRow
from joma.report.drawing.plots import plots_of
from joma.report.drawing.trees import TreePicture
from joma.report.pages.document import document
from joma.report.pages.trees import nodes_of


def anomalies_page(
    rows: Sequence[OddRow],
    caption: str,
    tree: TreePicture,
    charts: Sequence[Chart],
    *,
    summary: str,
    about: Mapping[str, str],
) -> str:
    """Return the page as HTML.

    Args:
        rows: the most anomalous first.
        caption: what their bars are.
        tree: of the columns; support is the share of the trees behind the scores.
        charts: of all rows.
        summary: the result in a sentence.
        about: what is known of the table, by name.
    """
    plots = plots_of(charts, "anomalies")
    return document(
        "anomalies.html",
        "joma tree anomalies",
        {plot.key: plot.spec() for plot in plots},
        rows=rows,
        largest=max((part.surprise for row in rows for part in row.parts), default=0.0) or 1.0,
        caption=caption,
        nodes=nodes_of(tree),
        strength=tree.strength,
        charts=plots,
        summary=summary,
        about=about,
        created=datetime.now(UTC),
        versions=versions(),
    )
