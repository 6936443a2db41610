"""The dynamics of a linear MLP (Theorem 2): v̇ = Δ exp(α v²). Every component runs away, the fastest one first."""

from __future__ import annotations

import math
from typing import Any

import torch

from joma.arrays import Real, as_real_in, numpy_in_numpy_out, on_one_device
from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument
from joma.records import Status


@numpy_in_numpy_out
def linear_solution(delta: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return v(t) of v̇ = Δ exp(α v²), exactly: v = √2 erfinv(√(2/π) Δt + erf(v₀/√2)) at gain ½.

    >>> import joma
    >>> joma.linear_solution([1.0, 2.0], 0.5)
    tensor([0.5229, 1.2755], dtype=torch.float64)

    Claim: theorem2. Assumes attention integrated out (Theorem 1), one hidden unit, a constant upstream gradient.

    Args:
        delta: Δ, any shape, finite. All arguments broadcast against one another.
        t: times, at least 0; ∞ allowed.
        v0: v(0), finite.
        gain: α, above 0.

    Returns:
        v, of the common shape; +∞ or −∞ from a component's blow-up on (``linear_status`` says so and when).
    """
    delta = as_real_in(FINITE, delta, "linear_solution", "delta")
    t = as_real_in(NON_NEGATIVE, t, "linear_solution", "t")
    v0 = as_real_in(FINITE, v0, "linear_solution", "v0")
    gain = as_real_in(POSITIVE, gain, "linear_solution", "gain")
    delta, t, v0, gain = on_one_device(delta, t, v0, gain)
    scale = torch.sqrt(2 * gain)
    return _LinearFlow.apply(delta * scale, t, v0 * scale) / scale


@numpy_in_numpy_out
def blow_up_time(delta: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return when each component of the linear dynamics becomes infinite: √(π/2) (sign Δ − erf(v₀/√2))/Δ at gain ½.

    >>> import joma
    >>> joma.blow_up_time([1.0, 2.0, 0.0])
    tensor([1.2533, 0.6267,    inf], dtype=torch.float64)

    Claim: theorem2.

    Args:
        delta: Δ, any shape, finite.
        v0: v(0), finite; broadcasts against ``delta``.
        gain: α, above 0.

    Returns:
        Times, of the common shape; ∞ where Δ is 0.
    """
    delta = as_real_in(FINITE, delta, "blow_up_time", "delta")
    v0 = as_real_in(FINITE, v0, "blow_up_time", "v0")
    gain = as_real_in(POSITIVE, gain, "blow_up_time", "gain")
    delta, v0, gain = on_one_device(delta, v0, gain)
    scale = torch.sqrt(2 * gain)
    return _blow_up(delta * scale, v0 * scale)


@numpy_in_numpy_out
def winner(delta: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return which component blows up first, and so takes all attention (Theorem 2).

    Claim: theorem2.

    Args:
        delta: (..., M) Δ, finite.
        v0: v(0), finite; broadcasts against ``delta``.
        gain: α, above 0; it matters only where components start differently.

    Returns:
        (...) int64 index along the last axis, the first of equals; −1 where no component ever blows up.
    """
    times = torch.as_tensor(blow_up_time(delta, v0, gain))
    if times.ndim == 0 or times.shape[-1] == 0:
        raise InvalidArgument(
            "winner",
            "delta",
            required="at least one component along the last axis",
            received=f"of shape {tuple(times.shape)}",
            remedy="pass a vector of components, such as [1.0, 2.0]",
        )
    first, which = times.min(dim=-1)
    return torch.where(torch.isfinite(first), which, -1)


def linear_status(delta: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> Status:
    """Say whether the linear dynamics still exist at every time asked for, and if not, which component ended them when.

    Claim: theorem2. Arguments as in ``linear_solution``.
    """
    given, asked = torch.as_tensor(blow_up_time(delta, v0, gain)), as_real_in(NON_NEGATIVE, t, "linear_status", "t")
    given, asked = on_one_device(given.detach(), asked.detach())
    past = asked >= given
    if not bool(past.any()):
        return Status()
    first = float(given.broadcast_to(past.shape)[past].min())
    component = int(given.flatten().argmin())
    return Status(
        "blown_up",
        cause=f"{int(past.sum())} of {past.numel()} values lie at or past a blow-up; the first is that of component "
        f"{component} at t = {first:.10g}",
        remedy=f"ask for times below {first:.10g}, or use the normalised dynamics, which exist for all time",
    )


def _blow_up(delta: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """Blow-up times at gain ½; the complement of erf keeps all digits where v₀ is far on the way already."""
    remaining = torch.special.erfc(torch.sign(delta) * v0 / math.sqrt(2))
    return math.sqrt(math.pi / 2) * remaining / delta.abs()


def place_on_normal(start: torch.Tensor, moved: torch.Tensor, log_above: torch.Tensor) -> torch.Tensor:
    """Return the y at which the normal distribution function is that of ``start`` plus ``moved``.

    Along the linear dynamics that function grows linearly in time; it is read from where it has all its digits.

    Args:
        start: where to start.
        moved: the probability passed since.
        log_above: ln of the probability that is left above.
    """
    below = torch.special.erfc(-start / math.sqrt(2)) / 2 + moved  # torch's ndtr has no digits below −8
    centre = torch.erf(start / math.sqrt(2)) + 2 * moved
    upper = _normal_place_below(log_above)
    y = torch.where(log_above < -math.log(2), upper, torch.special.ndtri(below.clamp(max=1)))
    return torch.where(centre.abs() < 0.5, math.sqrt(2) * torch.erfinv(centre.clamp(-0.5, 0.5)), y)


def _normal_place_below(log_above: torch.Tensor) -> torch.Tensor:
    """The y with ln Φ(−y) = ``log_above``, however small that probability is."""
    y = -torch.special.ndtri(torch.exp(log_above))
    far = torch.isfinite(log_above) & (log_above < -700)
    if bool(far.any()):
        target = log_above[far]
        guess = torch.sqrt(-2 * target)
        for _ in range(6):  # Newton's method; so far out the tail's logarithm falls with slope y + 1/y
            guess = guess + (torch.special.log_ndtr(-guess) - target) / (guess + 1 / guess)
        y[far] = guess
    return y


class _LinearFlow(torch.autograd.Function):
    """v(Δ, t, v₀) at gain ½, with its derivatives in closed form."""

    @staticmethod
    def forward(delta: torch.Tensor, t: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
        still = (delta == 0) | (t == 0)
        side = torch.where(delta < 0, -1.0, 1.0).to(delta.dtype)
        start, moved = side * v0, torch.where(still, 0.0, delta.abs() * t / math.sqrt(2 * math.pi))
        above = torch.special.erfc(start / math.sqrt(2)) / 2 - moved
        v = place_on_normal(start, moved, torch.log(above.clamp(min=0)))
        v = torch.where(~still & (t >= _blow_up(delta, v0)), math.inf, v)
        return torch.where(still, v0, side * v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        delta, t, v0, v = ctx.saved_tensors
        (gradient,) = gradients
        speed = torch.exp(v.square() / 2)
        slopes = t * speed, delta * speed, torch.exp((v - v0) * (v + v0) / 2)
        # Past its blow-up a component stays at infinity, whatever its arguments do.
        kept = [torch.where(torch.isfinite(v), gradient * slope, 0.0) for slope in slopes]
        return kept[0].sum_to_size(delta.shape), kept[1].sum_to_size(t.shape), kept[2].sum_to_size(v0.shape)
