"""The HTML of a result in a notebook: a sentence, the verdicts, and the first pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joma.report.drawing.single import Picture, svg_of
from joma.report.drawing.words import format_number
from joma.report.pages.document import environment

if TYPE_CHECKING:
    import pandas

_MOST_ROWS = 12
MOST_PICTURES = 4


def result_html(name: str, summary: str, verdicts: pandas.DataFrame, pictures: Sequence[Picture]) -> str:
    """Return HTML for a notebook cell, with all texts escaped.

    Args:
        name: of the result's class.
        summary: the result in a sentence.
        verdicts: one row per verdict; the first ones are shown.
        pictures: drawn as SVG; the first ``MOST_PICTURES``.
    """
    rows = [[_cell(value) for value in row] for row in verdicts.head(_MOST_ROWS).itertuples(index=False)]
    images = [(one.caption, base64.b64encode(svg_of(one)).decode()) for one in pictures[:MOST_PICTURES]]
    num_more = max(0, len(verdicts) - _MOST_ROWS)
    content = {"name": name, "summary": summary, "head": list(verdicts), "rows": rows, "num_more": num_more}
    return environment().get_template("result.html").render(**content, images=images)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else format_number(value)
    return "–" if value is None or str(value) == "<NA>" else str(value)
