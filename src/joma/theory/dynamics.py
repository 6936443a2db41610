"""One interface to the four dynamics with exact solutions: μ or Δ, with softmax or unnormalised attention."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float

from joma.arrays import REAL
from joma.records import Status
from joma.theory.linear import blow_up_time, linear_solution, linear_status
from joma.theory.nonlinear import log_convergence, nonlinear_solution
from joma.theory.normalized import ROUNDING, entropy_course, entropy_of_squares, normalized_solution, sparsest_time
from joma.theory.normalized_linear import (
    linear_attention_entropy_over_time,
    linear_entropy_course,
    normalized_linear_solution,
)

Symbol = Literal["μ", "Δ"]

_FINE = 400
_REACH = 10.0
"""A fine solution is extended to the sparsest time if that is at most this multiple of the last time."""


class Moment(NamedTuple):
    """The time at which attention is sparsest.

    Args:
        time: 0 if attention is never sparser than at the start, ∞ if it is sparsest in the limit of late times.
        entropy: of the attention at that time, nats.
        v: (M,) at that time.
    """

    time: float
    entropy: float
    v: Float[torch.Tensor, " M"]

    @property
    def is_inner(self) -> bool:
        """Whether attention is sparsest at a time between start and limit."""
        return 0.0 < self.time < math.inf


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One of the four dynamics: μ or Δ, unnormalised or softmax attention.

    Args:
        symbol: ``μ`` for a nonlinear MLP, ``Δ`` for a linear one.
        rates: (M,) μ or Δ of each component.
        v0: (M,) v(0).
        gain: α of the exponent α v², above 0.
        attention: ``softmax`` normalises over the components, ``exp`` does not.
    """

    symbol: Symbol
    rates: torch.Tensor
    v0: torch.Tensor
    gain: float
    attention: Literal["softmax", "exp"]

    def v(self, times: torch.Tensor) -> torch.Tensor:
        """Return v, (T, M); infinite after a blow-up."""
        if self.attention == "exp":
            solution = nonlinear_solution if self.symbol == "μ" else linear_solution
            return torch.as_tensor(solution(self.rates, times[:, None], self.v0, self.gain))
        solution = normalized_solution if self.symbol == "μ" else normalized_linear_solution
        return torch.as_tensor(solution(self.rates, times, self.v0, self.gain))

    def entropy(self, times: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the entropy of softmax(α v²) in nats, (T,); NaN after the first blow-up."""
        if self.symbol == "Δ" and self.attention == "softmax":
            return torch.as_tensor(linear_attention_entropy_over_time(self.rates, times, self.v0, self.gain))
        entropy = entropy_of_squares(v, self.gain)
        return torch.where(v.isinf().any(-1), torch.nan, entropy)

    @property
    def blow_ups(self) -> torch.Tensor:
        """The time at which each component becomes infinite without normalisation, (M,); ∞ if it never does."""
        if self.symbol == "μ":
            return torch.full_like(self.rates, torch.inf)
        return torch.as_tensor(blow_up_time(self.rates, self.v0, self.gain))

    @property
    def winners(self) -> list[int]:
        """The components that take all attention in the limit: the first to blow up, also with softmax attention."""
        times = self.blow_ups
        return torch.nonzero(times.isfinite() & (times == times.min())).flatten().tolist()

    def status(self, times: torch.Tensor) -> Status:
        """Report whether the dynamics exist at all these times, and if not, the first blow-up."""
        if self.symbol == "μ" or self.attention == "softmax":
            return Status()
        return linear_status(self.rates, times[:, None], self.v0, self.gain)

    def sparsest(self) -> Moment:
        """Return the time of the sparsest attention; for μ only.

        With and without normalisation it is the same state v, at the times t and τ with t = Σ uₖ(τ).
        """
        found = sparsest_time(self.rates, self.v0, self.gain)
        time, entropy = float(found.time), float(found.entropy_nats)
        v = torch.as_tensor(normalized_solution(self.rates, time, self.v0, self.gain))
        if self.attention == "exp" and 0.0 < time < math.inf:
            time = self._unnormalised(time)
        return Moment(time, entropy, v)

    @functools.cached_property
    def course(self) -> str:
        """How the attention entropy goes over all time, or up to the first blow-up.

        ``constant``, ``only gets sparser``, ``only gets denser``, or its turns in words: ``sparse, then dense``.
        """
        entropy_over_time = entropy_course if self.symbol == "μ" else linear_entropy_course
        entropy = entropy_over_time(self.rates, self.v0, self.gain)
        rises = _turns(entropy.clamp(min=torch.finfo(REAL).tiny).log().tolist())
        if len(rises) < 2:
            return f"only gets {'denser' if rises[0] else 'sparser'}" if rises else "constant"
        return ", then ".join("dense" if rise else "sparse" for rise in rises)

    def _unnormalised(self, time: float) -> float:
        """The time τ without normalisation at which the state is that of ``time`` with it."""
        from scipy.optimize import brentq

        def ahead(log_tau: float) -> float:
            u = log_convergence(self.rates, math.exp(log_tau), self.v0, self.gain)
            return math.log(float(torch.as_tensor(u).sum()) / time)

        fastest = self.gain * float(torch.maximum(self.rates.abs(), self.v0.abs()).max()) ** 2
        count = math.log(len(self.rates))
        low, high = math.log(time) - count - fastest, math.log(time) - count
        return math.exp(brentq(ahead, low - 1e-6, high + 1e-6, xtol=1e-14, rtol=1e-14))


def _turns(values: Iterable[float]) -> list[bool]:
    """Whether the values rise, for each stretch over which they only rise or only fall by more than rounding."""
    rises: list[bool] = []
    low, high = math.inf, -math.inf  # since the last turn
    for value in values:
        low, high = min(low, value), max(high, value)
        moved = {True: value - low, False: high - value}
        if turned := [rise for rise in moved if moved[rise] > ROUNDING and rises[-1:] != [rise]]:
            rises, low, high = rises + turned, value, value
    return rises


def paper_figure4(symbol: Symbol = "μ", rates: torch.Tensor | None = None) -> Dynamics:
    """Return the dynamics of the paper's Figure 4: ten components, v(0) = 0.05, softmax attention, gain 1/3.

    Args:
        symbol: ``Δ`` for a linear MLP with the same numbers.
        rates: of the components; by default ten evenly spaced ones from 1 to 4.
    """
    rates = torch.linspace(1, 4, 10, dtype=REAL) if rates is None else rates
    return Dynamics(symbol, rates, torch.full_like(rates, 0.05), 1 / 3, "softmax")


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of the dynamics at given times.

    Args:
        dynamics: the dynamics solved.
        times: (T,) increasing.
        v: (T, M).
        entropy: (T,) of the attention softmax(α v²), nats.
        sparsest: the time of the sparsest attention, μ only.
        status: whether the dynamics exist at all these times.
    """

    dynamics: Dynamics
    times: torch.Tensor
    v: torch.Tensor
    entropy: torch.Tensor
    sparsest: Moment | None
    status: Status

    def fine(self) -> Solution:
        """Return the solution for drawing: at the given times, evenly spaced ones, and dense ones before a blow-up."""
        start, end = float(self.times[0]), float(self.times[-1])
        extra = [self.times]
        if self.sparsest is not None and self.sparsest.is_inner and end < self.sparsest.time <= _REACH * end:
            end = 2 * self.sparsest.time
        first = self.dynamics.blow_ups.min()
        if self.dynamics.attention == "exp" and first <= end:
            end = float(first)
            extra.append(first * (1 - torch.logspace(-1, -12, 45, dtype=REAL)))
        if start >= end:
            start = 0.0
        times = torch.cat([torch.linspace(start, end, _FINE, dtype=REAL), *extra])
        times = times[(times >= start) & (times <= end)].unique()
        v = self.dynamics.v(times)
        return replace(self, times=times, v=v, entropy=self.dynamics.entropy(times, v))


def solve(dynamics: Dynamics, times: Sequence[float] | torch.Tensor) -> Solution:
    """Solve the dynamics at these times (at least 0, increasing).

    Raises:
        InvalidArgument: the numbers would leave float64.
    """
    at = torch.as_tensor(times, dtype=REAL)
    v = dynamics.v(at)
    sparsest = dynamics.sparsest() if dynamics.symbol == "μ" else None
    return Solution(dynamics, at, v, dynamics.entropy(at, v), sparsest, dynamics.status(at))
