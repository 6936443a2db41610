"""A solution of the dynamics as people and machines read it: a table, plain data, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.table import Table
from rich.text import Text

from joma.arrays import REAL
from joma.charts import Chart, Curve, Mark
from joma.records import Status
from joma.report.drawing.words import format_extended, format_number
from joma.theory.linear import blow_up_time, linear_solution, linear_status
from joma.theory.nonlinear import log_convergence, nonlinear_solution
from joma.theory.normalized import entropy_of_squares, normalized_solution, sparsest_time
from joma.theory.normalized_linear import linear_attention_entropy_over_time, normalized_linear_solution

_POINTS = 400
_OWN_COLOURS = 6
_REACH = 10.0
"""A picture runs on to the sparsest time where that lies at most so many times as late as the last time asked for."""


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One of the four dynamics that ``joma.theory`` solves: μ or Δ, plain or softmax attention.

    Args:
        symbol: ``μ`` for a nonlinear MLP, ``Δ`` for a linear one.
        rates: (M,) μ or Δ of each component.
        v0: (M,) v(0).
        gain: α of the exponent α v², above 0.
        attention: ``softmax`` shares one attention between the components, ``exp`` does not normalise.
    """

    symbol: Literal["μ", "Δ"]
    rates: torch.Tensor
    v0: torch.Tensor
    gain: float
    attention: Literal["softmax", "exp"]

    def v(self, times: torch.Tensor) -> torch.Tensor:
        """v, (T, M); infinite from a blow-up on."""
        if self.attention == "exp":
            solution = nonlinear_solution if self.symbol == "μ" else linear_solution
            return torch.as_tensor(solution(self.rates, times[:, None], self.v0, self.gain))
        solution = normalized_solution if self.symbol == "μ" else normalized_linear_solution
        return torch.as_tensor(solution(self.rates, times, self.v0, self.gain))

    def entropy(self, times: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Entropy of softmax(α v²) in nats, (T,); NaN from the first blow-up on, where there is no attention."""
        if self.symbol == "Δ" and self.attention == "softmax":
            found = linear_attention_entropy_over_time(self.rates, times, self.v0, self.gain)
            return torch.as_tensor(found)
        entropy = entropy_of_squares(v, torch.tensor(self.gain, dtype=REAL))
        return torch.where(v.isinf().any(-1), torch.nan, entropy)

    @property
    def blow_ups(self) -> torch.Tensor:
        """(M,) when each component would be infinite without normalisation; ∞ where it never is."""
        if self.symbol == "μ":
            return torch.full_like(self.rates, torch.inf)
        return torch.as_tensor(blow_up_time(self.rates, self.v0, self.gain))

    @property
    def winners(self) -> list[int]:
        """The components that take all attention in the end: the first to blow up. With softmax attention too."""
        times = self.blow_ups
        return torch.nonzero(times.isfinite() & (times == times.min())).flatten().tolist()

    def status(self, times: torch.Tensor) -> Status:
        """Whether the dynamics exist at all these times, and if not, when and by which component they end."""
        if self.symbol == "μ" or self.attention == "softmax":
            return Status()
        return linear_status(self.rates, times[:, None], self.v0, self.gain)

    def sparsest(self) -> tuple[float, float]:
        """When attention is sparsest and its entropy then; 0 where it only gets denser, ∞ where only sparser.

        It is the same state on both clocks. The plain one, τ, reads t = Σ uₖ(τ) on the normalised one.
        """
        found = sparsest_time(self.rates, self.v0, self.gain)
        time, entropy = float(found.time), float(found.entropy_nats)
        if self.attention == "softmax" or time == 0.0 or math.isinf(time):
            return time, entropy

        def ahead(log_tau: float) -> float:
            u = log_convergence(self.rates, math.exp(log_tau), self.v0, self.gain)
            return math.log(float(torch.as_tensor(u).sum()) / time)

        from scipy.optimize import brentq

        fastest = self.gain * float(torch.maximum(self.rates.abs(), self.v0.abs()).max()) ** 2
        count = math.log(len(self.rates))
        low, high = math.log(time) - count - fastest, math.log(time) - count
        return math.exp(brentq(ahead, low - 1e-6, high + 1e-6, xtol=1e-14, rtol=1e-14)), entropy


@dataclass(frozen=True, eq=False)
class Solution:
    """What dynamics do at some times.

    Args:
        dynamics: which.
        times: (T,) increasing.
        v: (T, M).
        entropy: (T,) of the attention softmax(α v²), nats.
        sparsest: when attention is sparsest and its entropy then, μ only (see ``Dynamics.sparsest``).
        status: whether the dynamics exist at all these times.
    """

    dynamics: Dynamics
    times: torch.Tensor
    v: torch.Tensor
    entropy: torch.Tensor
    sparsest: tuple[float, float] | None
    status: Status


def solve(dynamics: Dynamics, times: Sequence[float]) -> Solution:
    """Solve the dynamics at these times (at least 0, increasing).

    Raises:
        InvalidArgument: the numbers would leave float64.
    """
    at = torch.tensor(times, dtype=REAL)
    v = dynamics.v(at)
    sparsest = dynamics.sparsest() if dynamics.symbol == "μ" else None
    return Solution(dynamics, at, v, dynamics.entropy(at, v), sparsest, dynamics.status(at))


def solution_record(solution: Solution) -> dict[str, Any]:
    """Plain data that survives strict JSON: what is infinite or does not exist is null, and a status says why."""
    dynamics = solution.dynamics
    record: dict[str, Any] = {
        "mu" if dynamics.symbol == "μ" else "delta": dynamics.rates.tolist(),
        "v0": dynamics.v0.tolist(),
        "gain": dynamics.gain,
        "attention": dynamics.attention,
        "t": solution.times.tolist(),
        "v": finite_or_none(solution.v.tolist()),
        "entropy_nats": finite_or_none(solution.entropy.tolist()),
        "status": {"name": solution.status.name, "cause": solution.status.cause, "remedy": solution.status.remedy},
    }
    if solution.sparsest is None:
        blow_ups = dynamics.blow_ups.tolist()
        return record | {
            "winners": dynamics.winners,
            "blow_up_times": finite_or_none(blow_ups) if dynamics.attention == "exp" else [None] * len(blow_ups),
        }
    time, entropy = solution.sparsest
    inner = _is_inner(solution)
    return record | {
        "sparsest": {
            "status": "reached" if inner else "at the start" if time == 0.0 else "only in the limit of late times",
            "t": None if math.isinf(time) else time,
            "entropy_nats": entropy,
            "v": dynamics.v(torch.tensor([time], dtype=REAL))[0].tolist(),
        }
    }


def solution_table(solution: Solution, width: int) -> Table:
    """One row per time, with the sparsest one put where it belongs, as many components as fit.

    Args:
        solution: what to show.
        width: of the terminal, in characters.
    """
    dynamics = solution.dynamics
    num = min(len(dynamics.rates), max(1, (width - 40) // 10))
    rest = len(dynamics.rates) - num
    table = Table(title_justify="left", caption_justify="left", caption=_rest(rest) if rest else None)
    table.add_column("t", justify="right", no_wrap=True)
    for name in _names(dynamics)[:num]:
        table.add_column(Text(name.replace(", ", "\n")), justify="right", no_wrap=True)
    table.add_column("entropy\nin nats", justify="right", no_wrap=True)
    for time, v, entropy, is_sparsest in _rows(solution):
        cells = [f"{time:.6g}", *map(format_extended, (*v[:num], entropy))]
        table.add_row(*cells, *["sparsest"][:is_sparsest], style="bold" if is_sparsest else None)
    return table


def conclusion(solution: Solution) -> str:
    """What to know beside the numbers: when attention is sparsest, who wins, where the dynamics end."""
    dynamics = solution.dynamics
    if solution.sparsest is not None:
        time, entropy = solution.sparsest
        nats = f"{format_number(entropy)} nats"
        if time == 0.0:
            return f"Attention is sparsest at the start: {nats}."
        if math.isinf(time):
            return f"Attention is sparsest in the end: it tends to {nats}."
        return f"Attention is sparsest at t = {time:.6g}: {nats}; then it gets denser again."
    if not dynamics.winners:
        return "Nothing moves: every Δ is 0."
    first = float(dynamics.blow_ups.min())
    who = " and ".join(f"v[{index}]" for index in dynamics.winners)
    takes = f"{who} {'takes' if len(dynamics.winners) == 1 else 'take'} all attention in the end"
    if dynamics.attention == "softmax":
        return f"{takes}, without ever becoming infinite; with --attention exp that happens at t = {first:.6g}."
    ends = ", ".join(
        f"v[{index}] at t = {time:.6g}" for index, time in enumerate(dynamics.blow_ups.tolist()) if time < math.inf
    )
    past = "" if solution.status.ok else " Past the first one the dynamics of this attention do not exist any more."
    return f"{takes}. Blow-ups: {ends}.{past}"


def solution_charts(solution: Solution) -> tuple[Chart, Chart]:
    """v(t) and entropy(t), drawn from the exact solution between the first and the last time asked for."""
    dynamics = solution.dynamics
    grid = _grid(solution)
    v = dynamics.v(grid)
    entropy = dynamics.entropy(grid, v)
    marks = _marks(solution, float(grid[-1]))
    kind = "softmax attention" if dynamics.attention == "softmax" else "attention exp(αv²)"
    what = f"{'Nonlinear' if dynamics.symbol == 'μ' else 'Linear'} MLP, {kind}, α = {dynamics.gain:.4g}"
    return (
        Chart("v", what, "Each component of v over time.", "t", "v(t)", _components(dynamics, grid, v), marks),
        Chart(
            "entropy",
            "Attention entropy",
            conclusion(solution),
            "t",
            "entropy of softmax(αv²), nats",
            (_curve("entropy", grid, entropy),),
            marks,
        ),
    )


def _is_inner(solution: Solution) -> bool:
    return solution.sparsest is not None and 0.0 < solution.sparsest[0] < math.inf


def _rows(solution: Solution) -> list[tuple[float, list[float], float, bool]]:
    parts = (solution.times.tolist(), solution.v.tolist(), solution.entropy.tolist())
    rows = [(time, v, entropy, False) for time, v, entropy in zip(*parts, strict=True)]
    if solution.sparsest is not None and not math.isinf(solution.sparsest[0]):
        time, entropy = solution.sparsest
        v = solution.dynamics.v(torch.tensor([time], dtype=REAL))[0].tolist()
        rows = [row for row in rows if row[0] != time] + [(time, v, entropy, True)]
    return sorted(rows, key=lambda row: row[0])


def _grid(solution: Solution) -> torch.Tensor:
    """Times to draw: even ones, those asked for, and ever closer ones before the first blow-up, where it ends."""
    start, end = float(solution.times[0]), float(solution.times[-1])
    extra = [solution.times]
    if _is_inner(solution) and solution.sparsest is not None and end < solution.sparsest[0] <= _REACH * end:
        end = 2 * solution.sparsest[0]
    first = solution.dynamics.blow_ups.min()
    if solution.dynamics.attention == "exp" and first <= end:
        end = float(first)
        extra.append(first * (1 - torch.logspace(-1, -12, 45, dtype=REAL)))
    if start >= end:
        start = 0.0
    grid = torch.cat([torch.linspace(start, end, _POINTS, dtype=REAL), *extra])
    return grid[(grid >= start) & (grid <= end)].unique()


def _curve(name: str, times: torch.Tensor, values: torch.Tensor) -> Curve:
    there = values.isfinite()
    return Curve(name, times[there].tolist(), values[there].tolist())


def _components(dynamics: Dynamics, times: torch.Tensor, v: torch.Tensor) -> tuple[Curve, ...]:
    """One curve each, as far as colours go; those of smaller rates are then put together."""
    order = dynamics.rates.abs().argsort(descending=True, stable=True).tolist()
    own = order if len(order) <= _OWN_COLOURS else order[: _OWN_COLOURS - 1]
    names = _names(dynamics)
    curves = [_curve(names[index], times, v[:, index]) for index in sorted(own)]
    rest = v[:, order[len(own) :]]
    if rest.shape[-1]:
        there = rest.isfinite().all(-1)
        parts = (rest.median(-1).values, rest.amin(-1), rest.amax(-1))
        middle, low, high = (part[there].tolist() for part in parts)
        name = f"{rest.shape[-1]} others: median, range"
        curves.append(Curve(name, times[there].tolist(), middle, low, high, role="context"))
    return tuple(curves)


def _marks(solution: Solution, end: float) -> tuple[Mark, ...]:
    if solution.sparsest is not None:
        time = solution.sparsest[0]
        return (Mark("x", time, f"sparsest, t = {time:.4g}"),) if _is_inner(solution) and time <= end else ()
    if solution.dynamics.attention == "softmax" or not solution.dynamics.winners:
        return ()
    first, who = float(solution.dynamics.blow_ups.min()), solution.dynamics.winners[0]
    return (Mark("x", first, f"v[{who}] infinite, t = {first:.4g}"),) if first <= end else ()


def _names(dynamics: Dynamics) -> list[str]:
    return [f"v[{index}], {dynamics.symbol} = {rate:.4g}" for index, rate in enumerate(dynamics.rates.tolist())]


def _rest(num: int) -> str:
    return f"and {num} more component{'s' * (num > 1)}: --json gives all"


def finite_or_none(values: Sequence[Any]) -> list[Any]:
    """Nested lists of numbers with null in place of what JSON has no word for."""
    return [finite_or_none(v) if isinstance(v, list) else v if math.isfinite(v) else None for v in values]
