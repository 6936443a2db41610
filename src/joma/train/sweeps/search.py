"""A search for the settings with the lowest loss, by a sampler of optuna in place of a grid."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.extras import extra
from joma.train.sweeps.grids import KINDS, Grid, Interval, Point, Value

AT_A_TIME = 4
"""Points that are asked for together, whatever the number of workers, so that the same points are found with any."""

_FILE, _STUDY = "search.log", "sweep"


def require_search(grid: Grid, num: int) -> Any:
    """Require that a search can be made, without writing anything, and return the module ``optuna``.

    Args:
        grid, num: see ``Search``.

    Raises:
        BadInput: optuna is not installed, or the grid is a list of points or has fewer points than are asked for.
    """
    optuna = extra("optuna", "a search samples with it", name="search", otherwise="sweep a grid instead")
    if grid.listed or not grid.axes:
        remedy = "name an interval, such as lr=1e-6:1e-2:log"
        raise BadInput("`search` has no settings to sample", expected="`over` with intervals", remedy=remedy)
    if all(not isinstance(values, Interval) for values in grid.axes.values()) and len(grid) < num:
        problem = f"the grid has {len(grid)} points, but `search` asks for {num}"
        raise BadInput(problem, expected="more points than are tried", remedy="leave out `search` to try all")
    return optuna


class Search:
    """A resumable search over a grid's values and intervals; every answer is on disk at once.

    Args:
        grid: a list of values or an interval for each setting.
        num: points to try in all.
        folder: of the sweep.

    Raises:
        BadInput: as ``require_search``.
    """

    def __init__(self, grid: Grid, num: int, folder: Path) -> None:
        self._optuna = require_search(grid, num)
        self._axes, self._num = grid.axes, num
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        storages = self._optuna.storages
        backend = storages.journal.JournalFileBackend(str(folder / _FILE))
        self._study = self._optuna.create_study(
            storage=storages.JournalStorage(backend), study_name=_STUDY, load_if_exists=True
        )
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == states.RUNNING and trial.params.keys() != self._axes.keys():  # killed while it was asked
                self._study.tell(trial.number, state=states.FAIL)

    def ask(self) -> dict[int, Point]:
        """Return the next points by number: those that an interruption left open, else new ones; none at the end."""
        states = self._optuna.trial.TrialState
        left = {number: point for number, point in self.points().items() if self._state(number) == states.RUNNING}
        for _ in range(0 if left else min(AT_A_TIME, self._num - len(self.points()))):
            number, point = self._new()
            left[number] = point
        return left

    def points(self) -> dict[int, Point]:
        """Return all points so far by number; what was killed while it was asked for has none."""
        trials = self._study.get_trials(deepcopy=False)
        whole = [trial for trial in trials if trial.params.keys() == self._axes.keys()]
        return {trial.number: self._point(trial.params) for trial in whole}

    def _state(self, number: int) -> Any:
        return self._study.get_trials(deepcopy=False)[number].state

    def report(self, number: int, losses: Sequence[float | None]) -> None:
        """Record the final losses of a point's runs, one for each seed; ``None`` for a run that failed."""
        known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        if known and len(known) == len(losses):
            self._study.tell(number, sum(known) / len(known))
        else:
            self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _new(self) -> tuple[int, Point]:
        """Ask for one point; its random numbers depend on the trials before it only, also after an interruption."""
        num_before = len(self._study.get_trials(deepcopy=False))
        seed = int.from_bytes(hashlib.sha256(f"search {num_before}".encode()).digest()[:4])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask()
        return trial.number, self._point({name: self._suggested(trial, name) for name in self._axes})

    def _suggested(self, trial: Any, name: str) -> Value:
        values = self._axes[name]
        if not isinstance(values, Interval):
            return trial.suggest_categorical(name, list(values))
        if KINDS[name] is float:
            return trial.suggest_float(name, values.low, values.high, log=values.is_log)
        return trial.suggest_int(name, round(values.low), round(values.high), log=values.is_log)

    def _point(self, params: Mapping[str, Value]) -> Point:
        """Return a point with settings in the grid's order, and rates to four digits, so that names stay short."""
        return {
            name: float(f"{params[name]:.4g}")
            if isinstance(values, Interval) and KINDS[name] is float
            else params[name]
            for name, values in self._axes.items()
        }
