"""Certified largest singular value σ₁, stable rank and effective rank of weight matrices.

σ₁² is the largest eigenvalue of the Gram matrix M of the smaller side, n × n. A large matrix is bounded in single
precision by deflation (``joma.measure.spectra.deflation``). A small one, and one with very many directions nearly as
strong as the first, is bounded by the Gram matrix in float64. Two bounds then enclose σ₁²:

    from above   any θ for which a Cholesky factorisation of θI − M succeeds
    from below   any Rayleigh quotient xᵀMx/xᵀx, of a vector from inverse iteration with the same factor

θ may come from any method: from all eigenvalues of a small M, from the Lanczos iteration for a large one. The bounds
need neither a gap between singular values, which a Gaussian matrix does not have, nor convergence of an iteration:
without it, the factorisation fails and the iteration continues. The bounds include rounding errors, with u = 2⁻⁵³:

    M                 (m + 5) u tr M               sums of m products, and the scaling of the matrix
    Rayleigh          4(n + 2) u tr M              two sums of n, and their quotient
    factorisation     n(n + 4) u θ                 exact for a matrix at this distance: S. M. Rump, Verification of
                                                   positive definiteness, BIT 46, 2006

In total they are about 2e-9 σ₁² for a Gaussian matrix of 8,192 × 2,048. They hold for sums of products in any order
(but not for Strassen's algorithm, which no common library uses).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from joma.arrays import as_float_tensor, numpy_in_numpy_out
from joma.domains import Domain
from joma.errors import InvalidArgument, RunFailed
from joma.measure.precision import full_precision
from joma.measure.spectra.deflation import enclosed
from joma.measure.spectra.lanczos import largest

UNIT = 2.0**-53  # largest relative error of one float64 operation
NUM_EXACT = 128  # up to this smaller side, computing all eigenvalues takes no longer than an iteration
MOST_TURNS = 4  # rounds of inverse iteration; one is enough unless the start is orthogonal to the top vector
IN_RANGE = 2.0**-20, 2.0**20  # range of largest entries whose squares can be summed in single precision
PANEL = 128  # columns of the Gram matrix formed at once: only the lower triangle is multiplied
CHUNK = 2**22  # entries converted to float64 at once, so that a large matrix is not copied as a whole
ACCURACY = Domain(
    "a number from 1e-8 to 1e-3",
    lambda value: 1e-8 <= value <= 1e-3,
    (0.0, 1e-12, 0.1),
    "pass 1e-6, or use singular_values for the accuracy of float64",
)


class Certified(NamedTuple):
    """A value and bounds that enclose the exact one, including rounding errors; (...) in float64 each."""

    value: Tensor
    lower: Tensor
    upper: Tensor


@numpy_in_numpy_out
def spectral_norm(weight: Tensor, relative: float = 1e-6) -> Certified:
    """Return the largest singular value σ₁ of a matrix, with bounds within a relative distance ``relative``.

    >>> import torch, joma
    >>> found = joma.spectral_norm(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    >>> bool(found.lower <= 2 <= found.upper)
    True

    Args:
        weight: (..., rows, columns), finite; any floating dtype and device; leading axes are heads or matrices.
        relative: largest relative distance of either bound from the value, 1e-8 to 1e-3.

    Returns:
        Value, lower and upper bound, (...) in float64 each; 0 for a matrix of zeros.

    Rounding limits the accuracy: 1e-6 cannot be reached for smaller sides above about 50,000.

    Raises:
        InvalidArgument: fewer than two axes, an empty matrix, not floating-point, NaN or infinite entries.
        RunFailed: the matrix is so large that rounding in float64 prevents this accuracy.
    """
    matrix, unit = _scaled(weight, "spectral_norm")
    square, _ = _largest_eigenvalue(matrix, relative, "spectral_norm")
    value, lower, upper = (bound.sqrt() * unit for bound in square)
    return Certified(value, (1 - 4 * UNIT) * lower, (1 + 4 * UNIT) * upper)


@numpy_in_numpy_out
def stable_rank(weight: Tensor) -> Tensor:
    """Return the stable rank ‖W‖²_F / σ₁² of a matrix: its effective number of directions, from 1 to its rank.

    >>> import torch, joma
    >>> joma.stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0])))  # (4 + 1 + 1) / 4
    tensor(1.5000, dtype=torch.float64)

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype.

    Returns:
        (...) in float64: the value of ``certified_stable_rank``.

    The relative error is certified to be below 1e-6. Up to a smaller side of 128 it is about 1e-14. For larger matrices
    it grows as other singular values come close to σ₁: from 1e-13 for a large gap to 1e-7 for a Gaussian matrix.

    Raises:
        InvalidArgument: as for ``spectral_norm``, and a matrix of zeros.
    """
    return _stable_rank(weight, 1e-6, "stable_rank").value


@numpy_in_numpy_out
def certified_stable_rank(weight: Tensor, relative: float = 1e-6) -> Certified:
    """Return the stable rank ‖W‖²_F / σ₁² with bounds within a relative distance ``relative``.

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype.
        relative: largest relative distance of either bound from the value, 1e-8 to 1e-3.

    Returns:
        Value, lower and upper bound, (...) in float64 each.

    Raises:
        InvalidArgument, RunFailed: as for ``spectral_norm``, and a matrix of zeros.
    """
    return _stable_rank(weight, relative, "certified_stable_rank")


@numpy_in_numpy_out
def singular_values(weight: Tensor) -> Tensor:
    """Return all singular values, the largest first, by a full decomposition in float64.

    Args:
        weight: (..., rows, columns), finite; any floating dtype.

    Returns:
        (..., min(rows, columns)) in float64, with errors of about 1e-15 σ₁ times the smaller side.

    Raises:
        InvalidArgument: as for ``spectral_norm``.
    """
    sigma, unit = _decomposed(weight, "singular_values")
    return sigma * unit[..., None]


@numpy_in_numpy_out
def effective_rank(weight: Tensor) -> Tensor:
    """Return the effective rank exp(−Σ pᵢ ln pᵢ), pᵢ = σᵢ/Σσ, of a matrix: from 1 to its rank.

    >>> import torch, joma
    >>> joma.effective_rank(torch.eye(5)).round(decimals=3)
    tensor(5., dtype=torch.float64)

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype.

    Returns:
        (...) in float64, from a full decomposition, because all singular values are needed.

    Source: O. Roy and M. Vetterli, The effective rank, EUSIPCO 2007.

    Raises:
        InvalidArgument: as for ``spectral_norm``, and a matrix of zeros.
    """
    sigma, _ = _decomposed(weight, "effective_rank")
    _require_direction(sigma[..., 0], "effective_rank")
    share = sigma / sigma.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()


def _stable_rank(weight: Tensor, relative: float, function: str) -> Certified:
    matrix, _ = _scaled(weight, function)
    square, trace = _largest_eigenvalue(matrix, relative, function)
    _require_direction(trace.value, function)
    lower, upper = trace.lower / square.upper, trace.upper / square.lower
    return Certified(trace.value / square.value, (1 - 4 * UNIT) * lower, (1 + 4 * UNIT) * upper)


def _decomposed(weight: Tensor, function: str) -> tuple[Tensor, Tensor]:
    matrix, unit = _scaled(weight, function)
    return torch.linalg.svdvals(matrix.to(torch.float64)), unit


def _scaled(weight: Tensor, function: str) -> tuple[Tensor, Tensor]:
    """Return the matrices, scaled so that they can be squared, and the scale (...) that was divided out."""
    weight = as_float_tensor(weight, function, "weight")
    if weight.dim() < 2 or not weight.numel():
        raise _unusable(function, f"of shape {tuple(weight.shape)}", "pass a matrix (..., rows, columns)")
    matrix = weight.detach()
    if matrix.element_size() < 4:
        matrix = matrix.to(torch.float32)
    peak = _peaks(matrix)
    unit = torch.ones_like(peak, dtype=torch.float64)
    if all(IN_RANGE[0] < extreme < IN_RANGE[1] for extreme in torch.aminmax(peak)):
        return matrix, unit
    if not peak.isfinite().all():
        raise _unusable(
            function,
            f"NaN or infinite in {int((~torch.isfinite(matrix)).sum())} of {matrix.numel()} entries",
            "look for the step at which training diverged",
        )
    unit = torch.where(peak > 0, torch.ldexp(unit, torch.frexp(peak).exponent - 1), unit)
    return (matrix.to(torch.float64) / unit[..., None, None]).to(matrix.dtype), unit


def _peaks(matrix: Tensor) -> Tensor:
    """Return the largest absolute value of each matrix, (...); NaN if an entry is NaN."""
    if min(matrix.shape[-2:]) <= NUM_EXACT:
        return matrix.abs().amax((-2, -1))
    each = matrix.reshape(-1, *matrix.shape[-2:]).unbind()  # aminmax is much faster for one matrix at a time
    return torch.stack([torch.stack(torch.aminmax(one)).abs().amax() for one in each]).reshape(matrix.shape[:-2])


def _require_direction(strength: Tensor, function: str) -> None:
    if (strength == 0).any():
        raise _unusable(function, "a matrix of zeros", "leave it out: this rank is undefined for zeros")


def _unusable(function: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument(
        function, "weight", required="a matrix of finite numbers, not all zero", received=received, remedy=remedy
    )


def _largest_eigenvalue(matrix: Tensor, relative: float, function: str) -> tuple[Certified, Certified]:
    """Return the largest eigenvalue of the Gram matrix of the smaller side, to ``relative``, and its trace; (...)."""
    ACCURACY.check(relative, function, "relative")
    upright = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    stack = upright.reshape(-1, *upright.shape[-2:])
    with full_precision(matrix.device):
        if stack.shape[-1] <= NUM_EXACT:
            found = _in_double(stack, relative)
        else:
            found = torch.cat([_of_large(one, relative) for one in stack], dim=1)
    value, lower, upper, *trace = (bound.reshape(matrix.shape[:-2]) for bound in found)
    return Certified(value, lower, upper), Certified(*trace)


def _of_large(matrix: Tensor, relative: float) -> Tensor:
    """Return the result of ``_in_double`` for one matrix (rows, columns), by deflation if possible."""
    found = enclosed(matrix, relative)
    if found is None:
        return _in_double(matrix[None], relative)
    trace, doubt = found.trace, found.trace_doubt
    bounds = (found.value, found.lower, found.upper, trace, trace - doubt, trace + doubt)
    return torch.tensor(bounds, dtype=torch.float64, device=matrix.device)[:, None]


def _in_double(matrix: Tensor, relative: float) -> Tensor:
    """Return value and bounds of the largest eigenvalue and of the trace, (6, matrices), by the float64 Gram matrix."""
    return from_gram(gram_of(matrix), matrix.shape[-2], relative)


def from_gram(gram: Tensor, larger: int, relative: float) -> Tensor:
    """Return the result of ``_in_double`` from Gram matrices, whose entries are sums of ``larger`` products."""
    num = gram.shape[-1]
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    is_zero = trace == 0
    gram.diagonal(dim1=-2, dim2=-1).add_(is_zero[:, None].to(gram))  # a zero matrix is replaced by the identity here
    guess, theta, factor = _accepted(gram, relative)
    top = _start(gram)
    for _ in range(MOST_TURNS):
        for _ in range(3):
            top = torch.cholesky_solve(top / torch.linalg.vector_norm(top, dim=1, keepdim=True), factor)
        rayleigh = ((top * (gram @ top)).sum(1) / top.square().sum(1)).squeeze(-1)
        if (rayleigh >= (1 - 0.5 * relative) * guess).all():
            break
    value = torch.maximum(rayleigh, guess)
    lower = rayleigh - (larger + 4 * num + 13) * UNIT * trace
    upper = theta * (1 + num * (num + 4) * UNIT) + (larger + 5) * UNIT * trace
    # The lower bound must be a little closer, because a stable rank divides by it.
    if not ((upper - value <= relative * value) & (value - lower <= 0.9 * relative * value)).all():
        raise _out_of_digits(gram, relative)
    doubt = (larger + num + 8) * UNIT * trace  # sums of squares along the columns, then along the diagonal
    zeroed = (torch.where(is_zero, 0.0, bound) for bound in (value, lower, upper))
    return torch.stack([*zeroed, trace, trace - doubt, trace + doubt])


def gram_of(matrix: Tensor) -> Tensor:
    """Return AᵀA in float64, (matrices, columns, columns), of matrices (matrices, rows, columns)."""
    num = matrix.shape[-1]
    gram = torch.zeros(len(matrix), num, num, dtype=torch.float64, device=matrix.device)
    for rows in matrix.split(max(num, CHUNK // (len(matrix) * num)), dim=-2):
        raised = rows.to(torch.float64)
        for left in range(0, num, PANEL):
            panel = slice(left, left + PANEL)
            gram[:, panel, : left + PANEL].baddbmm_(raised[..., panel].mT, raised[..., : left + PANEL])
    for left in range(PANEL, num, PANEL):
        gram[:, :left, left : left + PANEL] = gram[:, left : left + PANEL, :left].mT
    return gram


def _accepted(gram: Tensor, relative: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return estimates of the largest eigenvalues, numbers θ just above, and the factors of θI − M that certify θ."""
    for guess in _guesses(gram, relative):
        theta = guess * (1 + 0.8 * relative)
        shifted = gram.neg()
        shifted.diagonal(dim1=-2, dim2=-1).add_(theta[:, None])
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not failed.any():
            return guess, theta, factor
    raise _out_of_digits(gram, relative)


def _guesses(gram: Tensor, relative: float) -> Iterator[Tensor]:
    """Yield increasingly accurate estimates of the largest eigenvalues, (matrices,); large matrices come singly."""
    if gram.shape[-1] > NUM_EXACT:
        last = 0.0
        for ritz in largest(gram[0]):
            top = ritz.values[0]
            if top - last <= 0.05 * relative * top:
                yield gram.new_tensor([top])
            last = top
    yield torch.linalg.eigvalsh(gram)[:, -1]


def _start(gram: Tensor) -> Tensor:
    """Return a random unit vector, the same in every call and on every device, as (matrices, n, 1)."""
    vector = torch.randn(gram.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (vector / vector.norm()).to(gram.device)[None, :, None].expand(len(gram), -1, 1)


def _out_of_digits(gram: Tensor, relative: float) -> RunFailed:
    return RunFailed(
        f"rounding in float64 prevents bounds within {relative:g} for the largest singular value of a matrix with a "
        f"smaller side of {gram.shape[-1]:,}",
        kept="no value is returned without its bounds",
        remedy="pass a larger `relative`, or use singular_values",
    )
