"""The runs of a grid as curves of their loss, read from one tidy table."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import pandas
from jaxtyping import Float

from joma.domains import Domain
from joma.errors import InvalidArgument
from joma.measure.curves.quantities import ENTROPY
from joma.measure.curves.signs import SIGNS

COLUMNS = ("run", "step", "layer", "head", "metric", "value")
"""The columns that a table must have."""

LOSSES = ("val_loss_nats", "train_loss_nats")
"""The metrics of loss, the preferred one first."""

SHAPE = ("num_layers", "width", "batch_size")
"""Configuration columns: only runs that agree in them learn equally fast at equal learning rates."""

RATE, TOTAL, PASSES, STATUS = "learning_rate", "num_steps", "num_epochs", "status"

LOGIT = SIGNS["logits"].metric

NUM_STEPS = Domain(
    "a number from 0 to 1e15", lambda value: 0 <= value <= 1e15, (-1.0, math.inf, math.nan), "count optimiser steps"
)
NUM_PASSES = Domain(
    "a number above 0 and up to 1e9",
    lambda value: 0 < value <= 1e9,
    (0.0, -1.0, 1e10, math.nan),
    "count how often the text is read",
)
LEARNING_RATE = Domain(
    "0, or a number from 1e-30 to 1e30",
    lambda value: value == 0 or 1e-30 <= value <= 1e30,
    (-1.0, 1e-320, math.inf, math.nan),
    "give Adam's learning rate",
)

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
        unusable: (M,) the steps at which that loss was not finite, or above ``HIGHEST``.
        trained: the training loss; empty if it was not measured.
        entropy: the mean attention entropy over heads and layers, in nats; empty if it was not measured.
        logits: the largest attention logits, mean over heads, of each layer in which they were measured.
        learning_rate: ``None`` if the table does not contain it; 0 for a run that does not move.
        shape: of the network; without ``num_layers``, with the number of layers whose entropy was measured.
        num_steps: the last step of the whole training; ``None`` if the table does not contain it.
        num_epochs: passes over the training text in these steps; ``None`` if the table does not contain it.
        has_failed: whether the table says so (``status``), as that of a sweep does of a run with a NaN.
    """

    name: Hashable
    loss: Curve
    unusable: Float[np.ndarray, " M"]
    trained: Curve
    entropy: Curve
    logits: tuple[Curve, ...]
    learning_rate: float | None
    shape: Shape
    num_steps: float | None
    num_epochs: float | None
    has_failed: bool = False

    @property
    def has_diverged(self) -> bool:
        """Whether the run failed, or its loss is not usable at its last step or nowhere."""
        last = self.loss.steps[-1] if len(self.loss) else -math.inf
        return self.has_failed or not len(self.loss) or bool((self.unusable > last).any())

    @property
    def is_going(self) -> bool:
        """Whether it has steps left; so does a run whose last step is not known."""
        return not len(self.loss) or self.num_steps is None or self.num_steps > self.loss.steps[-1]

    def until(self, step: float) -> GridRun:
        """Return the run as it was at a step, before it failed."""
        cut = {name: getattr(self, name).until(step) for name in ("loss", "trained", "entropy")}
        cut["logits"] = tuple(curve.until(step) for curve in self.logits)
        return replace(self, **cut, unusable=self.unusable[self.unusable <= step], has_failed=False)


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
    if twice := frame.columns[frame.columns.duplicated()].tolist():
        raise _bad(function, "every column once", f"a table with two columns {twice[0]}")
    frame = frame.reset_index(drop=True)
    is_known = frame["metric"].isin([*LOSSES, ENTROPY, LOGIT]) | frame["metric"].isna()  # as of a run without a probe
    kept = frame.assign(value=frame["value"].where(frame["metric"].notna()))[is_known & frame["run"].notna()]
    for column in ("group", "suspect"):
        if column in kept:
            kept = kept[kept[column].isna()]
    numeric = [name for name in ("step", "value", *SHAPE, RATE, TOTAL, PASSES) if name in kept]
    try:
        if odd := [name for name in numeric if kept[name].dtype.kind in "mMc"]:
            raise TypeError(f"{odd[0]} has times or complex numbers")
        kept = kept.assign(**{name: pandas.to_numeric(kept[name]).astype(float) for name in numeric})
        kept["run"].map(hash)
    except (ValueError, TypeError) as error:
        required = f"numbers in {', '.join(numeric)}, and names of runs"
        raise _bad(function, required, f"a table with other cells ({error})") from error
    _check_range(kept, function)
    if not kept["metric"].isin(LOSSES).any():
        raise _bad(function, f"rows of {' or '.join(LOSSES)}", "a table without a loss")
    runs = [_run(name, rows) for name, rows in kept.groupby("run", sort=False, observed=True)]
    return sorted(runs, key=lambda run: (run.shape, run.learning_rate or 0.0, tuple(run.loss.values), str(run.name)))


def _check_range(rows: pandas.DataFrame, function: str) -> None:
    """Refuse numbers that would decide the order by being out of range; NaN counts as not known."""
    for name, domain in (("step", NUM_STEPS), (RATE, LEARNING_RATE), (TOTAL, NUM_STEPS), (PASSES, NUM_PASSES)):
        known = rows[name].dropna().unique() if name in rows else ()
        if odd := [value for value in known if not domain.contains(value)]:
            raise _bad(function, f"{domain.required} in {name}", f"a table with {name} {odd[0]:g}")


def _run(name: Hashable, rows: pandas.DataFrame) -> GridRun:
    by_metric = {metric: rows[rows["metric"] == metric] for metric in (*LOSSES, ENTROPY, LOGIT)}
    held_out, trained = (by_metric[metric].groupby("step")["value"].mean() for metric in LOSSES)
    held_out = _measured(held_out, trained)
    loss = held_out if len(held_out) else trained
    unusable = pandas.concat([losses[~_is_usable(losses)] for losses in (loss, _measured(trained, held_out))])
    entropy, logits = (by_metric[metric].groupby(["layer", "step"])["value"].mean() for metric in (ENTROPY, LOGIT))
    shape = {column: _number(rows, column) for column in SHAPE}
    if shape["num_layers"] is None:
        shape["num_layers"] = float(by_metric[ENTROPY]["layer"].nunique())
    return GridRun(
        name,
        _curve(loss),
        np.unique(unusable.index.to_numpy(dtype=float)),
        _curve(trained),
        _curve(entropy.groupby("step").mean()),
        tuple(_curve(of_layer.droplevel("layer").clip(upper=HIGHEST)) for _, of_layer in logits.groupby("layer")),
        _number(rows, RATE),
        tuple(-1.0 if value is None else value for value in shape.values()),
        _number(rows, TOTAL),
        _number(rows, PASSES),
        _last_status(rows) == "failed",
    )


def _measured(losses: pandas.Series, others: pandas.Series) -> pandas.Series:
    """Return the losses without NaN at steps where only the other loss was measured, as in a table with both in a row.

    NaN stands for "not measured" if the other loss is finite then or later, and if fewer steps have passed since the
    last finite value than between the two before it. Otherwise a loss was due, and is NaN.
    """
    finite, later = losses[losses.notna()].index.to_numpy(dtype=float), others[_is_usable(others)].index.max()
    if not len(finite):
        return losses[:0] if later >= losses.index.max() else losses

    def is_due(step: float) -> bool:
        before = finite[finite < step]
        return not len(before) or (len(before) > 1 and step - before[-1] >= before[-1] - before[-2])

    steps = losses.index.to_numpy(dtype=float)
    is_kept = [
        is_known or not step <= later or is_due(step) for step, is_known in zip(steps, losses.notna(), strict=True)
    ]
    return losses[np.array(is_kept, dtype=bool)]


def _last_status(rows: pandas.DataFrame) -> str | None:
    found = rows.sort_values("step")[STATUS].dropna() if STATUS in rows else ()
    return str(found.iloc[-1]) if len(found) else None


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
