"""Softmax attention over a linear MLP: v̇ = Δ∘exp(α v²)/Z. One component takes all attention and grows without bound.

It is the dynamics of ``joma.theory.linear`` in another time variable τ, dt = Z dτ. The progress s = (v − v₀)/Δ of a
component has ds/dτ = exp(α v²), so that t = Σ s. All t correspond to τ < τ*, the first blow-up without normalisation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from joma.arrays import Real, as_real, numpy_in_numpy_out
from joma.errors import InvalidArgument
from joma.theory.linear import place_on_normal, within_reach
from joma.theory.normalized import entropy_of_squares, one_time_less, read_problem, runge_kutta

_CLOCK_ERROR = 1e-5  # small enough for one Runge–Kutta step to remove it to rounding
_FARTHEST_START = 30.0  # exp(v²/2) is finite in float64
_LAST_SHARE = 700.0  # −ln of the smallest share of the time to the first blow-up in a course
_PER_DECADE, _EVENLY = 16, 1024  # points of a course
_MAX_SEARCH = 300  # Newton steps and halvings; halvings alone would need fewer


@numpy_in_numpy_out
def normalized_linear_solution(delta: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return v(t) of v̇ = Δ∘exp(α v²)/Σ exp(α v²), exactly: the linear dynamics under softmax attention.

    >>> import joma
    >>> joma.normalized_linear_solution([2.0, 1.0], [0.5, 1.0])  # a row for each time
    tensor([[0.5081, 0.2460],
            [1.0706, 0.4647]], dtype=torch.float64)

    Claims: theorem2, nonlinear.sparse_then_dense. These dynamics exist for all time.

    Args:
        delta: (..., M) Δ, finite; the components along the last axis share one attention.
        t: () or (T,) or (..., T) times, at least 0; ∞ allowed.
        v0: v(0), at most 30/√(2α) in size; broadcasts against ``delta``.
        gain: α, above 0, one number.

    Returns:
        (..., T, M) v; (..., M) if t is one number. At t = ∞ the winner (or all equal winners) is infinite. Not
        differentiable: arguments that require a gradient are refused.
    """
    problem = read_problem("normalized_linear_solution", "delta", delta, t, v0, gain)
    if any(part.requires_grad for part in problem):
        raise InvalidArgument(
            "normalized_linear_solution",
            "delta",
            required="no argument that requires a gradient",
            received="a tensor that requires a gradient, or another argument is",
            remedy="pass tensors after .detach()",
        )
    scale = torch.sqrt(2 * problem.gain)
    within_reach("normalized_linear_solution", "v0", problem.v0, scale, _FARTHEST_START)
    race = _race(problem.mu * scale, problem.v0 * scale)
    v = _solve(race, problem.t) / scale
    if torch.isnan(v).any():
        longest = problem.t[problem.t.isfinite()].max()
        raise InvalidArgument(
            "normalized_linear_solution",
            "delta",
            required="Δ and t whose product can be squared in double precision",
            received=f"as large as {problem.mu.abs().max():.3g} for a time of {longest:.3g}",
            remedy="scale Δ down and t up by the same factor, or pass t = ∞",
        )
    return one_time_less(t, v, 2)


@numpy_in_numpy_out
def linear_attention_entropy_over_time(delta: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the entropy of softmax(α v(t)²) in nats, along the exact solution ``normalized_linear_solution``.

    Claims: nonlinear.sparse_then_dense, text.mechanism. Arguments as there.

    Returns:
        (..., T) entropies between 0 and ln M; (...) if t is one number.
    """
    v = torch.as_tensor(normalized_linear_solution(delta, t, v0, gain))
    # At infinite time the winners share attention equally, which any equal large values represent.
    infinite = torch.isinf(v)
    v = torch.where(infinite.any(dim=-1, keepdim=True), torch.where(infinite, 1e9, 0.0), v)
    return entropy_of_squares(v, as_real(gain, "linear_attention_entropy_over_time", "gain").to(v.device))


def linear_entropy_course(delta: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the attention entropy in nats, (..., N), from start to first blow-up, close enough to show every turn.

    It is the same with and without normalisation, in which case the blow-up takes for ever. Arguments as in
    ``normalized_linear_solution``.
    """
    problem = read_problem("linear_entropy_course", "delta", delta, 0.0, v0, gain).detached()
    scale = torch.sqrt(2 * problem.gain)
    within_reach("linear_entropy_course", "v0", problem.v0, scale, _FARTHEST_START)
    race = _race(problem.mu * scale, problem.v0 * scale)
    fastest = float(race.start.abs().max()) if race.start.numel() else 0.0
    first, last = -8 - fastest**2 / 2 / math.log(10), math.log10(_LAST_SHARE)
    close = torch.logspace(first, last, int(_PER_DECADE * (last - first)), dtype=race.delta.dtype)
    shares = torch.linspace(0, 1, _EVENLY, dtype=race.delta.dtype)[:-1]
    z = torch.cat([close, -torch.log1p(-shares)]).sort().values.to(race.delta.device)
    y, _ = _places(race, z[:, None])
    return entropy_of_squares(y, torch.full_like(problem.gain, 0.5))


class _Race(NamedTuple):
    """Components at gain ½, mirrored so that all v increase; every tensor is (..., 1, M) or (..., 1, 1).

    Args:
        delta: |Δ|.
        start: the mirrored v(0).
        side: the sign that undoes the mirroring.
        log_first: ln of the first blow-up time τ*, 0 if nothing moves.
        log_lag: ln of the delay of each blow-up after the first one, −∞ for the winner.
    """

    delta: torch.Tensor
    start: torch.Tensor
    side: torch.Tensor
    log_first: torch.Tensor
    log_lag: torch.Tensor


def _race(delta: torch.Tensor, v0: torch.Tensor) -> _Race:
    delta, v0 = torch.broadcast_tensors(delta, v0)
    side = torch.where(delta < 0, -1.0, 1.0).to(delta)
    start = side * v0
    # Logarithms of blow-up times, because these can be as small as exp(−v₀²/2).
    times = torch.special.log_ndtr(-start) - torch.log(delta.abs()) + math.log(2 * math.pi) / 2
    first = times.amin(dim=-1, keepdim=True)
    moving = torch.isfinite(first)
    ahead = torch.where(moving, first, 0.0) - times
    lag = torch.where(moving, times + torch.log(-torch.expm1(ahead)), torch.inf)
    return _Race(delta.abs(), start, side, torch.where(moving, first, 0.0), lag)


def _places(race: _Race, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """v of all components, and their progress, when the share e⁻ᶻ of the time to the first blow-up is left."""
    elapsed = -torch.exp(race.log_first) * torch.expm1(-z)
    rate = race.delta / math.sqrt(2 * math.pi)
    log_above = torch.log(rate) + torch.logaddexp(race.log_lag, race.log_first - z)
    still = race.delta == 0
    log_above = torch.where(still, torch.special.log_ndtr(-race.start), log_above)
    y = torch.where(still, race.start, place_on_normal(race.start, rate * elapsed, log_above))
    progress = torch.where(still, torch.exp(race.start.square() / 2) * elapsed, (y - race.start) / race.delta)
    return y, progress


def _solve(race: _Race, t: torch.Tensor) -> torch.Tensor:
    """v of all components at the times t = Σ s: Newton's method in z within a bracket, then one Runge–Kutta step."""
    nothing_moves = (race.delta == 0).all(dim=-1, keepdim=True)
    forever = torch.isinf(t) & ~nothing_moves
    t = torch.where(torch.isinf(t) | nothing_moves, 0.0, t)
    # The winner's progress is at most t, which bounds z.
    wins = torch.isneginf(race.log_lag)
    farthest = torch.special.log_ndtr(-race.start) - torch.special.log_ndtr(-race.start - race.delta * t)
    high = torch.where(wins, farthest, 0.0).amax(dim=-1, keepdim=True)
    z, low = high, torch.zeros_like(high)
    for _ in range(_MAX_SEARCH):
        y, progress = _places(race, z)
        ahead = progress.sum(dim=-1, keepdim=True) - t
        low, high = torch.where(ahead < 0, z, low), torch.where(ahead > 0, z, high)
        done = (ahead.abs() <= _CLOCK_ERROR) | (high - low <= 4 * torch.finfo(t.dtype).eps * high)
        if bool(done.all()):
            break
        log_slope = torch.logsumexp(y.square() / 2, dim=-1, keepdim=True) + race.log_first - z
        newton = z - ahead * torch.exp(-log_slope)
        z = torch.where(done, z, torch.where((newton > low) & (newton < high), newton, (low + high) / 2))
    y, progress = _places(race, torch.where(forever, torch.inf, z))
    remaining = torch.where(forever | nothing_moves, 0.0, t - progress.sum(dim=-1, keepdim=True))
    ended = runge_kutta(lambda y: race.delta * torch.softmax(y.square() / 2, dim=-1), y, remaining)
    return race.side * torch.where(forever, y, ended)
