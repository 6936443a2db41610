"""Softmax attention with components so fast that a time without normalisation cannot resolve where they are.

Near its target a component has the speed exp(μ²/2) at gain ½: all of its way lies within exp(−μ²/2) of one time τ, its
late offset c. So τ is held as a sum, an anchor (0 or the c of a component) and a distance from it of either sign, and
each component is solved from whichever of τ and τ − c is smaller.
"""

from __future__ import annotations

import math

import torch

from joma.theory.inversion import late_offset_of, log_convergence_at
from joma.theory.nonlinear import converged_by

FARTHEST = 36.0
"""The largest |μ| and |v₀| at gain ½; exp(36²/2) and its inverse have all digits in float64."""
FAST = 4.3
"""At gain ½, |v| from which on exp(v²/2) roundings of τ exceed 1e-12."""
_WIDTH = 0.25  # of a piece of the quadrature: all digits up to ``FARTHEST``
_MAX_SEARCH = 200  # Newton steps and halvings of an exponent of at most 2,048
_CLOCK_ERROR = 1e-7  # relative to t, or to 1; one Runge–Kutta step removes it to rounding
_TINY = torch.finfo(torch.float64).tiny
_ANCHORS = 12  # of a course: the components with the largest targets
_PER_DECADE, _EVENLY = 8, 128  # points of a course on each side of an anchor
_SETTLED = 40.0  # u of a component whose distance from its target is below rounding


class Path:
    """The states of components that share a clock τ, at gain ½.

    Args:
        mu, v0: (..., 1, M) at most ``FARTHEST`` in size.
    """

    def __init__(self, mu: torch.Tensor, v0: torch.Tensor) -> None:
        self.mu, self.v0 = torch.broadcast_tensors(mu, v0)
        self.c = late_offset_of(self.mu.reshape(-1), self.v0.reshape(-1)).reshape(self.mu.shape)
        start = torch.zeros_like(self.c[..., :1])
        self.anchors = torch.cat([start, self.c.clamp(min=0).sort(dim=-1).values], dim=-1)
        """(..., 1, M + 1) increasing."""

    def u(self, anchor: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """Return u, (..., T, M), at τ = ``anchor`` + ``distance``, both (..., T, 1)."""
        clock = (anchor + distance).clamp(min=0)
        late = (anchor - self.c) + distance
        shape = torch.broadcast_shapes(late.shape, clock.shape)
        mu, v0 = self.mu.reshape(-1), self.v0.reshape(-1)

        def solved(t: torch.Tensor, is_late: bool) -> torch.Tensor:
            flat = t.expand(shape).transpose(-1, -2)
            u = log_convergence_at(mu, v0, flat.reshape(len(mu), shape[-2]), is_late=is_late, width=_WIDTH)
            return u.reshape(flat.shape).transpose(-1, -2)

        return torch.where(late.abs() < clock, solved(late, True), solved(clock, False))

    def v(self, u: torch.Tensor) -> torch.Tensor:
        """Return v from u."""
        return converged_by(u, self.mu, self.v0)

    def solve(self, t: torch.Tensor) -> torch.Tensor:
        """Return u, (..., T, M), with Σ u ≈ t at the finite times (..., T, 1), to ``_CLOCK_ERROR``."""
        anchor, side, widest = self._nearest_anchor(t)
        low, high = torch.full_like(widest, _TINY), widest.clamp(min=_TINY)
        size = torch.sqrt(low * high)
        for _ in range(_MAX_SEARCH):
            u = self.u(anchor, side * size)
            ahead = u.sum(dim=-1, keepdim=True) - t
            beyond = ahead * side > 0
            low, high = torch.where(beyond, low, size), torch.where(beyond, size, high)
            exact = ahead.abs() <= _CLOCK_ERROR * t.clamp(max=1.0)
            done = exact | (high <= low * (1 + 4 * torch.finfo(t.dtype).eps))
            if bool(done.all()):
                break
            newton = size - side * ahead / torch.exp(self.v(u).square() / 2).sum(dim=-1, keepdim=True)
            inside = (newton > low) & (newton < high)
            size = torch.where(done, size, torch.where(inside, newton, torch.sqrt(low) * torch.sqrt(high)))
        return u

    def course(self) -> torch.Tensor:
        """Return u, (..., N, M), from start to rest, with points as dense around every anchor as a component is fast.

        With and without normalisation these are the states of the dynamics, in this order.
        """
        end = self.anchors[..., -1:]
        largest = self.mu.abs().topk(min(_ANCHORS, self.mu.shape[-1]), dim=-1).indices
        chosen = self.c.gather(-1, largest).clamp(min=0).sort(dim=-1).values
        anchors = torch.cat([self.anchors[..., :1], chosen, end], dim=-1)
        rest = ((self.c - end) + _SETTLED * torch.exp(-self.mu.square() / 2)).amax(dim=-1, keepdim=True)
        widths = torch.cat([anchors.diff(dim=-1) / 2, rest.clamp(min=0)], dim=-1)
        fastest = torch.maximum(self.mu.abs(), self.v0.abs())
        decades = 8 + (float(fastest.max()) ** 2 / 2 if fastest.numel() else 0.0) / math.log(10)
        close = torch.logspace(-decades, 0, int(_PER_DECADE * decades), dtype=widths.dtype)
        evenly = torch.linspace(1 / _EVENLY, 1, _EVENLY, dtype=widths.dtype)
        parts = torch.cat([close, evenly]).sort().values.to(widths.device)
        after = widths[..., None] * parts
        distances = torch.cat([after, -after.flip(-1)], dim=-1)
        nearest = torch.stack([anchors, torch.cat([anchors[..., 1:], end], dim=-1)], dim=-1)
        places = nearest.repeat_interleave(len(parts), dim=-1)
        # From every anchor to the middle before the next one, and on to that; from the last one to rest.
        places, distances = (part.flatten(-3)[..., : -len(parts), None] for part in (places, distances))
        u = self.u(places, distances)
        return torch.cat([torch.zeros_like(u[..., :1, :]), u], dim=-2)

    def _nearest_anchor(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The anchor nearest to the τ of each t, the side of τ, and the largest distance there; (..., T, 1) each."""
        halves = self.anchors.diff(dim=-1) / 2
        last = self.anchors.shape[-1] - 1
        shape = torch.broadcast_shapes(self.anchors[..., :1].shape, t.shape)
        anchors = self.anchors.expand(*shape[:-1], last + 1)
        halves = torch.cat([halves, halves[..., -1:]], dim=-1).expand_as(anchors)

        def place(step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """The anchor of a step, and the way from it to the middle before the next one in an odd step."""
            index = step // 2
            return anchors.gather(-1, index), torch.where(step % 2 == 1, halves.gather(-1, index), 0.0)

        low, high = (torch.full(shape, end, device=t.device) for end in (0, 2 * last + 1))
        for _ in range((2 * last + 1).bit_length()):
            middle = (low + high) // 2
            behind = self.u(*place(middle)).sum(dim=-1, keepdim=True) <= t
            low, high = torch.where(behind, middle, low), torch.where(behind, high, middle)
        before = low % 2 == 1
        anchor, _ = place(low + low % 2)
        farthest = torch.where(low == 2 * last, t / self.mu.shape[-1], halves.gather(-1, low // 2))
        return anchor, torch.where(before, -1.0, 1.0).to(t), farthest
