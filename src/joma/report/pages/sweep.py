"""The page of a sweep: small curves by depth and learning rate, loss against movement, failed runs, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from joma.measure.curves.points import LOSS, RANK, Point
from joma.measure.curves.quantities import ENTROPY
from joma.report.pages.document import document, write_document
from joma.report.sweep import (
    MOVEMENTS,
    left_out_note,
    panels,
    point_heads,
    point_rows,
    scatters,
    sweep_summary,
)


def write_sweep(points: Sequence[Point], record: Mapping[str, Any], question: str, leading: str, path: Path) -> Path:
    """Write the page (see ``write_document``).

    Args:
        points: of the sweep, with their courses.
        record: what ``sweep.json`` holds.
        question: what the sweep is about.
        leading: the metric that comes first.
        path: of the page.
    """
    order = [leading, *(metric for metric in (ENTROPY, RANK) if metric != leading), LOSS]
    heads, names = point_heads(points)
    page = document(
        "sweep.html",
        f"joma sweep: {record['recipe']} ({record['profile']})",
        {},
        record={**record, "created": datetime.fromisoformat(record["created"])},
        question=question,
        summary=sweep_summary(points, record),
        figures=[found for metric in order if (found := panels(points, metric)) is not None],
        scatters=scatters(points, leading),
        note=left_out_note(points),
        heads=(*heads, "runs", "last held-out loss (nats)", *MOVEMENTS.values()),
        rows=point_rows(points, names),
        training={name: ", ".join(map(str, values)) for name, values in record["training"].items()},
    )
    return write_document(page, path)
