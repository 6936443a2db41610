"""Bound the largest eigenvalue of WᵀW, with all work of order n³ in single precision.

Single precision is not accurate enough for a bound to 1e-6, but suffices after the strongest directions are deflated.
Let V, n × k, span approximations of these, let P project on their orthogonal complement, and write

    A = VᵀWᵀWV,  R = P WᵀWV    thin products, in float64
    c                          any number above all eigenvalues of P WᵀW P

If c lies below the largest eigenvalue a₁ of A, a Schur complement bounds all eigenvalues λ of WᵀW:

    λ ≤ τ   if   RᵀR ≤ (a₁ − c)(τ − A)   as quadratic forms, τ > a₁

Residuals enter squared, and c enters by its distance from a₁: with residuals of 1e-5 a₁, c may be off by a₁ / 100. c is
certified by a successful Cholesky factorisation of c'I − G + a₁VVᵀ, with G ≈ WᵀW in float32, because the last term
vanishes orthogonally to V. Rounding requires this distance of c above c', with u = 2⁻²⁴ and t = tr WᵀW:

    G                     (rows of a part + number of parts + 8) u t      sums of products, part by part
    c'I − G + a₁VVᵀ       3u a₁ + (k + 5) k u a₁, and 2u t above          its entries, rounded
    factorisation         (panel + number of panels + 5) u tr(...)        exact for a matrix at this distance:
                                                                          S. M. Rump, BIT 46, 2006

These hold for sums in any order, because the products of a part are summed before they are added. For a Gaussian matrix
of 8,192 × 2,048 they sum to 0.03 σ₁². No c is found if very many directions are nearly as strong as the first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from joma.measure.spectra.lanczos import Ritz, largest

SINGLE_UNIT, DOUBLE_UNIT = 2.0**-24, 2.0**-53
PANEL = 128  # columns of a Gram matrix formed at once
RAISED = 2**17  # entries converted to float64 at once: they fit into the processor's cache
_MARGIN = 5e-4  # distance between c' and the largest remaining eigenvalue, relative to the largest one
_AMPLE_MARGIN = 0.1  # a distance that is reliable even early in the iteration


class Enclosed(NamedTuple):
    """The largest eigenvalue of WᵀW and bounds on it, and its trace, in units of the matrix's entries squared.

    Args:
        value: the Rayleigh quotient of the best vector.
        lower, upper: bounds.
        trace: the sum of all eigenvalues.
        trace_doubt: bound on the rounding error of the trace.
    """

    value: float
    lower: float
    upper: float
    trace: float
    trace_doubt: float


class _Shift(NamedTuple):
    """An estimate of c.

    Args:
        num_taken: number of directions to deflate.
        below: c'.
        errors: the required distance of c above c'.
    """

    num_taken: int
    below: float
    errors: float


class _Thin(NamedTuple):
    """Properties of WᵀW along a few directions, in float64.

    Args:
        top: the largest eigenvalue a₁ of A.
        doubt: bound on the rounding error of an entry of A or R.
        away: the smallest a₁ − c for which τ is a bound.
        trace: of WᵀW.
        trace_doubt: bound on the rounding error of the trace.
    """

    top: float
    doubt: float
    away: float
    trace: float
    trace_doubt: float


@torch.inference_mode()
def enclosed(matrix: Tensor, relative: float) -> Enclosed | None:
    """Bound the largest eigenvalue of WᵀW by deflation.

    Args:
        matrix: W (rows, columns), at least as many rows as columns, float32 or float64, finite; its largest absolute
            value lies between 2⁻²⁰ and 2²⁰.
        relative: largest relative distance of the upper bound from the value.

    Returns:
        Value and bounds; ``None`` for a matrix of zeros, for an accuracy that this method cannot reach, and if very
        many directions are nearly as strong as the first.
    """
    gram = _gram(matrix.float())
    trace = float(gram.diagonal().sum(dtype=torch.float64))
    if trace == 0:
        return None
    before = None
    for ritz in largest(gram):
        shift = _shift(ritz, before, trace, matrix.shape, relative)
        before = ritz
        if shift is None:
            continue
        top, vectors = float(ritz.values[0]), ritz.vectors(shift.num_taken)
        if not _lies_above(shift.below, torch.addmm(gram, vectors, vectors.T, alpha=top, beta=-1)):
            continue
        thin = _thin(matrix, vectors.double(), relative)
        if thin.doubt > 0.1 * relative * thin.top:
            return None
        if thin.top - thin.away >= shift.below + shift.errors:
            upper = (1 + 0.8 * relative) * thin.top + thin.doubt
            return Enclosed(thin.top, thin.top - thin.doubt, upper, thin.trace, thin.trace_doubt)
    return None


def _part(columns: int) -> int:
    """Return how many rows are multiplied at once: more for fewer columns, which reduces rounding errors."""
    return max(256, 2**18 // columns)


def _panel(columns: int) -> int:
    """Return how many columns are factored at once: more for fewer columns, too."""
    widest = 192 if columns <= 1024 else 128
    return -(-columns // -(-columns // widest))  # panels of nearly equal width


def _gram(matrix: Tensor) -> Tensor:
    """Return AᵀA in the matrix's precision; only the lower triangle is multiplied."""
    columns = matrix.shape[1]
    first, *others = matrix.split(_part(columns))
    gram = matrix.new_empty(columns, columns)
    for left, right in _panels(columns, PANEL):
        panel = gram[left:right, :right]
        torch.mm(first[:, left:right].T, first[:, :right], out=panel)
        for rows in others:
            panel += rows[:, left:right].T @ rows[:, :right]
        gram[:left, left:right] = panel[:, :left].T
    return gram


def _panels(columns: int, width: int) -> list[tuple[int, int]]:
    return [(left, min(left + width, columns)) for left in range(0, columns, width)]


def _shift(ritz: Ritz, before: Ritz | None, trace: float, shape: torch.Size, relative: float) -> _Shift | None:
    """Estimate c with the fewest deflated directions; ``None`` if the iteration has to continue.

    It waits until no new eigenvalue has appeared above c' since the previous approximation.
    """
    rows, columns = shape
    top, taken = ritz.values[0], np.arange(1, len(ritz.values))
    blurred = 32 * SINGLE_UNIT * top  # error of a vector in single precision
    away = np.cumsum((ritz.residuals + blurred) ** 2 / ((1 + 0.8 * relative) * top - ritz.values))[:-1]
    sums = _part(columns) + rows / _part(columns) + 8
    factors = _panel(columns) + columns / _panel(columns) + 5
    errors = sums * trace + (3 + (taken + 5) * taken) * top + factors * ((columns + taken) * top - trace)
    errors *= SINGLE_UNIT
    below = top - blurred - away - errors
    margin = below - ritz.values[1:] - ritz.residuals[1:]
    enough = np.flatnonzero(margin >= _MARGIN * top)
    if not len(enough):
        return None
    first = enough[0]
    if margin[first] < _AMPLE_MARGIN * top and _num_above(below[first], before) != _num_above(below[first], ritz):
        return None
    return _Shift(int(taken[first]), float(below[first]), float(errors[first]))


def _num_above(bound: float, ritz: Ritz | None) -> int:
    return 0 if ritz is None else int((ritz.values > bound).sum())


def _lies_above(below: float, negative: Tensor) -> bool:
    """Whether ``below`` I + ``negative``, which is overwritten, has a Cholesky factor.

    It is computed panel by panel, in half the time of the library's for 2,048 columns and with short sums.
    """
    negative.diagonal().add_(below)
    panels = _panels(len(negative), _panel(len(negative)))
    for number, (left, right) in enumerate(panels):
        factor, failed = torch.linalg.cholesky_ex(negative[left:right, left:right])
        if failed:
            return False
        solved = torch.linalg.solve_triangular(factor.T, negative[right:, left:right], upper=True, left=False)
        for start, end in panels[number + 1 :]:
            negative[start:, start:end] -= solved[start - right :] @ solved[start - right : end - right].T
    return True


def _thin(matrix: Tensor, vectors: Tensor, relative: float) -> _Thin:
    """Return the properties of WᵀW along a few directions (columns, k), which are orthonormalised in float64."""
    rows, columns = matrix.shape
    num = vectors.shape[1]
    factor = torch.linalg.cholesky(vectors.T @ vectors)
    across = torch.linalg.solve_triangular(factor, vectors.T, upper=False)
    inner, image, trace = across.new_zeros(num, num), torch.zeros_like(across), across.new_zeros(())
    height = max(16, RAISED // columns)
    raised = torch.empty_like(matrix[:height], dtype=torch.float64)
    for part in matrix.split(height):
        part = raised[: len(part)].copy_(part)
        flat = (part if part.is_contiguous() else part.T).reshape(-1)
        trace += torch.dot(flat, flat)
        product = across @ part.T
        inner.addmm_(product, product.T)
        image.addmm_(product, part)
    values, turned = torch.linalg.eigh(inner)
    top, total = float(values[-1]), float(trace)
    doubt = 5 * (rows + 2 * columns) * num**0.5 * DOUBLE_UNIT * total
    margin = (1 + 0.8 * relative) * top - values
    residual = turned.T @ (image - inner @ across) / margin.sqrt()[:, None]
    away = float(torch.linalg.matrix_norm(residual, 2)) + num**0.5 * doubt / float(margin[-1]) ** 0.5
    return _Thin(top, doubt, away**2, total, (height * columns + rows / height + 8) * DOUBLE_UNIT * total)
