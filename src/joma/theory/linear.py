"""The dynamics of a linear MLP (Theorem 2): v̇ = Δ exp(α v²). Every component diverges in finite time."""

from __future__ import annotations

import math
from typing import Any

import torch

from joma.arrays import Real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device, wrong_shape
from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument
from joma.records import Status

_FARTHEST = 1e300  # far from the ends of float64, so that sums and products of a few such numbers are finite


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
        v, of the broadcast shape; +∞ or −∞ after the component's blow-up (``linear_status`` reports it).
    """
    delta, t, v0, scale = read_dynamics("linear_solution", ("delta", delta), t, ("v0", v0), gain)
    return _LinearFlow.apply(delta * scale, t, v0 * scale) / scale


@numpy_in_numpy_out
def blow_up_time(delta: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the blow-up time of each component of the linear dynamics: √(π/2) (sign Δ − erf(v₀/√2))/Δ at gain ½.

    >>> import joma
    >>> joma.blow_up_time([1.0, 2.0, 0.0])
    tensor([1.2533, 0.6267,    inf], dtype=torch.float64)

    Claim: theorem2.

    Args:
        delta: Δ, any shape, finite.
        v0: v(0), finite; broadcasts against ``delta``.
        gain: α, above 0.

    Returns:
        Times, of the broadcast shape; ∞ if Δ is 0.
    """
    delta, _, v0, scale = read_dynamics("blow_up_time", ("delta", delta), 0.0, ("v0", v0), gain)
    return _blow_up(delta * scale, v0 * scale)


@numpy_in_numpy_out
def winner(delta: Real, v0: Real = 0.0, gain: Real = 0.5) -> torch.Tensor:
    """Return the component that blows up first and therefore takes all attention.

    Claim: theorem2.

    Args:
        delta: (..., M) Δ, finite.
        v0: v(0), finite; broadcasts against ``delta``.
        gain: α, above 0; irrelevant if all components have the same v(0).

    Returns:
        (...) int64 index along the last axis, the lowest one of equals; −1 if no component blows up.
    """
    times = torch.as_tensor(blow_up_time(delta, v0, gain))
    check_components("winner", "delta", times)
    first, which = times.min(dim=-1)
    return torch.where(torch.isfinite(first), which, -1)


def linear_status(delta: Real, t: Real, v0: Real = 0.0, gain: Real = 0.5) -> Status:
    """Report whether the linear dynamics exist at all given times, and if not, the first blow-up.

    Claim: theorem2. Arguments as in ``linear_solution``.
    """
    ends, times = torch.as_tensor(blow_up_time(delta, v0, gain)), as_real_in(NON_NEGATIVE, t, "linear_status", "t")
    ends, times = on_one_device(ends.detach(), times.detach())
    check_broadcast("linear_status", delta=ends, t=times)
    past = times >= ends
    if not bool(past.any()):
        return Status()
    first = float(ends.broadcast_to(past.shape)[past].min())
    component = int(ends.flatten().argmin())
    return Status(
        "blown_up",
        cause=f"{int(past.sum())} of {past.numel()} values lie at or past a blow-up; the first is that of component "
        f"{component} at t = {first:.10g}",
        remedy=f"pass times below {first:.10g}, or use the normalised dynamics, which exist for all time",
    )


def read_dynamics(
    function: str, rates: tuple[str, Real], t: Real, start: tuple[str, Real], gain: Real
) -> list[torch.Tensor]:
    """Check the arguments of a function on the dynamics, which broadcast; return rates (μ or Δ), t, start and √(2α).

    √(2α) v follows the dynamics at gain ½ with √(2α) times the rates, at the same times.

    Args:
        function: name in messages.
        rates: the name of the parameter μ or Δ, and its value.
        t: times.
        start: the name of the parameter v(0), and its value.
        gain: α.
    """
    read = on_one_device(
        as_real_in(FINITE, rates[1], function, rates[0]),
        as_real_in(NON_NEGATIVE, t, function, "t"),
        as_real_in(FINITE, start[1], function, start[0]),
        torch.sqrt(2 * as_real_in(POSITIVE, gain, function, "gain")),
    )
    check_broadcast(function, **dict(zip((rates[0], "t", start[0], "gain"), read, strict=True)))
    if bool(read[3].isinf().any()):
        received, remedy = "above 8e307", "scale the components up and the gain down"
        raise InvalidArgument(function, "gain", required="at most 8e307", received=received, remedy=remedy)
    within_reach(function, rates[0], read[0], read[3], _FARTHEST)
    within_reach(function, start[0], read[2], read[3], _FARTHEST)
    return read


def within_reach(function: str, parameter: str, place: torch.Tensor, scale: torch.Tensor, farthest: float) -> None:
    """Raise ``InvalidArgument`` if a place is so large that float64 cannot resolve its neighbourhood.

    Args:
        function, parameter: for the message.
        place: μ, Δ or v.
        scale: √(2α), which broadcasts against it.
        farthest: the largest product of both.
    """
    size = (place * scale).detach().abs()
    if size.numel() and not float(size.max()) <= farthest:
        raise InvalidArgument(
            function,
            parameter,
            required=f"at most {farthest:g}/√(2·gain) in size, which float64 can resolve",
            received=f"as large as {float(place.detach().abs().max()):g}",
            remedy="check its unit",
        )


def check_components(function: str, parameter: str, values: torch.Tensor) -> None:
    """Raise ``InvalidArgument`` unless the last axis has at least one component."""
    if values.ndim == 0 or values.shape[-1] == 0:
        required = "at least one component along the last axis"
        raise wrong_shape(function, parameter, required, values, "pass a vector of components, such as [2.0, 1.0]")


def _blow_up(delta: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """Blow-up times at gain ½; the complement of erf keeps all digits for large v₀."""
    remaining = torch.special.erfc(torch.sign(delta) * v0 / math.sqrt(2))
    return math.sqrt(math.pi / 2) * remaining / delta.abs()


def place_on_normal(start: torch.Tensor, moved: torch.Tensor, log_above: torch.Tensor) -> torch.Tensor:
    """Return the y with Φ(y) = Φ(start) + moved, where Φ is the normal distribution function.

    Along the linear dynamics Φ(v) grows linearly in time. ``log_above`` is ln(1 − Φ(y)), which has digits where Φ(y)
    rounds to 1.
    """
    below = torch.special.erfc(-start / math.sqrt(2)) / 2 + moved  # torch's ndtr has no digits below −8
    centre = torch.erf(start / math.sqrt(2)) + 2 * moved
    upper = _normal_place_below(log_above)
    y = torch.where(log_above < -math.log(2), upper, torch.special.ndtri(below.clamp(max=1)))
    return torch.where(centre.abs() < 0.5, math.sqrt(2) * torch.erfinv(centre.clamp(-0.5, 0.5)), y)


def _normal_place_below(log_above: torch.Tensor) -> torch.Tensor:
    """The y with ln Φ(−y) = ``log_above``, also for probabilities that underflow."""
    y = -torch.special.ndtri(torch.exp(log_above))
    far = torch.isfinite(log_above) & (log_above < -700)
    if bool(far.any()):
        target = log_above[far]
        guess = torch.sqrt(-2 * target)
        for _ in range(6):  # Newton's method; in this tail the slope of ln Φ(−y) is −(y + 1/y)
            guess = guess + (torch.special.log_ndtr(-guess) - target) / (guess + 1 / guess)
        y[far] = guess
    return y


class ClosedForm(torch.autograd.Function):
    """A function with derivatives in closed form, from its inputs and its output."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """Save inputs and output for the backward pass."""
        ctx.save_for_backward(*inputs, output)


class _LinearFlow(ClosedForm):
    """v(Δ, t, v₀) at gain ½."""

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
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        delta, t, v0, v = ctx.saved_tensors
        (gradient,) = gradients
        speed = torch.exp(v.square() / 2)
        slopes = t * speed, delta * speed, torch.exp((v - v0) * (v + v0) / 2)
        # After its blow-up a component stays infinite for all arguments nearby.
        kept = [torch.where(torch.isfinite(v), gradient * slope, 0.0) for slope in slopes]
        return kept[0].sum_to_size(delta.shape), kept[1].sum_to_size(t.shape), kept[2].sum_to_size(v0.shape)
