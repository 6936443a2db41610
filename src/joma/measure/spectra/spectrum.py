"""How a weight matrix spreads its strength over directions: σ₁ between bounds, stable and effective rank.

σ₁² is the largest eigenvalue of the Gram matrix M of the smaller side, n × n. A large matrix is bounded in single
precision, after its strongest directions have been taken out (``joma.measure.spectra.deflation``). A small one, and one
with very many directions nearly as strong as the first, by the Gram matrix in float64. Two bounds then enclose σ₁²:

    from above   any θ for which a Cholesky factorisation of θI − M runs to its end
    from below   any Rayleigh quotient xᵀMx/xᵀx, of a vector that the same factor turns towards the top

Where θ comes from does not matter: all eigenvalues of a small M, Lanczos' iteration for a large one. No bound rests on
a gap between singular values, which a Gaussian matrix does not have, nor on an iteration having arrived: where it had
not, the factorisation breaks off and the iteration goes on. What rounding may add is part of the bounds, in units of
u = 2⁻⁵³:

    M                 (m + 5) u tr M               sums of m products, and matrices brought to scale before
    Rayleigh          4(n + 2) u tr M              two sums of n, and their quotient
    factorisation     n(n + 4) u θ                 the exact one of a matrix that far off: S. M. Rump, Verification of
                                                   positive definiteness, BIT 46, 2006

Together some 2e-9 σ₁² for a Gaussian matrix of 8,192 × 2,048. They hold for sums of products in any order (not for
Strassen's way of multiplying, which no usual library takes).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from joma.arrays import numpy_in_numpy_out
from joma.domains import Domain
from joma.errors import InvalidArgument, RunFailed
from joma.measure.precision import full_precision
from joma.measure.spectra.deflation import enclosed
from joma.measure.spectra.lanczos import largest

UNIT = 2.0**-53  # largest relative error of one float64 operation
NUM_EXACT = 128  # up to this smaller side all eigenvalues cost no more than an iteration
MOST_TURNS = 4  # towards the top; one is enough unless the start happens to be orthogonal to it
IN_RANGE = 2.0**-20, 2.0**20  # largest entries that can be squared in single precision, and their squares summed
PANEL = 128  # columns of the Gram matrix formed at once: only what lies on and below the diagonal is multiplied
CHUNK = 2**22  # entries raised to float64 at once, so that a large matrix is not held a second time
ACCURACY = Domain(
    "a number from 1e-8 to 1e-3",
    lambda value: 1e-8 <= value <= 1e-3,
    (0.0, 1e-12, 0.1),
    "pass 1e-6, or take singular_values for all that float64 can give",
)


class Certified(NamedTuple):
    """A number and two bounds that enclose the true one, roundings included; (...) in float64 each."""

    value: Tensor
    lower: Tensor
    upper: Tensor


@numpy_in_numpy_out
def spectral_norm(weight: Tensor, relative: float = 1e-6) -> Certified:
    """Largest singular value σ₁ of a matrix, with bounds that are at most ``relative`` from it.

    >>> import torch, joma
    >>> found = joma.spectral_norm(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    >>> bool(found.lower <= 2 <= found.upper)
    True

    Args:
        weight: (..., rows, columns), finite; any floating dtype and device; leading axes are heads or matrices.
        relative: largest relative distance of either bound from the value, 1e-8 to 1e-3.

    Returns:
        Value, lower and upper bound, (...) in float64 each; 0 for a matrix of zeros.

    The bounds end where rounding does: at 1e-6, for smaller sides beyond some 50,000.

    Raises:
        InvalidArgument: fewer than two axes, an empty matrix, not floating-point, NaN or infinite entries.
        RunFailed: the matrix is so large that rounding in float64 keeps the bounds apart.
    """
    matrix, unit = _scaled(weight, "spectral_norm")
    square, _ = _largest_eigenvalue(matrix, relative, "spectral_norm")
    value, lower, upper = (bound.sqrt() * unit for bound in square)
    return Certified(value, (1 - 4 * UNIT) * lower, (1 + 4 * UNIT) * upper)


@numpy_in_numpy_out
def stable_rank(weight: Tensor) -> Tensor:
    """Stable rank ‖W‖²_F / σ₁² of a matrix: how many directions carry its strength, between 1 and its rank.

    >>> import torch, joma
    >>> joma.stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0])))  # (4 + 1 + 1) / 4
    tensor(1.5000, dtype=torch.float64)

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype, raised to float64.

    Returns:
        (...) in float64: the value of ``certified_stable_rank``.

    The relative error is certified to be below 1e-6. Up to a smaller side of 128 it is some 1e-14; beyond, the more the
    nearer other singular values are to σ₁: some 1e-13 where σ₁ stands apart, up to 1e-7 in a Gaussian matrix.

    Raises:
        InvalidArgument: as ``spectral_norm``, and a matrix of zeros.
    """
    return _stable_rank(weight, 1e-6, "stable_rank").value


@numpy_in_numpy_out
def certified_stable_rank(weight: Tensor, relative: float = 1e-6) -> Certified:
    """Stable rank ‖W‖²_F / σ₁² with bounds that are at most ``relative`` from it.

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype, raised to float64.
        relative: largest relative distance of either bound from the value, 1e-8 to 1e-3.

    Returns:
        Value, lower and upper bound, (...) in float64 each.

    Raises:
        InvalidArgument, RunFailed: as ``spectral_norm``, and a matrix of zeros.
    """
    return _stable_rank(weight, relative, "certified_stable_rank")


@numpy_in_numpy_out
def singular_values(weight: Tensor) -> Tensor:
    """All singular values, the largest first: a full decomposition in float64, the slow way to any number above.

    Args:
        weight: (..., rows, columns), finite; any floating dtype, raised to float64.

    Returns:
        (..., min(rows, columns)) in float64, each within some 1e-15 σ₁ times the smaller side.

    Raises:
        InvalidArgument: as ``spectral_norm``.
    """
    sigma, unit = _decomposed(weight, "singular_values")
    return sigma * unit[..., None]


@numpy_in_numpy_out
def effective_rank(weight: Tensor) -> Tensor:
    """Effective rank exp(−Σ pᵢ ln pᵢ), pᵢ = σᵢ/Σσ: all directions counted, between 1 and the matrix's rank.

    >>> import torch, joma
    >>> joma.effective_rank(torch.eye(5)).round(decimals=3)
    tensor(5., dtype=torch.float64)

    Args:
        weight: (..., rows, columns), finite and not all zero; any floating dtype, raised to float64.

    Returns:
        (...) in float64. Costs a full decomposition, since every singular value counts.

    Source: O. Roy and M. Vetterli, The effective rank, EUSIPCO 2007.

    Raises:
        InvalidArgument: as ``spectral_norm``, and a matrix of zeros.
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
    """The matrices, fit to be squared in float64, and the unit (...) in which they then are."""
    weight = torch.as_tensor(weight)
    if weight.dim() < 2 or not weight.numel():
        raise _unusable(function, f"of shape {tuple(weight.shape)}", "pass a matrix (..., rows, columns)")
    if not weight.is_floating_point():
        raise _unusable(
            function, f"of dtype {str(weight.dtype).removeprefix('torch.')}", "pass real weights, as floats"
        )
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
            "look for the step where training broke down",
        )
    unit = torch.where(peak > 0, torch.ldexp(unit, torch.frexp(peak).exponent - 1), unit)
    return (matrix.to(torch.float64) / unit[..., None, None]).to(matrix.dtype), unit


def _peaks(matrix: Tensor) -> Tensor:
    """The largest entry in size of every matrix, (...); NaN where one is."""
    if min(matrix.shape[-2:]) <= NUM_EXACT:
        return matrix.abs().amax((-2, -1))
    each = matrix.reshape(-1, *matrix.shape[-2:]).unbind()  # far faster, of one at a time
    return torch.stack([torch.stack(torch.aminmax(one)).abs().amax() for one in each]).reshape(matrix.shape[:-2])


def _require_direction(strength: Tensor, function: str) -> None:
    if (strength == 0).any():
        raise _unusable(
            function, "a matrix of zeros", "zeros have no direction, hence no rank of this kind: leave it out"
        )


def _unusable(function: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument(
        function, "weight", required="a matrix of finite numbers, not all zero", received=received, remedy=remedy
    )


def _largest_eigenvalue(matrix: Tensor, relative: float, function: str) -> tuple[Certified, Certified]:
    """The largest eigenvalue of the Gram matrix of the smaller side, to ``relative``, and its trace; (...) each."""
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
    """As ``_in_double``, of one matrix (rows, columns)."""
    found = enclosed(matrix, relative)
    if found is None:
        return _in_double(matrix[None], relative)
    trace, doubt = found.trace, found.trace_doubt
    bounds = (found.value, found.lower, found.upper, trace, trace - doubt, trace + doubt)
    return torch.tensor(bounds, dtype=torch.float64, device=matrix.device)[:, None]


def _in_double(matrix: Tensor, relative: float) -> Tensor:
    """Value and bounds of the largest eigenvalue and of the trace, (6, matrices), by the Gram matrix in float64."""
    gram = _gram(matrix)
    num, larger = gram.shape[-1], matrix.shape[-2]
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    is_zero = trace == 0
    gram.diagonal(dim1=-2, dim2=-1).add_(is_zero[:, None].to(gram))  # zeros pass as the identity and are put back below
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
    # from below a little closer, since a stable rank divides by it
    if not ((upper - value <= relative * value) & (value - lower <= 0.9 * relative * value)).all():
        raise _out_of_digits(gram, relative)
    doubt = (larger + num + 8) * UNIT * trace  # of a sum of squares: down the columns, then along the diagonal
    zeroed = (torch.where(is_zero, 0.0, bound) for bound in (value, lower, upper))
    return torch.stack([*zeroed, trace, trace - doubt, trace + doubt])


def _gram(matrix: Tensor) -> Tensor:
    """AᵀA in float64, (matrices, columns, columns), of matrices (matrices, rows, columns)."""
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
    """Close guesses at the largest eigenvalues, numbers θ just above, and the factors of θI − M that prove them so."""
    for guess in _guesses(gram, relative):
        theta = guess * (1 + 0.8 * relative)
        shifted = gram.neg()
        shifted.diagonal(dim1=-2, dim2=-1).add_(theta[:, None])
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not failed.any():
            return guess, theta, factor
    raise _out_of_digits(gram, relative)


def _guesses(gram: Tensor, relative: float) -> Iterator[Tensor]:
    """Ever better guesses at the largest eigenvalues, (matrices,), in the end the exact ones.

    Only small matrices come more than one at a time.
    """
    if gram.shape[-1] > NUM_EXACT:
        last = 0.0
        for ritz in largest(gram[0]):
            top = ritz.values[0]
            if top - last <= 0.05 * relative * top:
                yield gram.new_tensor([top])
            last = top
    yield torch.linalg.eigvalsh(gram)[:, -1]


def _start(gram: Tensor) -> Tensor:
    """A random unit vector, the same at every call and on every device, as (matrices, n, 1)."""
    vector = torch.randn(gram.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (vector / vector.norm()).to(gram.device)[None, :, None].expand(len(gram), -1, 1)


def _out_of_digits(gram: Tensor, relative: float) -> RunFailed:
    return RunFailed(
        f"rounding in float64 keeps the bounds on the largest singular value of a matrix with a smaller side of "
        f"{gram.shape[-1]:,} further apart than {relative:g}",
        kept="no value is returned without its bounds",
        remedy="pass a larger `relative`, or take singular_values",
    )
