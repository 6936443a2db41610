"""Phases of attention over training, for every layer and head: what ``joma.phases`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import pandas

from joma.charts import Chart, Heatmap, Mark, id_of
from joma.domains import choose
from joma.errors import InvalidArgument
from joma.measure.curves.course import Course
from joma.measure.curves.phases import FEWEST_PROBES, Stage, stages
from joma.measure.curves.quantities import ENTROPY
from joma.studies.result import Result

Detail = Literal["network", "layer", "head"]
COLUMNS = ("run", "step", "layer", "head", "metric", "value")


@dataclass(frozen=True)
class Place:
    """A part of a network: a head, a layer (the mean over its heads), or all of it (the mean over layers).

    Args:
        run: the network.
        layer, head: ``None`` for the mean.
    """

    run: str
    layer: int | None
    head: int | None


@dataclass(frozen=True)
class Phases(Result):
    """Phases of attention: ``frame()`` has every stage, ``verdicts()`` the present one of each layer and head.

    Args:
        stages: by place, in order.
        courses: the mean entropy of each network over steps.
        too_short: networks with too few probes.
    """

    stages: Mapping[Place, Sequence[Stage]]
    courses: Mapping[str, Course]
    too_short: tuple[str, ...] = ()

    def frame(self) -> pandas.DataFrame:
        """Return one row per stage: run, layer, head, phase, since, since_low, since_high, until, start, end."""
        rows = [asdict(place) | asdict(stage) for place, found in self.stages.items() for stage in found]
        names = [*Place.__dataclass_fields__, *Stage.__dataclass_fields__]
        return pandas.DataFrame(rows, columns=pandas.Index(names)).astype({"layer": "Int32", "head": "Int32"})

    def verdicts(self) -> pandas.DataFrame:
        """Return the present phase of each network, layer and head: one row each, the network first."""
        found = self.frame()
        return found.groupby(["run", "layer", "head"], dropna=False, sort=False).tail(1).reset_index(drop=True)

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return the entropy of each network over steps, with its phases marked."""
        return [_chart(run, course, self.stages[Place(run, None, None)]) for run, course in self.courses.items()]

    def summary(self) -> str:
        """Return the phases of the first networks, in words."""
        parts = [f"{run}: {_in_words(self.stages[Place(run, None, None)])}" for run in self.courses]
        parts += [f"{run}: fewer than {FEWEST_PROBES} probes" for run in self.too_short]
        return "; ".join(parts) or "no attention was measured"


def phases(frame: pandas.DataFrame, *, detail: Detail = "head") -> Phases:
    """Return the phases of attention over training, for each layer and head and for the whole network.

    >>> import numpy as np, pandas, joma
    >>> steps = np.arange(0, 3001, 100)
    >>> entropy = np.interp(steps, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5])
    >>> table = pandas.DataFrame({"run": "mine", "step": steps, "layer": 0, "head": 0, "value": entropy})
    >>> found = joma.phases(table.assign(metric="attention_entropy_nats"))
    >>> found.frame().query("head == 0")[["phase", "since"]].values.tolist()
    [['scanning', 0], ['sparsifying', 700], ['densifying', 1500]]
    >>> axes = found.plot()

    Args:
        frame: measurements in joma's table (docs/metrics.md), of one network or several: a watch folder's, a scan's, a
            training run's, or your own with the columns run, step, layer, head, metric, value. Suspect steps and parts
            of a probe (``group``) are left out.
        detail: the finest part of a network to look at: ``network``, ``layer`` or ``head``.

    Raises:
        InvalidArgument: a column is missing, or entropies are not finite.
    """
    choose(detail, dict.fromkeys(get_args(Detail)), "phases", "detail")
    if missing := [name for name in COLUMNS if name not in frame]:
        raise InvalidArgument(
            "phases",
            "frame",
            required=f"the columns {', '.join(COLUMNS)}",
            received=f"a table without {', '.join(missing)}",
            remedy="pass result.frame() or pandas.read_parquet('metrics.parquet')",
        )
    taken = frame[frame["metric"] == ENTROPY]
    for column in ("group", "suspect"):
        if column in taken:
            taken = taken[taken[column].isna()]
    taken = taken[taken["value"].notna() & taken["layer"].notna()]
    found: dict[Place, Sequence[Stage]] = {}
    courses: dict[str, Course] = {}
    too_short: list[str] = []
    for name, of_run in taken.groupby("run", sort=False):
        run = str(name)
        layers = of_run.groupby(["layer", "step"])["value"].mean().reset_index()
        whole = layers.groupby("step")["value"].mean()
        if len(whole) < FEWEST_PROBES:
            too_short.append(run)
            continue
        courses[run] = Course(tuple(map(int, whole.index)), whole.to_numpy()[None])
        found[Place(run, None, None)] = _stages_of(whole)
        for layer, of_layer in layers.groupby("layer") if detail != "network" else ():
            found[Place(run, _int(layer), None)] = _stages_of(of_layer.set_index("step")["value"])
        of_heads = of_run[of_run["head"].notna() & (detail == "head")]
        for (layer, head), of_head in of_heads.groupby(["layer", "head"]):
            found[Place(run, _int(layer), _int(head))] = _stages_of(of_head.set_index("step")["value"].sort_index())
    return Phases(found, courses, tuple(too_short))


def _int(number: Any) -> int:
    return int(number)


def _stages_of(series: pandas.Series) -> list[Stage]:
    return stages([_int(step) for step in series.index], series.to_numpy(dtype=float).tolist())


def _in_words(found: Sequence[Stage]) -> str:
    return ", then ".join(f"{stage.phase} from step {stage.since:,}" for stage in found)


def _chart(run: str, course: Course, found: Sequence[Stage]) -> Chart:
    return Chart(
        id_of(run),
        f"Attention entropy of {run}, and its phases",
        "The mean over layers and heads. Vertical lines: where a phase begins, by change points.",
        "step",
        "attention entropy (nats)",
        (course.curve("mean over layers", "measured"),),
        tuple(Mark("x", float(stage.since), stage.phase) for stage in found),
    )
