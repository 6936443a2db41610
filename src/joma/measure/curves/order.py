"""The order in which the runs of a grid will end, from their first steps.

Three things decide the loss of Adam at a constant learning rate η after s steps. How far the weights can have moved,
the travel τ = η s: runs of one architecture have the same loss at the same travel while η is small, so that the future
of a slow run is the past of a faster one. The noise of the steps, which grows with η, the more the deeper the network.
And, once the text is read again and again, the memory of it, which grows with travel. Together

    loss(η, s) = floor + travel / √τ + heat · η + travel · τ / (2 √turn³)

with a floor and a travel for the grid, and a heat for each architecture, fitted to the runs that are not past the edge
of stability. During the first pass the last term is not there, and the best learning rate falls with the length of
training as s^(-1/3): for language models s^(-0.32) was measured (Bjorck et al., arXiv 2409.19913), which fixes both
exponents. The last term puts the lowest loss at the travel ``turn``, which the fastest sound run reaches after
``FRESH`` passes. Noisier runs remember less: their share of it is the square of the ratio of learning rates.

The constants below were chosen on a small grid of our own (docs/show.md), not on the grids of the paper's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from joma.domains import POSITIVE
from joma.measure.curves.grid import NUM_PASSES, Curve, GridRun, Shape, grid_of

HORIZON = 29.0
"""Steps of the whole training per observed step where a table does not say: the paper's 58,000 after 2,000."""

EPOCHS = 20.0
"""Passes over the training text, if nothing else is given: the paper's."""

FRESH = 4.0
"""Passes in which text is as good as new (Muennighoff et al., arXiv 2305.16264)."""

LATE = 8.0
"""The law is fitted from this fraction of a curve's steps on: before, Adam's averages and the network warm up."""

FAR = 30.0
"""And from this fraction of the farthest travel on: before, the loss leaves its start, which no power law describes."""

OUTLIER = 0.05
"""Share of the range of these losses beyond which a deviation loses weight."""

AS_GOOD = 0.015
"""Share of the range of losses within which a run is as good as the best: noise decides. Hotter runs that are not as
good as the best of their architecture are past the edge of stability.
"""

LAST = 3
"""The number of last probes whose median is the present loss."""


def predict_order(
    frame: pandas.DataFrame, *, num_steps: float | None = None, num_epochs: float | None = None
) -> pandas.Series:
    """Predict in which order the runs of a grid will end, from their first steps.

    >>> import numpy as np, pandas, joma
    >>> steps = np.arange(0, 201, 10)
    >>> losses = {rate: 2 + 4 / np.sqrt(1 + 3e4 * rate * steps) + 90 * rate for rate in (1e-5, 1e-4, 1e-3, 5e-3)}
    >>> tables = [
    ...     pandas.DataFrame({"run": f"lr {rate:g}", "step": steps, "value": loss, "learning_rate": rate})
    ...     for rate, loss in losses.items()
    ... ]
    >>> frame = pandas.concat(tables).assign(layer=None, head=None, metric="val_loss_nats")
    >>> frame[frame["step"] == 200].sort_values("value")["run"].tolist()  # the order so far
    ['lr 0.001', 'lr 0.0001', 'lr 0.005', 'lr 1e-05']
    >>> joma.predict_order(frame, num_steps=3000, num_epochs=1).index.tolist()
    ['lr 0.0001', 'lr 0.001', 'lr 1e-05', 'lr 0.005']

    Adam at a constant learning rate is assumed. Runs that agree in depth, width and batch size follow each other: a
    slow run will be where a faster one is now, a noisy run stays above, and runs that are fast enough to learn the text
    by heart come back (``joma.measure.curves.order`` has the law). Attention entropy is not used: it added
    nothing clear to the loss (docs/show.md).

    Args:
        frame: the runs' measurements so far, columns run, step, layer, head, metric, value: the held-out loss
            ``val_loss_nats``, or where a run has none, ``train_loss_nats``. Rows may repeat and be in any order, and
            runs may be measured at different steps; NaN between two held-out losses, next to a finite training loss,
            was not measured. The columns ``learning_rate``, ``num_layers``, ``width``, ``batch_size``, ``num_steps``,
            ``num_epochs`` and ``status`` are used if they are there. Without learning rates the speed at which losses
            leave their start takes their place; without ``num_layers``, the number of layers with an entropy.
        num_steps: steps of the whole training; ``None`` for the column ``num_steps``, or else 29 times the last
            step in the table.
        num_epochs: passes over the training text in that time; ``None`` for the column ``num_epochs``, which counts
            those in the column ``num_steps``, or else the paper's 20. With 1 no text is repeated.

    Returns:
        a score for each run, named ``score``, lowest first: the predicted last held-out loss in nats. It is infinite
        for a run whose loss is not finite or above 1e6 at its last step (it has diverged), that has no loss, or whose
        ``status`` is failed.

    Raises:
        InvalidArgument: a column is missing, a number is none or out of range, or no run has a loss.
    """
    if num_steps is not None:
        POSITIVE.check(num_steps, "predict_order", "num_steps")
    if num_epochs is not None:
        NUM_PASSES.check(num_epochs, "predict_order", "num_epochs")
    runs = grid_of(frame, "predict_order")
    index = pandas.Index([run.name for run in runs], name="run", tupleize_cols=False)
    return pandas.Series(scores(runs, num_steps, num_epochs), index, name="score").sort_values(kind="stable")


def scores(runs: Sequence[GridRun], num_steps: float | None = None, num_epochs: float | None = None) -> list[float]:
    """Return the predicted last loss of each run in nats; ``predict_order`` explains the arguments.

    Args:
        runs: as ``grid_of`` returns them.
        num_steps, num_epochs: the whole training.
    """
    found = [math.inf if run.has_diverged else level(run.loss) for run in runs]
    last = last_step(runs)
    members: dict[int, _Member] = {}
    for at, (run, rate) in enumerate(zip(runs, speeds(runs), strict=True)):
        if rate > 0 and not run.has_diverged and run.loss.steps[-1] > 0:
            goal = max(num_steps or run.num_steps or HORIZON * last, float(run.loss.steps[-1]))
            members[at] = _Member(run.loss, rate, goal, num_epochs or epochs_to(goal, run), run.shape)
    if members:
        grid = _Grid([*members.values()])
        found = [grid.last_loss(members[at]) if at in members else now for at, now in enumerate(found)]
    return found


def epochs_to(goal: float, run: GridRun) -> float:
    """Return the passes over the training text up to a step: what the table says of all steps, or else ``EPOCHS``."""
    if run.num_epochs is None:
        return EPOCHS
    return run.num_epochs * (goal / run.num_steps if run.num_steps else 1.0)


def last_step(runs: Sequence[GridRun]) -> float:
    """Return the last step at which a loss was measured; 0 without any."""
    return max((float(run.loss.steps[-1]) for run in runs if len(run.loss)), default=0.0)


def level(curve: Curve) -> float:
    """Return the loss at the end of a curve, without the noise of single probes."""
    return float(np.median(curve.values[-LAST:]))


def speeds(runs: Sequence[GridRun]) -> list[float]:
    """Return the learning rates, or if one is unknown, how fast each loss leaves its start: 1 / step of a small fall.

    All networks are taken to start at the highest first loss. The fall is as large as the smallest of all runs that
    fell; a run that did not has no speed, 0.
    """
    if all(run.learning_rate is not None for run in runs):
        return [run.learning_rate or 0.0 for run in runs]
    start = max((float(run.loss.values[0]) for run in runs if len(run.loss)), default=0.0)
    falls = [np.maximum.accumulate(np.append(0.0, start - run.loss.values)) for run in runs]
    least = min((float(fall[-1]) for fall in falls if fall[-1] > 0), default=math.inf)
    return [_speed(np.append(0.0, run.loss.steps), fall, least) for run, fall in zip(runs, falls, strict=True)]


def _speed(steps: np.ndarray, fall: np.ndarray, least: float) -> float:
    if fall[-1] < least:
        return 0.0
    first = int(np.argmax(fall >= least))
    part = slice(max(first - 1, 0), first + 1)
    step = float(np.interp(least, fall[part], steps[part]))
    return 1 / step if step > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Member:
    """A run that made a step: its loss so far, its learning rate, the steps and the passes over the text of its whole
    training, and its shape."""

    loss: Curve
    rate: float
    goal: float
    epochs: float
    shape: Shape

    @property
    def now(self) -> float:
        return float(self.loss.steps[-1])

    @property
    def reach(self) -> float:
        """The farthest travel so far."""
        return self.rate * self.now

    @property
    def level(self) -> float:
        return level(self.loss)

    def at(self, travel: float) -> float:
        """Return the measured loss at a travel, between probes on a logarithmic axis of steps."""
        return float(np.interp(math.log1p(travel / self.rate), np.log1p(self.loss.steps), self.loss.values))

    def late(self, near: float) -> Iterator[tuple[float, float]]:
        """Yield step and loss of the part of the curve that the law describes."""
        first = max(self.now / LATE, near / self.rate)
        return ((step, loss) for step, loss in zip(self.loss.steps, self.loss.values, strict=True) if step >= first)


class _Grid:
    """What the runs of a grid say of each other's future.

    Args:
        members: its runs.
    """

    def __init__(self, members: Sequence[_Member]) -> None:
        self.alike: dict[Shape, list[_Member]] = {}
        for one in members:
            self.alike.setdefault(one.shape, []).append(one)
        start = float(np.median([one.loss.values.max() for one in members]))
        self.margin = AS_GOOD * (start - min(one.level for one in members))
        self.best = {shape: self._best(found) for shape, found in self.alike.items()}
        first = min(self.best.values(), key=lambda one: one.level)
        self.travel, self.heat = self._fitted(first.reach / FAR)
        self.fastest = first.rate
        self.turn = first.rate * first.goal * FRESH / first.epochs if first.epochs > 1 else math.inf

    def _best(self, alike: Sequence[_Member]) -> _Member:
        """Return the median run of the lowest learning rate that is as good as the best one."""
        by_rate: dict[float, list[_Member]] = {}
        for one in sorted(alike, key=lambda one: one.level):
            by_rate.setdefault(one.rate, []).append(one)
        medians = [seeds[(len(seeds) - 1) // 2] for seeds in by_rate.values()]
        good = min(one.level for one in medians) + self.margin
        return min((one for one in medians if one.level <= good), key=lambda one: one.rate)

    def last_loss(self, one: _Member) -> float:
        """Return the predicted last loss of a run."""
        best, end = self.best[one.shape], one.rate * one.goal
        heat = self.heat[one.shape]
        if end <= best.reach:  # others have been there, with noise that builds up like a random walk
            ahead = (other for other in self.alike[one.shape] if other.rate <= best.rate and other.reach >= end)
            return min(other.at(end) - heat * (other.rate - one.rate) * (end / other.reach) ** 0.5 for other in ahead)
        known = best if one.rate < best.rate else one  # a slow run will be where the best one is now
        now = known.reach
        learned = self.travel * (now**-0.5 - end**-0.5)
        noise = heat * (one.rate - known.rate)
        memory = self.travel / 2 * self.turn**-1.5 * (end - now) * min(1.0, self.fastest / one.rate) ** 2
        return known.level - learned + noise + memory

    def _fitted(self, near: float) -> tuple[float, dict[Shape, float]]:
        """Fit the law of the first pass by robust least squares: floor and travel, and the heat of each shape.

        At one learning rate noise cannot be separated from the floor: shapes that have no other get the median heat.
        """
        from scipy.optimize import least_squares

        members = (one for alike in self.alike.values() for one in alike)
        best = self.best
        sound = [
            one
            for one in members
            if one.rate <= best[one.shape].rate or one.level <= best[one.shape].level + self.margin
        ]
        rows = [
            [1.0, (one.rate * step) ** -0.5, *(one.rate * (one.shape == shape) for shape in self.alike), loss]
            for one in sound
            for step, loss in one.late(near)
        ]
        *terms, losses = np.array(rows).T
        sizes = np.array([term.max() or 1.0 for term in terms])
        scaled = np.array(terms).T / sizes
        found = least_squares(
            lambda coefficients: scaled @ coefficients - losses,
            np.linalg.lstsq(scaled, losses, rcond=None)[0].clip(1e-3),
            bounds=(0, np.inf),
            loss="soft_l1",
            f_scale=max(OUTLIER * float(np.ptp(losses)), 1e-6),
        )
        _, travel, *heat = map(float, found.x / sizes)
        rates = {shape: {one.rate for one in sound if one.shape == shape and one.reach >= near} for shape in self.alike}
        typical = [one for one, shape in zip(heat, self.alike, strict=True) if len(rates[shape]) > 1] or [0.0]
        heats = [
            one if len(rates[shape]) > 1 else float(np.median(typical)) for one, shape in zip(heat, rates, strict=True)
        ]
        return travel, dict(zip(rates, heats, strict=True))
