"""Softmax attention over a nonlinear MLP: the dynamics without normalisation, in another time variable.

v̇ = (μ − v)∘exp(α v²)/Z with Z = Σ exp(α v²) is the dynamics of ``joma.theory.nonlinear`` in a time τ with
dt = Z dτ. Since exp(α v²) = du/dτ, no quadrature is needed: t = Σ u over all components. The rate of each u is the
attention that its component receives, and attention sums to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from joma.arrays import Real, as_real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device, wrong_shape
from joma.domains import NON_NEGATIVE
from joma.theory.fast import FARTHEST as FARTHEST_TOGETHER
from joma.theory.fast import FAST, Path
from joma.theory.inversion import late_offset_of
from joma.theory.linear import check_components, read_dynamics, within_reach
from joma.theory.nonlinear import FARTHEST, converged_by, convergence

_CLOCK_ERROR = 1e-4  # small enough for one Runge–Kutta step (error of fifth order) to remove it to rounding
_MAX_SEARCH = 200  # Newton steps and halvings; bisection alone would need fewer
_GRID = 512  # times at which entropy is computed to bracket its minimum
_SETTLED = 40.0  # u of a component whose distance from its target is below rounding
_SATURATED = 1e-4  # attention outside the largest; below it, sums leave the largest out to keep digits
_DIFFERENTIABLE = 6.0  # at gain ½; derivatives at a common τ are exp(v²/2) times those at a common t
ROUNDING = 1e-12
"""Relative differences of entropy up to here are treated as rounding."""


class Sparsest(NamedTuple):
    """The time at which attention is sparsest, and its entropy then.

    Args:
        time: (...) in units of t; 0 if entropy never falls below its initial value, ∞ if it never rises again.
        entropy_nats: (...) the lowest entropy.
    """

    time: torch.Tensor
    entropy_nats: torch.Tensor


@numpy_in_numpy_out
def normalized_solution(mu: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return v(t) of v̇ = (μ − v)∘exp(α v²)/Σ exp(α v²), exact to rounding.

    >>> import joma
    >>> joma.normalized_solution([3.0, 1.0], [0.5, 1.0])  # a row for each time
    tensor([[0.6847, 0.2141],
            [1.2970, 0.3519]], dtype=torch.float64)

    Claim: nonlinear.sparse_then_dense. Assumptions as for ``nonlinear_solution``, with softmax attention.

    Args:
        mu: (..., M) μ, finite; the components along the last axis share one attention.
        t: () or (T,) times, or (..., T) with leading axes that broadcast against those of ``mu``; at least 0, ∞
            allowed.
        v0: v(0), finite; broadcasts against ``mu``.
        gain: α, above 0, one number.

    Returns:
        (..., T, M) v; (..., M) if t is one number. Correct to 1e-12, or to what rounding ``mu``, ``v0`` and ``t`` can
        change: a component that jumps at a late time t does so at t (1 ± 1e-14).

    Raises:
        InvalidArgument: of several components, |μ| or |v₀| above 36/√(2α), or above 6/√(2α) with gradients.
    """
    problem = read_problem("normalized_solution", "mu", mu, t, v0, gain)
    return one_time_less(t, problem.v(_converged(problem)), 2)


@numpy_in_numpy_out
def attention_entropy_over_time(mu: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the entropy of softmax(α v(t)²) in nats, along the exact solution ``normalized_solution``.

    Claim: nonlinear.sparse_then_dense. Arguments as in ``normalized_solution``.

    Returns:
        (..., T) entropies between 0 and ln M; (...) if t is one number.
    """
    problem = read_problem("attention_entropy_over_time", "mu", mu, t, v0, gain)
    v = problem.v(_converged(problem))
    return one_time_less(t, entropy_of_squares(v, problem.gain), 1)


@numpy_in_numpy_out
def sparsest_time(mu: Real, v0: Real = 0.0, gain: Real = 0.5) -> Sparsest:
    """Return the time at which the attention of ``normalized_solution`` is sparsest, and its entropy then.

    >>> import joma
    >>> found = joma.sparsest_time([3.0, 2.0, 1.0, 0.5])
    >>> round(float(found.time), 3), round(float(found.entropy_nats), 4)
    (9.051, 0.2311)

    Claim: nonlinear.sparse_then_dense. Arguments as there. The dynamics without normalisation have
    the same lowest entropy, at another time.
    """
    problem = read_problem("sparsest_time", "mu", mu, 0.0, v0, gain)
    time, moving = _lowest(problem.detached())
    entropy, rate = _entropy_and_rate(problem.at(time[..., None]))
    if rate.requires_grad:
        leaf = time.detach()[..., None].requires_grad_()
        steady = _entropy_and_rate(problem.detached().at(leaf))[1]
        (curvature,) = torch.autograd.grad(steady.sum(), leaf)
        step = rate / curvature.clamp(min=torch.finfo(rate.dtype).tiny)
        time = time - torch.where(moving, (step - step.detach())[..., 0], 0.0)
    return Sparsest(time, entropy[..., 0])


def entropy_course(mu: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the attention entropy in nats, (..., N), from start to rest at times close enough to show every turn.

    It is the same with and without normalisation. Arguments as in ``normalized_solution``.
    """
    problem = read_problem("entropy_course", "mu", mu, 0.0, v0, gain).detached()
    scale = torch.sqrt(2 * problem.gain)
    is_alone = problem.mu.shape[-1] == 1
    u = torch.zeros_like(problem.mu) if is_alone else Path(problem.mu * scale, problem.v0 * scale).course()
    return entropy_of_squares(problem.v(u), problem.gain)


def entropy_of_squares(v: torch.Tensor, gain: torch.Tensor | float) -> torch.Tensor:
    """Return the entropy of softmax(α v²) over the last axis, in nats, to full relative precision."""
    log_attention = torch.log_softmax(gain * v.square(), dim=-1)
    entropy = (log_attention.exp() * -log_attention).sum(dim=-1)
    behind, rest = _behind_the_largest(v, gain)
    ahead = torch.log1p(rest) - (behind.exp() * behind).sum(dim=-1) / (1 + rest)
    return torch.where(rest < _SATURATED, ahead, entropy)


def _behind_the_largest(v: torch.Tensor, gain: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
    """α v² less its largest value, at most 0, and the sum of the exponentials of the others."""
    size, place = v.abs().max(dim=-1, keepdim=True)
    behind = gain * (v.abs() - size) * (v.abs() + size)
    return behind, behind.exp().scatter(-1, place, 0.0).sum(dim=-1)


class Problem(NamedTuple):
    """Checked arguments: mu and v0 are (..., 1, M), t is (..., T, 1), none of them scaled by the gain."""

    mu: torch.Tensor
    t: torch.Tensor
    v0: torch.Tensor
    gain: torch.Tensor

    def at(self, t: torch.Tensor) -> Problem:
        """Return the same problem at other times (..., T)."""
        return self._replace(t=t[..., None])

    def detached(self) -> Problem:
        """Return the same numbers without gradients."""
        return Problem(*(part.detach() for part in self))

    def v(self, u: torch.Tensor) -> torch.Tensor:
        """Return v from u."""
        return converged_by(u, self.mu, self.v0)


def read_problem(function: str, parameter: str, mu: Real, t: Real, v0: Real, gain: Real) -> Problem:
    """Check the arguments of a function whose components share one attention; ``parameter`` is its name for μ."""
    mu, _, v0, scale = read_dynamics(function, (parameter, mu), 0.0, ("v0", v0), gain)
    t, gain, mu, v0, scale = on_one_device(
        as_real_in(NON_NEGATIVE, t, function, "t"), as_real(gain, function, "gain"), mu, v0, scale
    )
    check_components(function, parameter, mu)
    if gain.ndim:
        required = "one number, because all components share one attention"
        raise wrong_shape(function, "gain", required, gain, "call the function once per gain")
    if parameter == "mu":
        within_reach(function, parameter, mu, scale, FARTHEST)
        within_reach(function, "v0", v0, scale, FARTHEST)
        _check_several(function, mu, v0, scale, any(part.requires_grad for part in (mu, t, v0, gain)))
    mu, v0 = torch.broadcast_tensors(mu, v0)
    check_broadcast(function, **{parameter: mu[..., :1], "t": t})  # the axes before those of components and times
    t = t[..., None] if t.ndim else t.reshape(1, 1)
    return Problem(mu[..., None, :], t, v0[..., None, :], gain)


def _check_several(function: str, mu: torch.Tensor, v0: torch.Tensor, scale: torch.Tensor, has_gradient: bool) -> None:
    """Raise ``InvalidArgument`` if several components reach farther than their common time can be resolved."""
    if torch.broadcast_shapes(mu.shape, v0.shape)[-1] > 1:
        for name, place in (("mu", mu), ("v0", v0)):
            within_reach(function, name, place, scale, _DIFFERENTIABLE if has_gradient else FARTHEST_TOGETHER)


def one_time_less(t: Real, result: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the result without the axis of times if ``t`` is one number."""
    return result if torch.as_tensor(t).ndim else result.select(-axis, 0)


def _converged(problem: Problem) -> torch.Tensor:
    """u of all components at the times t = Σ u, (..., T, M)."""
    scale = torch.sqrt(2 * problem.gain)
    mu, v0, t = problem.mu * scale, problem.v0 * scale, problem.t
    if mu.shape[-1] == 1:  # attention is 1
        return t.expand(torch.broadcast_shapes(mu.shape, t.shape))
    fast = torch.maximum(mu.abs(), v0.abs()).amax(dim=-1, keepdim=True).detach() > FAST
    has_gradient = any(part.requires_grad for part in (mu, v0, t))
    if bool(fast.all()) and fast.numel() and not has_gradient:
        return _converged_fast(mu, v0, t)
    with torch.no_grad():
        clock = _clock(mu, v0, t)
    u = convergence(mu, clock, v0)
    remaining = torch.where(torch.isinf(t), 0.0, t - u.sum(dim=-1, keepdim=True)).clamp(-1.0, 1.0)
    # τ may be too coarse to resolve fast components; u is not, because its rate (the attention) is at most 1. (More
    # than 1 remains only if t itself is that coarse, long after.)
    ended = runge_kutta(lambda u: torch.softmax(converged_by(u, mu, v0).square() / 2, dim=-1), u, remaining)
    ended = ended.clamp(min=0)
    if not bool(fast.any()):
        return ended
    derivative = torch.where(torch.isfinite(ended), ended - ended.detach(), 0.0)
    return torch.where(fast, _converged_fast(mu, v0, t) + derivative, ended)


@torch.no_grad()
def _converged_fast(mu: torch.Tensor, v0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """u at gain ½, without the rounding of τ."""
    path, finite = Path(mu, v0), torch.where(torch.isinf(t), 1.0, t)
    near = path.solve(finite)
    remaining = (finite - near.sum(dim=-1, keepdim=True)).clamp(-1.0, 1.0)
    u = runge_kutta(lambda u: torch.softmax(path.v(u).square() / 2, dim=-1), near, remaining).clamp(min=0)
    return torch.where(t == 0, 0.0, torch.where(torch.isinf(t), torch.inf, u))


def _clock(mu: torch.Tensor, v0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The τ with Σ u(τ) ≈ t, at gain ½: Newton's method within a bracket."""
    t, forever = torch.where(torch.isinf(t), 1.0, t), torch.isinf(t)
    largest = torch.exp(torch.maximum(mu.square(), v0.square()) / 2).sum(dim=-1, keepdim=True)
    low, high = torch.broadcast_tensors(t / largest, t / mu.shape[-1])
    tau = high
    for _ in range(_MAX_SEARCH):
        u = convergence(mu, tau, v0)
        ahead = u.sum(dim=-1, keepdim=True) - t
        low, high = torch.where(ahead < 0, tau, low), torch.where(ahead > 0, tau, high)
        done = (ahead.abs() <= _CLOCK_ERROR) | (high <= low * (1 + 4 * torch.finfo(t.dtype).eps))
        if bool(done.all()):
            break
        newton = tau - ahead / torch.exp(converged_by(u, mu, v0).square() / 2).sum(dim=-1, keepdim=True)
        middle = torch.where(low > 0, torch.sqrt(low * high), high / 1024)
        tau = torch.where(done, tau, torch.where((newton > low) & (newton < high), newton, middle))
    return torch.where(forever, torch.inf, tau)


def runge_kutta(rate: Callable[[Any], Any], start: Any, step: Any) -> Any:
    """Return the result of one classical Runge–Kutta step of order 4, for torch tensors or NumPy arrays."""
    first = rate(start)
    second = rate(start + step / 2 * first)
    third = rate(start + step / 2 * second)
    fourth = rate(start + step * third)
    return start + step / 6 * (first + 2 * second + 2 * third + fourth)


def _entropy_and_rate(problem: Problem, u: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy H and dH/dt = −Σ p (a − ā) ȧ with a = αv², both (..., T).

    Where few components have all attention, the rate is divided by the mean distance of a from its largest value,
    because it would underflow.

    Args:
        problem: the dynamics and the times.
        u: (..., T, M) at the times, if known.
    """
    u = _converged(problem) if u is None else u
    v = problem.v(u)
    a = problem.gain * v.square()
    attention = torch.softmax(a, dim=-1)
    behind, _ = _behind_the_largest(v, problem.gain)
    mean_behind = -(attention * behind).sum(dim=-1, keepdim=True)
    is_sparse = mean_behind < _SATURATED
    a = torch.where(is_sparse, behind, a)
    left = torch.where(is_sparse, (problem.mu - problem.v0) * torch.exp(-u), problem.mu - v)
    moving = 2 * problem.gain * v * left * attention
    apart = a - (attention * a).sum(dim=-1, keepdim=True)
    unit = torch.where(is_sparse, mean_behind, 1.0).clamp(min=torch.finfo(v.dtype).tiny)
    return entropy_of_squares(v, problem.gain), -(attention * apart / unit * moving).sum(dim=-1)


def _lowest(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """The time of the lowest entropy, (...), and whether it is strictly between start and end."""
    grid, u = _grid(problem)
    entropy, rate = _entropy_and_rate(problem.at(grid), u)
    first, last = entropy[..., 0] * (1 - ROUNDING), entropy[..., -1]
    lowest, place = entropy.min(dim=-1)
    moving = (lowest < first) & (lowest < last * (1 - ROUNDING))
    # Where entropy is flat to rounding, the sign of its rate shows where it is lowest.
    near = (entropy <= lowest[..., None] * (1 + ROUNDING)).to(torch.int8).cummax(dim=-1).values
    turn = ((rate > 0) * near).argmax(dim=-1)
    place = torch.where(((turn - place).abs() > 1) & (turn > 0), turn, place)
    low = grid.gather(-1, (place[..., None] - 1).clamp(min=0))
    high = grid.gather(-1, (place[..., None] + 1).clamp(max=grid.shape[-1] - 1))
    parts = torch.linspace(0, 1, 17).to(grid)
    for _ in range(13):  # each divides the bracket by 16: to rounding
        times = low + (high - low) * parts
        rising = _entropy_and_rate(problem.at(times))[1] > 0
        rising[..., -1] = True
        after = rising.to(torch.int8).argmax(dim=-1, keepdim=True).clamp(min=1)
        low, high = times.gather(-1, after - 1), times.gather(-1, after)
    at_ends = torch.where(last < first, torch.inf, 0.0).to(grid)
    return torch.where(moving, ((low + high) / 2)[..., 0], at_ends), moving


def _grid(problem: Problem) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Times, (..., N) increasing, from start to rest, and u at them, (..., N, M), where that is known."""
    scale = torch.sqrt(2 * problem.gain)
    mu, v0 = problem.mu * scale, problem.v0 * scale
    if bool((torch.maximum(mu.abs(), v0.abs()) > FAST).any()) and mu.shape[-1] > 1:
        u = Path(mu, v0).course()
        return u.sum(dim=-1).cummax(dim=-1).values, u
    offset = late_offset_of(mu.reshape(-1), v0.reshape(-1)).reshape(mu.shape)
    settled = (offset + _SETTLED * torch.exp(-mu.square() / 2)).amax(dim=-1, keepdim=True)
    end = convergence(mu, settled, v0).sum(dim=-1)
    return torch.cat([torch.zeros_like(end), end * torch.logspace(-8, 0, _GRID).to(end)], dim=-1), None
