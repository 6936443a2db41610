"""The page of ``joma show``: what happened in words, then curves, small multiples and heads at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joma.charts import Mark
from joma.metrics import METRICS
from joma.report.drawing.heatmaps import heatmap_plot
from joma.report.drawing.plots import plots_of
from joma.report.pages.document import document
from joma.report.pages.serving import REFRESH_SECONDS
from joma.report.show import FILMS, KINDS, MOST_COMPARED, comparison_charts, film, multiples, run_charts, run_maps

if TYPE_CHECKING:
    import pandas

    from joma.measure.curves.remarks import Remark

    Run = tuple[str, pandas.DataFrame, Sequence[Remark], Sequence[Mark]]


def show_page(
    runs: Sequence[Run],
    sources: Sequence[str],
    *,
    notes: Sequence[str],
    created: datetime,
    versions: Mapping[str, str],
    following: bool = False,
) -> str:
    """Return the page as HTML.

    Args:
        runs: name, table, remarks and phase marks of each run.
        sources: the folders and files that were read.
        notes: what was left out of them.
        created: time at which the page is written.
        versions: of the software, by name.
        following: whether the page loads itself again every few seconds.
    """
    plots: dict[str, Any] = {}
    compared = plots_of(comparison_charts({name: rows for name, rows, *_ in runs}), "compared")
    plots |= {plot.key: plot.spec() for plot in compared}
    parts = [_part(number, run, plots) for number, run in enumerate(runs[:MOST_COMPARED])]
    measured = {str(metric) for _, rows, _, _ in runs for metric in rows["metric"].unique()}
    return document(
        "show.html",
        f"joma show: {', '.join(Path(source).name for source in sources)}",
        plots,
        compared=compared,
        runs=parts,
        left_out=[name for name, *_ in runs[MOST_COMPARED:]],
        sources=sources,
        notes=notes,
        kinds=KINDS,
        refresh=REFRESH_SECONDS if following else None,
        created=created,
        versions=versions,
        terms={metric.meaning: _meaning(name) for name, metric in METRICS.items() if name in measured},
    )


def _part(number: int, run: Run, plots: dict[str, Any]) -> dict[str, Any]:
    name, rows, remarks, marks = run
    charts = plots_of(run_charts(rows, marks), f"run{number}")
    maps = {f"run{number}/{heatmap.id}": heatmap for heatmap in run_maps(rows)}
    films = {f"run{number}/{one.heatmap.id}": one for metric in FILMS if (one := film(rows, metric)) is not None}
    plots |= {plot.key: plot.spec() for plot in charts}
    plots |= {key: heatmap_plot(heatmap) for key, heatmap in maps.items()}
    plots |= {key: heatmap_plot(one.heatmap) | {"frames": one.frames} for key, one in films.items()}
    steps = sorted(map(int, rows["step"].unique()))
    return {
        "name": name,
        "remarks": remarks,
        "charts": charts,
        "maps": maps,
        "films": films,
        "frames": [f"{step:,}" for step in next(iter(films.values())).steps] if films else [],
        "multiples": multiples(rows, FILMS[0]),
        "extent": f"{len(steps):,} probes from step {steps[0]:,} to {steps[-1]:,}",
    }


def _meaning(name: str) -> str:
    return _WORDS.get(name, METRICS[name].axis)


_WORDS = {
    "attention_entropy_nats": "how many tokens a query attends to, as e to this power; 0 is a single one",
    "attention_entropy_normalized": "the same, from 0 (one token) to 1 (all that it may see, evenly)",
    "attention_first_token_share": "attention on the first token; near 1 it is a sink for unused attention",
    "attention_max_logit": "the largest score before the softmax; above 50 attention is nearly one-hot",
    "attention_sum_of_squares": "1 over the number of tokens attended to",
    "attention_entropy_without_first_nats": "attention entropy over the other tokens, also where the first is a sink",
    "stable_rank": "how many directions carry the strength of a weight matrix",
    "val_loss_nats": "loss on text that was not trained on",
    "train_loss_nats": "loss on the batches of training",
}
