"""Many training runs over a grid of settings: what ``joma sweep`` and ``joma.sweep`` do."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

import pandas

from joma.devices import device_of
from joma.domains import check_whole, choose
from joma.errors import BadInput, InvalidArgument
from joma.files import write_json
from joma.measure.curves.points import MOVED, Point, points_of
from joma.progress import Progress
from joma.report.live import live_runs
from joma.report.sweep import sweep_charts, sweep_summary
from joma.studies.result import Interrupted, Result
from joma.studies.sweeping import MOST_RUNS, Plan, Sweeping
from joma.tidy import write_frame
from joma.train.loop import writing
from joma.train.run import locked
from joma.train.sweeps.grids import Over, grid_of
from joma.train.sweeps.recipes import FIGURES, PROFILES, figure_named
from joma.train.text.reading import require_text
from joma.workers import Engine

if TYPE_CHECKING:
    from joma.charts import Chart


class SweepSettings(TypedDict, total=False):
    """What a sweep trains on, and where.

    Args:
        profile: ``quick`` (half an hour on two cores), ``paper`` or ``wikitext103``; see docs/sweep.md.
        text: a file, a folder, ``wikitext2`` or ``wikitext103``; that of the profile where left out.
        search: number of points to sample from ``over`` with optuna, in place of all its points.
        engine: ``processes`` of this machine, or ``ray``, whose workers must see the same files.
        workers: runs at a time; as many as there are processors where left out.
        device: ``cpu``, or ``auto`` for an accelerator where there is one; not with ``ray``.
        keep: whether to keep the optimiser's state and earlier checkpoints of finished runs.
        yes: whether more than ``MOST_RUNS`` runs are meant.
    """

    profile: Literal["quick", "paper", "wikitext103"]
    text: str | None
    search: int | None
    engine: Engine
    workers: int | None
    device: Literal["cpu", "auto"]
    keep: bool
    yes: bool


@dataclass(frozen=True)
class Sweep(Result):
    """The runs of a sweep: ``frame()`` has their measurements, ``verdicts()`` a row for each run.

    Args:
        table: the measurements, with the settings and the status of each run.
        record: what ``sweep.json`` holds.
        folder: of all files.
    """

    table: pandas.DataFrame
    record: Mapping[str, Any]
    folder: Path

    @cached_property
    def points(self) -> list[Point]:
        """The points, each with the courses of its seeds."""
        settings = [name for name in self.record["settings"] if name != "seed"]
        return points_of(self.table, settings, {run["run"]: run["unigram_nats"] for run in self.record["runs"]})

    def frame(self) -> pandas.DataFrame:
        """Return all measurements (docs/metrics.md), with the settings, ``status`` and ``reason`` of their run."""
        return self.table

    def verdicts(self) -> pandas.DataFrame:
        """Return a row for each run: settings, status, last loss, how far attention and rank fell and rose again."""
        moved = {run: found for point in self.points for run, found in point.movements().items()}
        columns = ("run", "status", *self.record["settings"], "reason")
        rows = [
            {name: run[name] for name in columns} | {name: moved.get(run["run"], {}).get(name) for name in MOVED}
            for run in self.record["runs"]
        ]
        return pandas.DataFrame(rows, columns=pandas.Index([*columns, *MOVED])).astype(dict.fromkeys(MOVED, float))

    def pictures(self) -> Sequence[Chart]:
        """Return entropy, stable rank and held-out loss over the steps, one curve for each point."""
        return sweep_charts(self.points, FIGURES[self.record["recipe"]].leading)

    def summary(self) -> str:
        """Return how many runs ended how, and the point with the lowest loss."""
        return sweep_summary(self.points, self.record)

    def write(self) -> None:
        """Write ``sweep.parquet``, ``sweep.json``, the explorer and ``sweep.html`` into the folder."""
        from joma.report.pages.sweep import write_sweep
        from joma.studies.explorer import run_of, write_explorer

        write_frame(self.table, self.folder / "sweep.parquet")
        write_json(self.folder / "sweep.json", dict(self.record))
        write_explorer(self.folder, run_of(self.table, str(self.folder)))
        figure = FIGURES[self.record["recipe"]]
        write_sweep(self.points, self.record, figure.question, figure.leading, self.folder / "sweep.html")


def sweep(
    recipe: str,
    *,
    over: Over | None = None,
    seeds: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SweepSettings],
) -> Sweep:
    """Train networks over a grid of settings: the runs behind a figure of the paper, or other ones.

    A run that fails stays as a row with its reason, and the others go on. The same call continues an interrupted sweep,
    also inside a run.

    >>> import joma
    >>> grid = {"lr": [1e-3, 1e-2], "layers": 1, "steps": 20}
    >>> found = joma.sweep("figure8", over=grid, seeds=1, out="sweep", workers=1)
    >>> found.verdicts()[["learning_rate", "status"]].values.tolist()
    [[0.001, 'finished'], [0.01, 'finished']]
    >>> axes = found.plot()

    Args:
        recipe: ``figure6`` (depth), ``figure7`` (rank) or ``figure8`` (learning rate at five layers).
        over: the grid, in place of that of the recipe: a mapping from settings to values, a list of points, or texts as
            ``--over`` takes them (``lr=1e-5:1e-2:7log``).
        seeds: repetitions of each point; 3 if ``None``.
        out: a folder that keeps every run, and goes on from there; ``joma-sweep/RECIPE-PROFILE`` if ``None``.
        progress: called as it goes on; a live table if ``None``.
        **settings: of ``SweepSettings``: profile, text, search, engine, workers, device, keep, yes.

    Raises:
        BadInput: no such recipe, setting or text, no run, more than 1,000 without ``yes``, a folder with another sweep
            or in which another process trains, a package or a cluster that is not there.
        RunFailed: the disk is full; what was finished is kept, and no other run was started.
        Interrupted: Ctrl-C; its ``result`` has what was finished.
    """
    plan = _plan(recipe, over, seeds, settings)
    path = Path("joma-sweep") / f"{recipe}-{plan.profile}" if out is None else Path(out)
    if path.exists() and not path.is_dir():
        raise InvalidArgument("sweep", "out", required="a folder", received=f"the file {out}", remedy="choose another")
    interrupted = False
    with _made(path):
        sweeping = None
        with nullcontext(progress) if progress else live_runs(lambda: sweeping.rows() if sweeping else ()) as report:
            sweeping = Sweeping(plan, path, report)
            try:
                sweeping.train(report)
            except KeyboardInterrupt:
                interrupted = True
        with sweeping.writing():
            found = Sweep(sweeping.table(), sweeping.record(), path)
            found.write()
    if interrupted:
        raise Interrupted(found)
    return found


@contextmanager
def _made(path: Path) -> Generator[None]:
    """Make a folder and lock it; of the folders that this made, those that are empty at the end are removed."""
    new = [part for part in (path, *path.parents) if not os.path.lexists(part)]
    with writing(path, lambda: "what was there"):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        try:
            yield
        finally:
            for part in new:
                with suppress(OSError):  # it is not empty
                    part.rmdir()


def _plan(recipe: str, over: Over | None, seeds: int | None, settings: SweepSettings) -> Plan:
    """Return what is asked for, or raise ``BadInput``."""
    for name in settings:
        choose(name, SweepSettings.__annotations__, "sweep", "settings")
    figure = figure_named(recipe)
    profile = settings.get("profile") or "quick"
    choose(profile, PROFILES, "sweep", "profile")
    choose(engine := settings.get("engine") or "processes", dict.fromkeys(get_args(Engine)), "sweep", "engine")
    device_of(device := settings.get("device") or "cpu", "sweep")
    if engine == "ray" and device != "cpu":
        problem, expected = f"`engine` is ray and `device` is {device}", "`device` cpu with Ray, which is given no GPU"
        remedy = "set `device` to cpu, or `engine` to processes for the accelerator of this machine"
        raise BadInput(problem, expected=expected, remedy=remedy)
    search, workers = settings.get("search"), settings.get("workers")
    for name, count in (("seeds", seeds), ("search", search), ("workers", workers)):
        if count is not None:
            check_whole(count, "sweep", name)
    text = settings.get("text") or PROFILES[profile].text
    require_text(text)
    grid = figure.grid(profile) if over is None else grid_of(over)
    names_seeds = "seed" in grid.names
    if names_seeds and seeds is not None:
        required, remedy = "left out if `over` names seeds", "leave out one of them"
        raise InvalidArgument("sweep", "seeds", required=required, received=f"{seeds}", remedy=remedy)
    num_seeds = None if names_seeds else seeds or PROFILES[profile].num_seeds
    plan = Plan(recipe, profile, grid, num_seeds, text, search, device, engine, workers, settings.get("keep") or False)
    if plan.num_runs > MOST_RUNS and not settings.get("yes"):
        problem, remedy = f"these are {plan.num_runs:,} runs", "give `yes` if they are meant, or take fewer values"
        raise BadInput(problem, expected=f"at most {MOST_RUNS:,} without `yes`", remedy=remedy)
    return plan
