"""A result as a notebook shows it: a sentence, what was decided, and one picture."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from joma.report.drawing.single import svg_of
from joma.report.drawing.words import format_number
from joma.report.pages.document import environment

if TYPE_CHECKING:
    import pandas

    from joma.charts import Chart, Heatmap

_MOST_ROWS = 12


def result_html(name: str, summary: str, verdicts: pandas.DataFrame, picture: Chart | Heatmap | None) -> str:
    """HTML to be put into another page; whatever is filled in is escaped.

    Args:
        name: of the result's class.
        summary: what was found, in a sentence.
        verdicts: one row for each thing that was decided; the first ones are shown.
        picture: drawn as SVG.
    """
    rows = [[_cell(value) for value in row] for row in verdicts.head(_MOST_ROWS).itertuples(index=False)]
    image = None if picture is None else base64.b64encode(svg_of(picture)).decode()
    return (
        environment()
        .get_template("result.html")
        .render(
            name=name,
            summary=summary,
            head=list(verdicts),
            rows=rows,
            num_more=max(0, len(verdicts) - _MOST_ROWS),
            image=image,
            caption="" if picture is None else picture.caption,
        )
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else format_number(value)
    return "–" if value is None or str(value) == "<NA>" else str(value)
