"""What is shown of anomalous rows in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number

if TYPE_CHECKING:
    import pandas
    from rich.table import Table

    from joma.report.drawing.anomalies import Part


def anomaly_table(frame: pandas.DataFrame, explained: Mapping[int, Sequence[Part]]) -> Table:
    """Return the first rows with the columns that fit least, one line for each column.

    Args:
        frame: all rows, the most anomalous first: row, surprise_nats, share_of_normal.
        explained: the columns of the first rows, by row.
    """
    has_share = bool(frame["share_of_normal"].notna().any())
    names = ["row", "surprise (nats)", *(["share of normal rows"] if has_share else [])]
    table = table_of([*names, "column", "value", "likely", "nats"], left=("column", "value", "likely"))
    for row, parts in explained.items():
        first = frame[frame["row"] == row].iloc[0]
        cells = [str(row), format_number(float(first["surprise_nats"]), 3)]
        cells += [format_number(float(first["share_of_normal"]), 2)] if has_share else []
        for place, part in enumerate(parts):
            head = cells if place == 0 else [""] * len(cells)
            shown = (part.name, part.value, part.expected, f"{part.surprise:.1f}")
            table.add_row(*head, *shown, end_section=place == len(parts) - 1)
    return table
