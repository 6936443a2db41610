"""The dynamics of a nonlinear MLP (Theorem 4): v̇ = (μ − v) exp(α v²). Every component converges to its μ.

The solution uses u = ln[(μ − v₀)/(μ − v)], which grows with u̇ = exp(α v²); v = μ − (μ − v₀) e⁻ᵘ.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from joma.arrays import Real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device
from joma.domains import FINITE
from joma.theory.inversion import gauss_legendre, late_offset_of, log_convergence_at
from joma.theory.linear import ClosedForm, read_dynamics, within_reach

FARTHEST = 1000.0
"""The largest |μ| and |v₀| in units in which the gain is ½; beyond 39 every speed is infinite in float64."""
_CONVERGED = 750.0  # e⁻ᵘ is 0 in float64 from here on


@numpy_in_numpy_out
def nonlinear_solution(mu: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return v(t) of v̇ = (μ − v) exp(α v²), exact to rounding.

    >>> import joma
    >>> joma.nonlinear_solution([3.0, 1.0], 0.5)
    tensor([1.6387, 0.4027], dtype=torch.float64)

    Claims: theorem4, nonlinear.sparse_then_dense. Assumes attention integrated out (Theorem 1), one hidden unit, a
    constant upstream gradient and a fixed point μ of the nonlinear dynamics.

    Args:
        mu: μ, any shape, finite. All arguments broadcast against one another; to get T times of M components, pass
            ``t[:, None]`` of shape (T, 1) and ``mu`` of shape (M,). Axes along which only t varies are cheapest.
        t: times, at least 0; ∞ allowed.
        v0: v(0), finite.
        gain: α, above 0. All digits are correct up to about |v| √(2α) = 20; |v| √(2α) above 1000 is refused.

    Returns:
        v, of the broadcast shape, always between v0 and μ.
    """
    mu, t, v0, scale = _read("nonlinear_solution", mu, t, v0, gain)
    u = convergence(mu * scale, t, v0 * scale)
    return converged_by(u, mu, v0)


@numpy_in_numpy_out
def log_convergence(mu: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return u = ln[(μ − v₀)/(μ − v(t))], without loss of digits.

    Claim: theorem4. For a start at 0 this is ln(1/δ) with δ = 1 − v/μ. Arguments as in ``nonlinear_solution``.

    Returns:
        u, of the broadcast shape, at least 0; its derivative is u̇ = exp(α v²). ∞ at t = ∞ and beyond float64.
    """
    mu, t, v0, scale = _read("log_convergence", mu, t, v0, gain)
    return convergence(mu * scale, t, v0 * scale)


@numpy_in_numpy_out
def late_offset(mu: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the c of the limit u → exp(α μ²) (t − c) for large t: c = ∫₀^∞ [exp(−α v(s)²) − exp(−α μ²)] ds.

    Claim: theorem4.

    Args:
        mu: μ, any shape, finite.
        v0: v(0), finite; broadcasts against ``mu``.
        gain: α, above 0.

    Returns:
        c, of the broadcast shape, in units of time; negative if the start is faster than the end.
    """
    mu, _, v0, scale = _read("late_offset", mu, 0.0, v0, gain)
    return _LateOffset.apply(*torch.broadcast_tensors(mu * scale, v0 * scale))


@numpy_in_numpy_out
def speed_ratio(mu_j: Real, mu_k: Real, t: Real, gain: Real = 0.5) -> torch.Tensor:
    """Return ln(1/δⱼ)/ln(1/δₖ) at time t, from a start at 0: the progress of component j relative to k.

    Claim: theorem4, according to which it tends to ``speed_ratio_limit``. Exact at every t.

    Args:
        mu_j, mu_k: fixed points, any shapes that broadcast, finite.
        t: times, at least 0; ∞ allowed.
        gain: α, above 0.

    Returns:
        The ratio, of the broadcast shape; 1 at t = 0; 0 or ∞ beyond float64, but never NaN.
    """
    return _speed_ratio("speed_ratio", mu_j, mu_k, t, gain)[0]


def _speed_ratio(
    function: str, mu_j: Real, mu_k: Real, t: Real, gain: Real
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ratio, its limit, and ln(ratio/limit) where float64 has not the ratio of the two (else NaN)."""
    mu_j, t, _, scale = _read(function, mu_j, t, 0.0, gain)
    mu_k, t = on_one_device(as_real_in(FINITE, mu_k, function, "mu_k"), t)
    check_broadcast(function, mu_j=mu_j, t=t, gain=scale, mu_k=mu_k)
    within_reach(function, "mu_k", mu_k, scale, FARTHEST)
    start, end = t == 0, torch.isinf(t)
    inner = torch.where(start | end, 1.0, t)
    zero = torch.zeros((), dtype=t.dtype, device=t.device)
    u_j, u_k = (convergence(mu * scale, inner, zero) for mu in (mu_j, mu_k))
    log_limit = scale.square() / 2 * (mu_j - mu_k) * (mu_j + mu_k)
    limit = torch.exp(log_limit)
    ratio = torch.where(start, 1.0, torch.where(end, limit, u_j / u_k))
    lost = torch.where(ratio.isfinite() & (ratio / limit).isfinite() & (limit > 0), False, True)
    if not bool(lost.any()):
        return ratio, limit, torch.full_like(ratio, torch.nan)
    u_j, u_k = (_log_speed(mu * scale, inner, u) for mu, u in ((mu_j, u_j), (mu_k, u_k)))
    from_limit = torch.where(start, -log_limit, torch.where(end, 0.0, u_j - u_k))
    return torch.where(lost, torch.exp(log_limit + from_limit), ratio), limit, torch.where(lost, from_limit, torch.nan)


def _log_speed(mu: torch.Tensor, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """ln u − μ²/2 at gain ½ from a start at 0: by the limit of late times where u exceeds float64."""
    late = torch.log(t - _LateOffset.apply(mu, torch.zeros_like(mu)))
    return torch.where(u.isinf(), late, torch.log(u) - mu.square() / 2)


@numpy_in_numpy_out
def speed_ratio_correction(mu_j: Real, mu_k: Real, t: Real, gain: Real = 0.5) -> torch.Tensor:
    """Return Theorem 4's Λ(t): the speed ratio is exp(α(μⱼ² − μₖ²)) (1 + Λ), exactly.

    Claim: theorem4. For large t, Λ → (cₖ − cⱼ)/(t − cₖ) with c from ``late_offset``. Arguments as in ``speed_ratio``.

    Returns:
        Λ, of the broadcast shape; ∞ beyond float64, but never NaN.
    """
    ratio, limit, log_correction = _speed_ratio("speed_ratio_correction", mu_j, mu_k, t, gain)
    return torch.where(log_correction.isnan(), ratio / limit - 1, torch.expm1(log_correction))


@numpy_in_numpy_out
def speed_ratio_limit(mu_j: Real, mu_k: Real, gain: Real = 0.5) -> torch.Tensor:
    """Return exp(α(μⱼ² − μₖ²)), the limit of the speed ratio: the salient component is exponentially faster.

    Claim: theorem4.
    """
    mu_j, _, mu_k, scale = _read("speed_ratio_limit", mu_j, 0.0, mu_k, gain)
    return torch.exp(scale.square() / 2 * (mu_j - mu_k) * (mu_j + mu_k))


def convergence(mu: torch.Tensor, t: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """Return u at gain ½ for valid tensors, without the checks of ``log_convergence``."""
    return _LogConvergence.apply(mu, t, v0)


def converged_by(u: torch.Tensor, mu: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """Return v = μ − (μ − v₀) e⁻ᵘ, computed from the nearer of μ and v₀ to keep digits."""
    u = u.clamp(max=_CONVERGED)
    return torch.where(u > math.log(2), mu - (mu - v0) * torch.exp(-u), v0 - (mu - v0) * torch.expm1(-u))


def _read(function: str, mu: Real, t: Real, v0: Real, gain: Real) -> list[torch.Tensor]:
    """As ``read_dynamics``, with a bound on the size of μ and v₀."""
    first = "mu_j" if function.startswith("speed") else "mu"
    second = "mu_k" if function == "speed_ratio_limit" else "v0"
    mu, t, v0, scale = read_dynamics(function, (first, mu), t, (second, v0), gain)
    within_reach(function, first, mu, scale, FARTHEST)
    within_reach(function, second, v0, scale, FARTHEST)
    return [mu, t, v0, scale]


class _LogConvergence(ClosedForm):
    """u(μ, t, v₀) at gain ½."""

    @staticmethod
    def forward(mu: torch.Tensor, t: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
        mu, v0 = torch.broadcast_tensors(mu, v0)
        shape = torch.broadcast_shapes(mu.shape, t.shape)
        mu, v0, t = (part.reshape((1,) * (len(shape) - part.ndim) + part.shape) for part in (mu, v0, t))
        # Axes of components first, then axes along which only time varies.
        order = sorted(range(len(shape)), key=lambda axis: mu.shape[axis] == 1)
        num_component_axes = sum(size != 1 for size in mu.shape)
        inner = [shape[axis] for axis in order]
        components = [part.permute(order).reshape(-1) for part in (mu, v0)]
        shared = all(t.shape[axis] == 1 for axis in order[:num_component_axes])
        spread = [1] * num_component_axes + inner[num_component_axes:] if shared else inner
        rows = 1 if shared else math.prod(inner[:num_component_axes])
        times = t.permute(order).expand(spread).reshape(rows, math.prod(inner[num_component_axes:]))
        u = log_convergence_at(*components, times).reshape(inner)
        return u.permute([order.index(axis) for axis in range(len(shape))])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mu, t, v0, u = ctx.saved_tensors
        (gradient,) = gradients
        distance, covered = mu - v0, -torch.expm1(-u)
        v = converged_by(u, mu, v0)
        speed = torch.exp(v.square() / 2)
        by_v0 = _slope_of_exp(distance, covered * (v + v0) / 2)
        passed = torch.where(mu == 0, 0.0, mu * t) - _gauss_between(v0, v, distance * covered)
        slopes = speed * passed - by_v0, speed, by_v0
        # Where the incoming gradient is 0 (a converged value, also at infinite time) 0 · ∞ must stay 0.
        kept = [torch.where(gradient == 0, 0.0, gradient * slope) for slope in slopes]
        return kept[0].sum_to_size(mu.shape), kept[1].sum_to_size(t.shape), kept[2].sum_to_size(v0.shape)


class _LateOffset(ClosedForm):
    """c(μ, v₀) at gain ½."""

    @staticmethod
    def forward(mu: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
        return late_offset_of(mu.reshape(-1), v0.reshape(-1)).reshape(mu.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mu, v0, c = ctx.saved_tensors
        (gradient,) = gradients
        distance = mu - v0
        by_start = torch.exp(-mu.square() / 2) * _slope_of_exp(distance, (mu + v0) / 2)
        by_mu = _gauss_between(v0, mu, distance) - mu * c + by_start
        return gradient * by_mu, -gradient * by_start


def _slope_of_exp(distance: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """(exp(distance·rate) − 1)/distance, and its limit at distance 0."""
    apart = torch.where(distance == 0, 1.0, distance)
    return torch.where(distance == 0, rate, torch.expm1(apart * rate) / apart)


def _gauss_between(low: torch.Tensor, high: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """∫ exp(−w²/2) dw from ``low`` to ``high`` = ``low`` + ``width``, to full relative precision."""
    root = math.sqrt(2)
    side = torch.where(low < 0, -1.0, 1.0).to(low.dtype)
    tails = side * (torch.special.erfc(side * low / root) - torch.special.erfc(side * high / root))
    far = torch.where(low * high > 0, tails, torch.erf(high / root) - torch.erf(low / root)) * math.sqrt(math.pi / 2)
    nodes, weights = gauss_legendre(10, far.device)
    near = width * (torch.exp(-(low[..., None] + width[..., None] * nodes).square() / 2) @ weights)
    return torch.where(width.abs() < 0.5, near, far)
