"""The solution of v̇ = (μ − v) exp(v²/2): u = ln[(μ − v₀)/(μ − v)] at a time t, by inverting a quadrature.

The time from v₀ to v is ∫ exp(−w²/2)/(μ − w) dw. Each path is cut into pieces at fixed values of v (every half, then
three halvings of the distance to μ), short enough for Gauss–Legendre quadrature to be exact to rounding on each piece.
After the last cut (the tail) the pole is subtracted, and an entire function remains. The durations of the pieces
determine the piece in which a time lies; within it, two corrections of fifth order solve for v.

A place is stored as v and as x = μ − v, both to full precision: exp(−v²/2) needs v, and 1/(μ − v) needs x.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch

from joma.arrays import REAL

_WIDTH = 0.5  # of a piece, in v
_HALVINGS = 3  # pieces before the tail, each half as wide as the previous one
_FARTHEST = 39.0  # for larger |v|, exp(−v²/2) is 0 in float64 and takes no time
_TAIL_CORRECTIONS = 3
_LARGEST_EXPONENT = 700.0  # for larger exponents the time is below 1e-300 and needs no correction
_FEW_DIGITS = 2.0**-960  # products below it lose digits in float64
_BLOCK = 16384  # queries computed at once, to fit a processor's cache
_ROWS = 1024  # components whose paths are cut at once


@functools.cache
def gauss_legendre(num: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nodes of Gauss–Legendre quadrature on [0, 1] and their weights, both (num,)."""
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return torch.as_tensor((nodes + 1) / 2, device=device), torch.as_tensor(weights / 2, device=device)


_FINE, _COARSE = 12, 4  # nodes of a quadrature


class _Pieces(NamedTuple):
    """The paths of C components, cut into P pieces.

    Args:
        v, x: (C, P + 1) start of each piece; the last entry is where the tail starts.
        begin: (C, P + 1) time at which each piece starts.
        duration: (C, P) of each piece, to full relative precision.
        bend: (C, P) ln of the time density at the end of a piece over that at its start.
    """

    v: torch.Tensor
    x: torch.Tensor
    begin: torch.Tensor
    duration: torch.Tensor
    bend: torch.Tensor


def log_convergence_at(
    mu: torch.Tensor, v0: torch.Tensor, t: torch.Tensor, *, is_late: bool = False, width: float = _WIDTH
) -> torch.Tensor:
    """Solve t = ∫₀ᵘ exp(−½ v(s)²) ds with v(s) = μ − (μ − v₀) e⁻ˢ for u, at gain ½.

    Args:
        mu, v0: (C,) float64, finite.
        t: (C, T) or (1, T) float64, at least 0, ∞ allowed.
        is_late: t is counted from ``late_offset_of`` of each component instead of 0. Around it a fast component moves
            within exp(−μ²/2), which is lost in the digits of a time counted from 0.
        width: of a piece, in v; all digits are correct up to about |v| = 10/width.

    Returns:
        (C, T) u, at least 0; ∞ if t is ∞ or u exceeds float64.
    """
    num, num_times = mu.shape[0], t.shape[1]
    u = torch.empty(num, num_times, dtype=REAL, device=mu.device)
    if u.numel() == 0:
        return u
    side = torch.where(mu < v0, -1.0, 1.0).to(REAL)  # mirrored if μ < v₀, so that v increases
    mu, v0 = side * mu, side * v0
    rows = max(1, min(_ROWS, _BLOCK // num_times))
    for first in range(0, num, rows):
        part = slice(first, first + rows)
        pieces = _cut(mu[part], v0[part], width)
        if is_late:
            pieces = _counted_from_late_offset(mu[part], v0[part], pieces)
        for start in range(0, num_times, _BLOCK):
            times = slice(start, start + _BLOCK)
            queries = t[part if t.shape[0] > 1 else slice(None), times].expand(pieces.v.shape[0], -1)
            u[part, times] = _invert(mu[part], v0[part], pieces, queries)
    return u


def late_offset_of(mu: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """Return the c of the limit u → exp(μ²/2) (t − c) for large t, for (C,) components at gain ½."""
    side = torch.where(mu < v0, -1.0, 1.0).to(REAL)
    mu, v0 = side * mu, side * v0
    offset = torch.empty_like(mu)
    for first in range(0, len(mu), _ROWS):
        part = slice(first, first + _ROWS)
        pieces = _cut(mu[part], v0[part])
        offset[part] = pieces.begin[:, -1] + _late_offset_after_cuts(mu[part], v0[part], pieces)
    return offset


def _late_offset_after_cuts(mu: torch.Tensor, v0: torch.Tensor, pieces: _Pieces) -> torch.Tensor:
    """The late offset, counted from the start of the tail."""
    x = pieces.x[:, -1]
    return torch.exp(-mu.square() / 2) * (_entire(mu, x) - _log_ratio(mu - v0, x))


def _counted_from_late_offset(mu: torch.Tensor, v0: torch.Tensor, pieces: _Pieces) -> _Pieces:
    """The same pieces with times counted from the late offset, summed from there so that small ones keep digits."""
    tail = -_late_offset_after_cuts(mu, v0, pieces)[:, None]
    before = pieces.duration.flip(1).cumsum(dim=1).flip(1)
    return pieces._replace(begin=torch.cat([tail - before, tail], dim=1))


def _cut(mu: torch.Tensor, v0: torch.Tensor, width: float = _WIDTH) -> _Pieces:
    """Cut the paths from v₀ up to μ ≥ v₀, both (C,)."""
    last = torch.maximum((torch.floor(mu / width) - 1) * width, v0)
    low = math.floor(max(float(v0.min()), -_FARTHEST) / width)
    high = math.ceil(min(float(last.max()), _FARTHEST) / width)
    grid = torch.arange(low + 1, max(high, low + 1), dtype=REAL, device=mu.device) * width
    v = torch.cat([v0[:, None], grid.clamp(v0[:, None], last[:, None]), last[:, None]], dim=1)
    x = mu[:, None] - v
    halves = x[:, -1:] * torch.tensor([0.5**k for k in range(1, _HALVINGS + 1)], dtype=REAL, device=mu.device)
    halves = torch.where(x[:, -1:] < torch.finfo(REAL).tiny, x[:, -1:], halves)  # their halves would round to 0
    v, x = torch.cat([v, mu[:, None] - halves], dim=1), torch.cat([x, halves], dim=1)
    # Widths are differences of v before the halvings and of x after, where each is exact.
    step = torch.cat([v[:, 1:-_HALVINGS] - v[:, : -_HALVINGS - 1], -x[:, -_HALVINGS - 1 :].diff(dim=1)], dim=1)
    duration = _passing_time(v[:, :-1], x[:, :-1], step, _FINE)
    begin = torch.cat([torch.zeros_like(v0)[:, None], duration.cumsum(dim=1)], dim=1)
    bend = (v[:, :-1] - v[:, 1:]) * (v[:, :-1] + v[:, 1:]) / 2 + _log_ratio(x[:, :-1], x[:, 1:])
    return _Pieces(v, x, begin, duration, bend)


def _passing_time(v: torch.Tensor, x: torch.Tensor, step: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """∫₀^step exp(−(v + y)²/2)/(x − y) dy; 0 for a step of 0."""
    nodes, weights = gauss_legendre(num_nodes, step.device)
    y = step[..., None] * nodes
    share = step[..., None] / (x[..., None] - y)  # at most 1, however small both are
    return torch.where(step > 0, (v[..., None] + y).square_().mul_(-0.5).exp_().mul_(share) @ weights, 0.0)


def _entire(mu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """S(x) = ∫₀ˣ (exp(μy − y²/2) − 1)/y dy: the passing time without its pole at μ."""
    nodes, weights = gauss_legendre(_FINE, x.device)
    y = x[..., None] * nodes
    return torch.expm1((mu[..., None] - 0.5 * y).mul_(y)) @ (weights / nodes)


def _invert(mu: torch.Tensor, v0: torch.Tensor, pieces: _Pieces, t: torch.Tensor) -> torch.Tensor:
    """The u of (C,) components at (C, T) times."""
    piece = (torch.searchsorted(pieces.begin, t.contiguous(), right=True) - 1).clamp(min=0)
    in_tail = piece == pieces.bend.shape[1]
    u = torch.empty_like(t)
    row, column = (~in_tail).nonzero(as_tuple=True)
    u[row, column] = _within_piece(pieces, row, piece[row, column], t[row, column])
    row, column = in_tail.nonzero(as_tuple=True)
    x = pieces.x[row, -1]
    passed = _log_ratio(mu - v0, pieces.x[:, -1])[row]
    u[row, column] = passed + _within_tail(mu[row], x, t[row, column] - pieces.begin[row, -1])
    return u


def _within_piece(pieces: _Pieces, row: torch.Tensor, piece: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The u of Q queries, given the row of their component and their piece."""
    v, x, begin = pieces.v[row, piece], pieces.x[row, piece], pieces.begin[row, piece]
    width, bend = x - pieces.x[row, piece + 1], pieces.bend[row, piece]
    remaining = t - begin
    share = (remaining / (pieces.begin[row, piece + 1] - begin)).clamp(0, 1)
    # Initial guess: a time density that is exponential between the ends of the piece.
    y = width * torch.where(bend.abs() > 1e-6, torch.log1p(share * torch.expm1(bend)) / bend, share)
    for rule in (_COARSE, _FINE):
        late = remaining - _passing_time(v, x, y, rule)
        y = (y - (x - y) * torch.expm1(-_advance(late, v + y, x - y))).clamp(min=0).minimum(width)
    start, distance = pieces.v[row, 0], pieces.x[row, 0]
    moved = (v - start) + y
    u = torch.where(moved < distance / 2, -torch.log1p(-moved / distance), torch.log(distance / (x - y)))
    early = (moved < _FEW_DIGITS) & (moved < 1e-8 * distance)  # there u = exp(v₀²/2) t, which is not as small as v
    return torch.where(early, t * torch.exp(0.5 * start.square().clamp(max=2 * _LARGEST_EXPONENT)), u)


def _within_tail(mu: torch.Tensor, x: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
    """The increase L of u of Q queries in the time ``remaining`` after the last cut, at distance x from μ.

    It solves L + S(x) − S(x e⁻ᴸ) = exp(μ²/2)·remaining.
    """
    scaled = torch.where(remaining > 0, remaining * torch.exp(mu.square() / 2), 0.0)
    left = _entire(mu, x)
    # The largest and smallest slope of the left-hand side, exp(μx − x²/2), bound L; once exp(−L) is 0,
    # L = scaled − S(x) is exact to rounding.
    at_start = x * (mu - 0.5 * x)
    at_peak = torch.where((mu > 0) & (mu < x), 0.5 * mu.square(), 0.0)
    low = scaled * torch.exp(-torch.maximum(at_start, at_peak).clamp(min=0))
    high = scaled * torch.exp(-at_start.clamp(max=0))
    advanced = scaled - left
    (active,) = (advanced < 40).nonzero(as_tuple=True)
    mu, x, scaled, left, low, high = (part[active] for part in (mu, x, scaled, left, low, high))
    guess = (scaled - left).clamp(low, high)
    for _ in range(_TAIL_CORRECTIONS):
        near = x * torch.exp(-guess)
        late = scaled - (guess + left - _entire(mu, near))
        guess = (guess + _advance(late * torch.exp(-mu.square() / 2), mu - near, near)).clamp(low, high)
    advanced[active] = guess
    return advanced


def _advance(late: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The increase of u in the short time ``late`` from (v, x): four terms of its Taylor series."""
    rho = late * torch.exp((0.5 * v.square()).clamp(max=_LARGEST_EXPONENT))
    q, q1 = v * x, x * (x - v)
    fourth = q * (6 * q.square() + 7 * q1) + q - 3 * x.square()
    return rho * (1 + rho * (q / 2 + rho * ((2 * q.square() + q1) / 6 + rho * fourth / 24)))


def _log_ratio(far: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """ln(far/near), and 0 if both are 0 (a start at μ stays there)."""
    return torch.where(near > 0, torch.log(far / near), 0.0)
