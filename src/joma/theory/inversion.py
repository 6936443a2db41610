"""The inverse of the quadrature that solves v̇ = (μ − v) exp(v²/2): which u = ln[(μ − v₀)/(μ − v)] a time t has.

The time that a path takes from v₀ to v is ∫ exp(−w²/2)/(μ − w) dw. Each path is cut at fixed places of v (every
half, then three halvings of the distance to μ), short enough for Gauss–Legendre quadrature to be exact to rounding
on each piece; behind the last cut the pole is taken out and an entire function is left. The durations of the pieces
say in which piece a time falls; within it, two corrections of fifth order solve for v.

A place is kept as v and as x = μ − v, both to full precision, since exp(−v²/2) needs the one and 1/(μ − v) the other.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import torch

from joma.arrays import REAL

_WIDTH = 0.5  # of a piece, in v
_HALVINGS = 3  # pieces before the pole, each half as wide as the one before
_FARTHEST = 39.0  # beyond it exp(−v²/2) is 0 in float64, so that passing it takes no time
_TAIL_CORRECTIONS = 3
_LARGEST_EXPONENT = 700.0  # beyond it places are passed within 1e-300 of time, and no correction is needed
_BLOCK = 16384  # queries worked on at once, which a processor's cache holds
_ROWS = 1024  # components cut at once


@functools.cache
def gauss_legendre(num: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nodes of Gauss–Legendre quadrature on [0, 1] and their weights, both (num,)."""
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return torch.as_tensor((nodes + 1) / 2, device=device), torch.as_tensor(weights / 2, device=device)


_FINE, _COARSE = 12, 4  # nodes of a quadrature


class _Pieces(NamedTuple):
    """The paths of C components in P pieces: where each piece starts, and where the last one ends.

    Args:
        v, x: (C, P + 1) start of each piece; the last entry is where the tail starts.
        begin: (C, P + 1) time at which each piece starts.
        bend: (C, P) ln of the ratio of the time density at a piece's end to that at its start.
    """

    v: torch.Tensor
    x: torch.Tensor
    begin: torch.Tensor
    bend: torch.Tensor


def log_convergence_at(mu: torch.Tensor, v0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Solve t = ∫₀ᵘ exp(−½ v(s)²) ds with v(s) = μ − (μ − v₀) e⁻ˢ for u, at gain ½.

    Args:
        mu, v0: (C,) float64, finite.
        t: (C, T) or (1, T) float64, at least 0, ∞ allowed.

    Returns:
        (C, T) u, at least 0; ∞ where t is, or where u exceeds what float64 can hold.
    """
    num, num_times = mu.shape[0], t.shape[1]
    u = torch.empty(num, num_times, dtype=REAL, device=mu.device)
    if u.numel() == 0:
        return u
    side = torch.where(mu < v0, -1.0, 1.0).to(REAL)  # mirrored where needed, so that v only grows
    mu, v0 = side * mu, side * v0
    rows = max(1, min(_ROWS, _BLOCK // num_times))
    for first in range(0, num, rows):
        part = slice(first, first + rows)
        pieces = _cut(mu[part], v0[part])
        for start in range(0, num_times, _BLOCK):
            times = slice(start, start + _BLOCK)
            asked = t[part if t.shape[0] > 1 else slice(None), times].expand(pieces.v.shape[0], -1)
            u[part, times] = _invert(mu[part], v0[part], pieces, asked)
    return u


def late_offset_of(mu: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
    """The c of the late law u = exp(μ²/2) (t − c), for (C,) components at gain ½."""
    side = torch.where(mu < v0, -1.0, 1.0).to(REAL)
    mu, v0 = side * mu, side * v0
    offset = torch.empty_like(mu)
    for first in range(0, len(mu), _ROWS):
        part = slice(first, first + _ROWS)
        pieces = _cut(mu[part], v0[part])
        x = pieces.x[:, -1]
        after_cuts = _entire(mu[part], x) - _log_ratio(mu[part] - v0[part], x)
        offset[part] = pieces.begin[:, -1] + torch.exp(-mu[part].square() / 2) * after_cuts
    return offset


def _cut(mu: torch.Tensor, v0: torch.Tensor) -> _Pieces:
    """Cut the paths from v₀ up to μ ≥ v₀, both (C,)."""
    last = torch.maximum((torch.floor(mu / _WIDTH) - 1) * _WIDTH, v0)
    low = math.floor(max(float(v0.min()), -_FARTHEST) / _WIDTH)
    high = math.ceil(min(float(last.max()), _FARTHEST) / _WIDTH)
    grid = torch.arange(low + 1, max(high, low + 1), dtype=REAL, device=mu.device) * _WIDTH
    v = torch.cat([v0[:, None], grid.clamp(v0[:, None], last[:, None]), last[:, None]], dim=1)
    x = mu[:, None] - v
    halves = x[:, -1:] * torch.tensor([0.5**k for k in range(1, _HALVINGS + 1)], dtype=REAL, device=mu.device)
    halves = torch.where(x[:, -1:] < torch.finfo(REAL).tiny, x[:, -1:], halves)  # halved, they would round to 0
    v, x = torch.cat([v, mu[:, None] - halves], dim=1), torch.cat([x, halves], dim=1)
    # Widths come from whichever of v and x is exact on that stretch.
    width = torch.cat([v[:, 1:-_HALVINGS] - v[:, : -_HALVINGS - 1], -x[:, -_HALVINGS - 1 :].diff(dim=1)], dim=1)
    duration = _passing_time(v[:, :-1], x[:, :-1], width, _FINE)
    begin = torch.cat([torch.zeros_like(v0)[:, None], duration.cumsum(dim=1)], dim=1)
    bend = (v[:, :-1] - v[:, 1:]) * (v[:, :-1] + v[:, 1:]) / 2 + _log_ratio(x[:, :-1], x[:, 1:])
    return _Pieces(v, x, begin, bend)


def _passing_time(v: torch.Tensor, x: torch.Tensor, step: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """∫₀^step exp(−(v + y)²/2)/(x − y) dy; 0 where the step is."""
    nodes, weights = gauss_legendre(num_nodes, step.device)
    y = step[..., None] * nodes
    share = step[..., None] / (x[..., None] - y)  # at most 1, however small both are
    return torch.where(step > 0, (v[..., None] + y).square_().mul_(-0.5).exp_().mul_(share) @ weights, 0.0)


def _entire(mu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """S(x) = ∫₀ˣ (exp(μy − y²/2) − 1)/y dy: what is left of the passing time when its pole at μ is taken out."""
    nodes, weights = gauss_legendre(_FINE, x.device)
    y = x[..., None] * nodes
    return torch.expm1((mu[..., None] - 0.5 * y).mul_(y)) @ (weights / nodes)


def _invert(mu: torch.Tensor, v0: torch.Tensor, pieces: _Pieces, t: torch.Tensor) -> torch.Tensor:
    """The u at (C, T) times of (C,) components whose paths are cut."""
    piece = torch.searchsorted(pieces.begin, t.contiguous(), right=True) - 1
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
    """The u of Q queries, each in its component's row and piece."""
    v, x, begin = pieces.v[row, piece], pieces.x[row, piece], pieces.begin[row, piece]
    width, bend = x - pieces.x[row, piece + 1], pieces.bend[row, piece]
    remaining = t - begin
    share = (remaining / (pieces.begin[row, piece + 1] - begin)).clamp(0, 1)
    # First guess: the time density goes exponentially from its value at the start to that at the end.
    y = width * torch.where(bend.abs() > 1e-6, torch.log1p(share * torch.expm1(bend)) / bend, share)
    for rule in (_COARSE, _FINE):
        late = remaining - _passing_time(v, x, y, rule)
        y = (y - (x - y) * torch.expm1(-_advance(late, v + y, x - y))).clamp(min=0).minimum(width)
    start, distance = pieces.v[row, 0], pieces.x[row, 0]
    moved = (v - start) + y
    return torch.where(moved < distance / 2, -torch.log1p(-moved / distance), torch.log(distance / (x - y)))


def _within_tail(mu: torch.Tensor, x: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
    """The further u of Q queries that are ``remaining`` after their paths' last cut, a distance x before μ.

    Solves L + S(x) − S(x e⁻ᴸ) = exp(μ²/2)·remaining for L.
    """
    scaled = torch.where(remaining > 0, remaining * torch.exp(mu.square() / 2), 0.0)
    left = _entire(mu, x)
    # L lies between what the largest and what the smallest slope of the left-hand side, exp(μx − x²/2), give; once
    # exp(−L) is 0, L = scaled − S(x) is exact to rounding.
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
    """How far u moves in a short time, from (v, x): four terms of its Taylor series."""
    rho = late * torch.exp((0.5 * v.square()).clamp(max=_LARGEST_EXPONENT))
    q, q1 = v * x, x * (x - v)
    fourth = q * (6 * q.square() + 7 * q1) + q - 3 * x.square()
    return rho * (1 + rho * (q / 2 + rho * ((2 * q.square() + q1) / 6 + rho * fourth / 24)))


def _log_ratio(far: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """ln(far/near), and 0 where both are 0: a start at the target stays there."""
    return torch.where(near > 0, torch.log(far / near), 0.0)
