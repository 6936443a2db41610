"""Pictures of measurements, whatever folder they come from: courses, small multiples, and heads at every step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Curve, Heatmap, Mark
from joma.measure.curves.quantities import ENTROPY
from joma.metrics import METRICS
from joma.records import Row
from joma.report.courses import course_pictures, step_pictures, title_of
from joma.report.drawing.looks import spread
from joma.report.drawing.multiples import write_multiples
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import capitalized
from joma.tidy import early_and_even

if TYPE_CHECKING:
    import pandas

    from joma.measure.curves.remarks import Kind, Remark

KINDS: Mapping[Kind, str] = {
    "problem": "problem",
    "course": "what happened",
    "open": "open",
    "gap": "cannot be seen",
}
"""Kinds of remarks in words."""

MOST_STEPS = 200
"""Steps drawn at most; tables keep all of them."""

FILMS = (ENTROPY, "attention_first_token_share", "attention_max_logit")
"""Metrics of which every head is drawn at every step."""

MOST_COMPARED = 6
_MOST_FRAMES = 60
_MARKED = ("loss", "attention_entropy_nats")
_LAYERED = ("attention_first_token_share", "attention_max_logit")
_LOSSES = ("val_loss_nats", "train_loss_nats")


@dataclass(frozen=True)
class Multiple:
    """One small curve: a head of a layer over training.

    Args:
        layer, head: of the curve.
        curve: its points, from 0 to 1 on both axes.
        words: first, lowest and last value.
    """

    layer: int
    head: int
    curve: Sequence[tuple[float, float]]
    words: str

    @property
    def points(self) -> str:
        """The points for an SVG polyline in a box of 100 by 40."""
        return " ".join(f"{100 * x:.1f},{39 - 38 * y:.1f}" for x, y in self.curve)


@dataclass(frozen=True)
class Multiples:
    """Every head's curve of one metric, drawn on one scale.

    Args:
        title, caption: of the figure.
        rows: the curves by layer.
    """

    title: str
    caption: str
    rows: Mapping[int, Sequence[Multiple]]

    def write(self, stem: Path) -> tuple[Path, Path]:
        """Write the figure as ``<stem>.svg`` and ``<stem>.png``."""
        cells = {(cell.layer, cell.head): cell.curve for row in self.rows.values() for cell in row}
        return write_multiples(cells, stem, self.title, self.caption, ("head", "layer"))


@dataclass(frozen=True)
class Film:
    """A heatmap of layers by heads for every step.

    Args:
        heatmap: the last step.
        steps: of the frames.
        frames: the values at each step, as in ``Heatmap.values``.
    """

    heatmap: Heatmap
    steps: Sequence[int]
    frames: Sequence[Sequence[Sequence[float | None]]]


def remark_table(remarks: Mapping[str, Sequence[Remark]]) -> Table:
    """Return what the measurements of each run say, for a terminal; of many runs only the most important remark."""
    table = table_of(("run", "", "what", "to try"), left=("run", "", "what", "to try"), fold=True)
    most = None if len(remarks) <= MOST_COMPARED else 1
    if most and any(len(found) > most for found in remarks.values()):
        table.caption = "The most important remark on each run; all of them: --json, or `joma advise` on fewer runs."
    for run, found in remarks.items():
        for place, remark in enumerate(found[:most]):
            name = Text(run if place == 0 else "")
            table.add_row(name, Text(KINDS[remark.kind]), Text(remark.text), Text(remark.remedy))
    return table


def show_record(remarks: Mapping[str, Sequence[Remark]], phases: pandas.DataFrame) -> dict[str, Any]:
    """Return the remarks and phases as strict JSON."""
    rows = json.loads(phases.to_json(orient="records") or "[]")
    return {"remarks": {run: [asdict(one) for one in found] for run, found in remarks.items()}, "phases": rows}


def thinned(frame: pandas.DataFrame, most: int = MOST_STEPS) -> pandas.DataFrame:
    """Return the table with at most so many steps, half of them spread evenly and half on a logarithmic axis."""
    steps = np.sort(frame["step"].unique())
    chosen = steps[early_and_even(len(steps), most)]
    return frame if len(chosen) == len(steps) else frame[frame["step"].isin(chosen)]


def probes_of_frame(frame: pandas.DataFrame) -> dict[int, list[Row]]:
    """Return the rows of one run by step, as courses and heatmaps take them; suspect steps are left out."""
    if "suspect" in frame:
        frame = frame[frame["suspect"].isna()]
    known = frame[frame["metric"].isin(list(METRICS)) & np.isfinite(frame["value"])]
    names = [name for name in Row._fields if name in known]
    found: dict[int, list[Row]] = {}
    columns = (known[name].astype(object).where(known[name].notna(), None) for name in names)
    for step, *parts in zip(known["step"], *columns, strict=True):
        found.setdefault(int(step), []).append(Row(**dict(zip(names, parts, strict=True))))
    return dict(sorted(found.items()))


def run_charts(frame: pandas.DataFrame, marks: Sequence[Mark]) -> list[Chart]:
    """Return the charts of one run: loss, then entropy and ranks of each layer, sinks and the largest logits.

    Args:
        frame: its table, thinned.
        marks: phases of the whole network, for the loss and the entropy.
    """
    charts = [*_loss_charts(frame), *course_pictures(probes_of_frame(frame))]
    marked = [replace(one, marks=(*one.marks, *marks)) if one.id in _MARKED else one for one in charts]
    return [*marked, *(chart for metric in _LAYERED for chart in _layer_chart(frame, metric))]


def comparison_charts(runs: Mapping[str, pandas.DataFrame]) -> list[Chart]:
    """Return the loss and the attention entropy of several runs, each as one curve; none for a single run.

    Args:
        runs: tables, thinned, by name; the first ``MOST_COMPARED`` are drawn.
    """
    if len(runs) < 2:
        return []
    shown = dict(list(runs.items())[:MOST_COMPARED])
    losses = {
        run: _mean_over_steps(frame, next((name for name in _LOSSES if _has(frame, name)), ""))
        for run, frame in shown.items()
    }
    entropies = {run: _mean_over_steps(frame, ENTROPY) for run, frame in shown.items()}
    caption = "The held-out loss, or else that of training."
    return [
        *_comparison("compared_loss", "Loss of each run", caption, "loss (nats)", losses),
        *_comparison(
            "compared_entropy",
            "Attention entropy of each run",
            "Means over layers and heads.",
            METRICS[ENTROPY].axis,
            entropies,
        ),
    ]


def _has(frame: pandas.DataFrame, metric: str) -> bool:
    return bool((frame["metric"] == metric).any())


def _mean_over_steps(frame: pandas.DataFrame, metric: str) -> pandas.Series:
    rows = frame[(frame["metric"] == metric) & np.isfinite(frame["value"])]
    return rows.groupby("step")["value"].mean()


def _comparison(id: str, title: str, caption: str, axis: str, found: Mapping[str, pandas.Series]) -> list[Chart]:
    curves = [
        Curve(run, tuple(map(float, mean.index)), tuple(map(float, mean)), group="")
        for run, mean in found.items()
        if len(mean) > 1
    ]
    return [Chart(id, title, caption, "step", axis, tuple(curves))] if len(curves) > 1 else []


def run_maps(frame: pandas.DataFrame) -> list[Heatmap]:
    """Return heatmaps of steps by layers, one for each metric and projection."""
    return step_pictures(probes_of_frame(thinned(frame, 2 * _MOST_FRAMES)))


def _loss_charts(frame: pandas.DataFrame) -> list[Chart]:
    curves = []
    for name in _LOSSES:
        rows = frame[(frame["metric"] == name) & frame["layer"].isna() & np.isfinite(frame["value"])]
        if rows["step"].nunique() > 1:
            mean = rows.groupby("step")["value"].mean()
            steps, values = tuple(map(float, mean.index)), tuple(map(float, mean))
            curves.append(Curve(METRICS[name].meaning, steps, values, role="measured" if not curves else "context"))
    if not curves:
        return []
    return [Chart("loss", "Loss, over the steps", "Losses as they were logged.", "step", "loss (nats)", tuple(curves))]


def _layer_chart(frame: pandas.DataFrame, metric: str) -> list[Chart]:
    rows = frame[(frame["metric"] == metric) & frame["layer"].notna() & np.isfinite(frame["value"])]
    if rows["step"].nunique() < 2:
        return []
    means = rows.groupby(["layer", "step"])["value"].mean()
    layers = [int(layer) for layer in means.index.levels[0]]
    curves = []
    for layer in (layers[at] for at in spread(len(layers), 6)):
        curve = means.loc[layer]
        curves.append(Curve(f"layer {layer}", tuple(map(float, curve.index)), tuple(map(float, curve)), group=""))
    title = title_of(metric, None)
    return [Chart(metric, f"{capitalized(title)}, over the steps", "Means over heads.", "step", title, tuple(curves))]


def multiples(frame: pandas.DataFrame, metric: str) -> Multiples | None:
    """Return the curve of every head of a metric; ``None`` if heads were not measured."""
    rows = frame[(frame["metric"] == metric) & frame["head"].notna() & np.isfinite(frame["value"])]
    if rows["step"].nunique() < 2:
        return None
    table = rows.pivot_table(index="step", columns=["layer", "head"], values="value", aggfunc="mean").sort_index()
    table = table.iloc[spread(len(table), _MOST_FRAMES)]
    steps = np.log1p(np.asarray(table.index - table.index[0], dtype=float) / (table.index[1] - table.index[0]))
    top, x = float(np.nanmax(table.to_numpy())) or 1.0, steps / steps[-1]
    found: dict[int, list[Multiple]] = {}
    for (layer, head), column in table.items():
        y = column.to_numpy(dtype=float) / top
        points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
        lowest = f"lowest {column.min():.3g} at step {column.idxmin():,}"
        words = f"first {column.iloc[0]:.3g}, {lowest}, last {column.iloc[-1]:.3g}"
        found.setdefault(int(layer), []).append(Multiple(int(layer), int(head), points, words))
    axis = METRICS[metric].axis
    caption = (
        f"From 0 at the bottom to {top:.3g} at the top in every box; steps on a logarithmic axis from left to right."
    )
    return Multiples(f"{capitalized(axis)} of every head, over training", caption, found)


def film(frame: pandas.DataFrame, metric: str) -> Film | None:
    """Return layers by heads at every step; ``None`` if heads were not measured."""
    rows = frame[(frame["metric"] == metric) & frame["head"].notna() & np.isfinite(frame["value"])]
    steps = sorted(map(int, rows["step"].unique()))
    if not steps:
        return None
    steps = [steps[at] for at in spread(len(steps), _MOST_FRAMES)]
    layers, heads = (sorted(map(int, rows[name].unique())) for name in ("layer", "head"))
    frames = []
    for step in steps:
        at = rows[rows["step"] == step].pivot_table(index="layer", columns="head", values="value", aggfunc="mean")
        grid = at.reindex(index=layers, columns=heads).to_numpy(dtype=float)
        frames.append([[_rounded(value) for value in row] for row in grid])
    axis = METRICS[metric].axis
    heatmap = Heatmap(
        f"{metric}_film",
        f"{capitalized(axis)}: layers by heads",
        "Each cell is one head. The slider above sets the step of all these maps.",
        "head",
        "layer",
        [str(head) for head in heads],
        [str(layer) for layer in layers],
        frames[-1],
        axis,
    )
    return Film(heatmap, steps, frames)


def last_maps(frame: pandas.DataFrame) -> list[Heatmap]:
    """Return layers by heads at the last step, one heatmap for each metric in ``FILMS``."""
    films = [one for metric in FILMS if (one := film(frame, metric)) is not None]
    return [
        replace(
            one.heatmap,
            id=one.heatmap.id.replace("_film", "_layers_heads"),
            title=f"{one.heatmap.title}, step {one.steps[-1]:,}",
            caption="Each cell is one head.",
        )
        for one in films
    ]


def _rounded(value: Any) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
