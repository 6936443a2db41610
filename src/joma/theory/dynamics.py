"""The four dynamics that have an exact solution, under one name: μ or Δ, with softmax or plain attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float

from joma.arrays import REAL
from joma.records import Status
from joma.theory.linear import blow_up_time, linear_solution, linear_status
from joma.theory.nonlinear import log_convergence, nonlinear_solution
from joma.theory.normalized import entropy_of_squares, normalized_solution, sparsest_time
from joma.theory.normalized_linear import linear_attention_entropy_over_time, normalized_linear_solution

Symbol = Literal["μ", "Δ"]

_FINE = 400
_REACH = 10.0
"""A fine solution runs on to the sparsest time where that is at most so many times as late as the last time."""


class Moment(NamedTuple):
    """When attention is sparsest.

    Args:
        time: 0 where it only gets denser, ∞ where only sparser.
        entropy: of the attention then, nats.
        v: (M,) then.
    """

    time: float
    entropy: float
    v: Float[torch.Tensor, " M"]

    @property
    def is_inner(self) -> bool:
        """Whether attention first gets sparser and then denser."""
        return 0.0 < self.time < math.inf


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One of the four dynamics: μ or Δ, plain or softmax attention.

    Args:
        symbol: ``μ`` for a nonlinear MLP, ``Δ`` for a linear one.
        rates: (M,) μ or Δ of each component.
        v0: (M,) v(0).
        gain: α of the exponent α v², above 0.
        attention: ``softmax`` shares one attention between the components, ``exp`` does not normalise.
    """

    symbol: Symbol
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

    def sparsest(self) -> Moment:
        """When attention is sparsest, of μ only.

        It is the same state on both clocks. The plain one, τ, reads t = Σ uₖ(τ) on the normalised one.
        """
        found = sparsest_time(self.rates, self.v0, self.gain)
        time, entropy = float(found.time), float(found.entropy_nats)
        if self.attention == "exp" and 0.0 < time < math.inf:
            time = self._plain(time)
        return Moment(time, entropy, self.v(torch.tensor([time], dtype=REAL))[0])

    def _plain(self, time: float) -> float:
        """The τ of a time of the normalised clock."""
        from scipy.optimize import brentq

        def ahead(log_tau: float) -> float:
            u = log_convergence(self.rates, math.exp(log_tau), self.v0, self.gain)
            return math.log(float(torch.as_tensor(u).sum()) / time)

        fastest = self.gain * float(torch.maximum(self.rates.abs(), self.v0.abs()).max()) ** 2
        count = math.log(len(self.rates))
        low, high = math.log(time) - count - fastest, math.log(time) - count
        return math.exp(brentq(ahead, low - 1e-6, high + 1e-6, xtol=1e-14, rtol=1e-14))


def paper_figure4(symbol: Symbol = "μ", rates: torch.Tensor | None = None) -> Dynamics:
    """The dynamics of the paper's Figure 4: ten components that start at 0.05, softmax attention of gain 1/3.

    Args:
        symbol: with ``Δ`` the same numbers drive a linear MLP.
        rates: of the components, in place of ten even ones from 1 to 4.
    """
    rates = torch.linspace(1, 4, 10, dtype=REAL) if rates is None else rates
    return Dynamics(symbol, rates, torch.full_like(rates, 0.05), 1 / 3, "softmax")


@dataclass(frozen=True, eq=False)
class Solution:
    """What dynamics do at some times.

    Args:
        dynamics: which.
        times: (T,) increasing.
        v: (T, M).
        entropy: (T,) of the attention softmax(α v²), nats.
        sparsest: when attention is sparsest, μ only.
        status: whether the dynamics exist at all these times.
    """

    dynamics: Dynamics
    times: torch.Tensor
    v: torch.Tensor
    entropy: torch.Tensor
    sparsest: Moment | None
    status: Status

    def fine(self) -> Solution:
        """The same at even times, those asked for, and ever closer ones before the first blow-up, where it ends."""
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
