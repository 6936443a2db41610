"""The runs of a grid as curves of their loss, read from one tidy table."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import pandas
from jaxtyping import Float

from joma.errors import InvalidArgument
from joma.measure.curves.quantities import ENTROPY
from joma.measure.curves.signs import SIGNS

COLUMNS = ("run", "step", "layer", "head", "metric", "value")
"""The columns that a table must have."""

LOSSES = ("val_loss_nats", "train_loss_nats")
"""The metrics of loss, the preferred one first."""

SHAPE = ("num_layers", "width", "batch_size")
"""Configuration columns: only runs that agree in them learn equally fast at equal learning rates."""

RATE, TOTAL, PASSES = "learning_rate", "num_steps", "num_epochs"

LOGIT = SIGNS["logits"].metric

HIGHEST = 1e6
"""Losses above it, in nats, count as not finite: guessing among all words of all languages costs less than 30."""

Shape = tuple[float, ...]
"""The values of ``SHAPE``; -1 where nothing is known."""


@dataclass(frozen=True)
class Curve:
    """A number over steps, without values that are not finite or above ``HIGHEST``.

    Args:
        steps: (N,) ascending.
        values: (N,).
    """

    steps: Float[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.steps)

    def until(self, step: float) -> Curve:
        """Return the part up to a step."""
        kept = self.steps <= step
        return Curve(self.steps[kept], self.values[kept])


@dataclass(frozen=True)
class GridRun:
    """What was measured of one run.

    Args:
        name: of the run, as in the table.
        loss: the held-out loss, or that of training if the first was not measured, in nats.
        trained: the training loss; empty if it was not measured.
        entropy: the mean attention entropy over heads and layers, in nats; empty if it was not measured.
        logit: the largest attention logit: the mean over heads, of the layer where it is largest; empty if it was not
            measured.
        learning_rate: ``None`` if the table does not contain it; 0 for a run that does not move.
        shape: of the network; without ``num_layers``, with the number of layers whose entropy was measured.
        num_steps: the last step of the whole training; ``None`` if the table does not contain it.
        num_epochs: passes over the training text in these steps; ``None`` if the table does not contain it.
        has_diverged: whether the loss is not finite, or above ``HIGHEST``, at its last step, or nowhere.
    """

    name: Hashable
    loss: Curve
    trained: Curve
    entropy: Curve
    logit: Curve
    learning_rate: float | None
    shape: Shape
    num_steps: float | None
    num_epochs: float | None
    has_diverged: bool

    def until(self, step: float) -> GridRun:
        """Return the run as it was at a step."""
        cut = {name: getattr(self, name).until(step) for name in ("loss", "trained", "entropy", "logit")}
        is_whole = len(cut["loss"]) == len(self.loss)
        return replace(self, **cut, has_diverged=self.has_diverged and is_whole)


def grid_of(frame: pandas.DataFrame, function: str) -> list[GridRun]:
    """Return the runs of a table, in an order that depends on their numbers alone.

    Args:
        frame: joma's table (docs/metrics.md), with configuration columns or without; rows in any order and repeated
            rows are fine. Suspect steps and parts of a probe (``group``) are left out.
        function: the name of the calling function, for messages.

    Raises:
        InvalidArgument: a column is missing, steps or values are no numbers or out of range, or no run has a loss.
    """
    if not isinstance(frame, pandas.DataFrame):
        raise _bad(function, f"a table with the columns {', '.join(COLUMNS)}", f"a {type(frame).__name__}")
    if missing := [name for name in COLUMNS if name not in frame]:
        raise _bad(function, f"the columns {', '.join(COLUMNS)}", f"a table without {', '.join(missing)}")
    frame = frame.reset_index(drop=True)
    kept = frame[frame["metric"].isin([*LOSSES, ENTROPY, LOGIT]) & frame["run"].notna()]
    for column in ("group", "suspect"):
        if column in kept:
            kept = kept[kept[column].isna()]
    numeric = [name for name in ("step", "value", *SHAPE, RATE, TOTAL, PASSES) if name in kept]
    try:
        kept = kept.assign(**{name: pandas.to_numeric(kept[name]).astype(float) for name in numeric})
    except (ValueError, TypeError) as error:
        raise _bad(function, f"numbers in {', '.join(numeric)}", f"a table with other cells ({error})") from error
    _check_range(kept, function)
    if not kept["metric"].isin(LOSSES).any():
        raise _bad(function, f"rows of {' or '.join(LOSSES)}", "a table without a loss")
    runs = [_run(name, rows) for name, rows in kept.groupby("run", sort=False, observed=True)]
    return sorted(runs, key=lambda run: (run.shape, run.learning_rate or 0.0, tuple(run.loss.values), str(run.name)))


def _check_range(rows: pandas.DataFrame, function: str) -> None:
    """Refuse negative and infinite numbers where they would decide the order; NaN counts as not known."""
    for name in ("step", RATE, TOTAL, PASSES):
        values = rows[name].to_numpy() if name in rows else np.zeros(0)
        if (odd := values[(values < 0) | np.isinf(values)]).size:
            raise _bad(function, f"finite numbers of at least 0 in {name}", f"a table with {name} {odd[0]:g}")


def _run(name: Hashable, rows: pandas.DataFrame) -> GridRun:
    by_metric = {metric: rows[rows["metric"] == metric] for metric in (*LOSSES, ENTROPY, LOGIT)}
    losses = by_metric[LOSSES[0]] if len(by_metric[LOSSES[0]]) else by_metric[LOSSES[1]]
    loss = losses.groupby("step")["value"].mean()
    entropy, logit = (by_metric[name].groupby(["step", "layer"])["value"].mean() for name in (ENTROPY, LOGIT))
    shape = {column: _number(rows, column) for column in SHAPE}
    if shape["num_layers"] is None:
        shape["num_layers"] = float(by_metric[ENTROPY]["layer"].nunique())
    return GridRun(
        name,
        _curve(loss),
        _curve(by_metric[LOSSES[1]].groupby("step")["value"].mean()),
        _curve(entropy.groupby("step").mean()),
        _curve(logit.groupby("step").max().clip(upper=HIGHEST)),  # not left out: it is what a broken run has
        _number(rows, RATE),
        tuple(-1.0 if value is None else value for value in shape.values()),
        _number(rows, TOTAL),
        _number(rows, PASSES),
        has_diverged=loss.empty or not _is_usable(loss.sort_index()).iloc[-1],
    )


def _number(rows: pandas.DataFrame, column: str) -> float | None:
    """Return the number of a column, the median if there are several; ``None`` without one."""
    found = rows[column].dropna() if column in rows else ()
    return float(found.median()) if len(found) else None


def _is_usable(values: pandas.Series) -> pandas.Series:
    return values.abs() <= HIGHEST  # not if NaN


def _curve(values: pandas.Series) -> Curve:
    found = values[_is_usable(values)].sort_index()
    return Curve(found.index.to_numpy(dtype=float), found.to_numpy(dtype=float))


def _bad(function: str, required: str, received: str) -> InvalidArgument:
    remedy = "pass pandas.read_parquet('sweep.parquet') or result.frame()"
    return InvalidArgument(function, "frame", required=required, received=received, remedy=remedy)
