"""Spectra of matrices that are sharded over processes, from their Gram matrix: a sum over the shards."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from joma.errors import InvalidArgument
from joma.measure.precision import full_precision
from joma.measure.spectra.spectrum import UNIT, Certified, from_gram, gram_of


class Gram(NamedTuple):
    """The Gram matrix WᵀW or WWᵀ of a matrix W.

    Args:
        matrix: (n, n) in float64.
        num_summed: the number of products in each of its entries: the other side of W.
    """

    matrix: Tensor
    num_summed: int


def summed_gram(shard: Tensor, axis: int, num_summed: int, group: torch.distributed.ProcessGroup) -> Gram:
    """Return the Gram matrix of a matrix of which each process holds some rows or columns: one all-reduce.

    The sum over shards is exact in the sense of ``joma.measure.spectra.spectrum``: its bounds on rounding hold for any
    order of summation.

    Args:
        shard: (rows, columns) held by this process; rows or columns may be none.
        axis: along which the matrix is cut: 0 for rows, 1 for columns.
        num_summed: the length of the whole matrix along it.
        group: the processes that hold the shards; all of them call this.
    """
    upright = shard if axis == 0 else shard.mT
    with full_precision(shard.device):
        found = gram_of(upright[None])[0]
    torch.distributed.all_reduce(found, group=group)
    return Gram(found, num_summed)


def spectral_norm_of(gram: Gram, relative: float = 1e-6) -> Certified:
    """Return the largest singular value as ``spectral_norm`` does, () in float64.

    Raises:
        InvalidArgument: NaN or infinite entries, or a matrix of zeros.
    """
    square, _ = _certified(gram, relative)
    value, lower, upper = (bound.sqrt() for bound in square)
    return Certified(value, (1 - 4 * UNIT) * lower, (1 + 4 * UNIT) * upper)


def stable_rank_of(gram: Gram, relative: float = 1e-6) -> Certified:
    """Return the stable rank as ``certified_stable_rank`` does, () in float64; errors as ``spectral_norm_of``."""
    square, trace = _certified(gram, relative)
    lower, upper = trace.lower / square.upper, trace.upper / square.lower
    return Certified(trace.value / square.value, (1 - 4 * UNIT) * lower, (1 + 4 * UNIT) * upper)


def effective_rank_of(gram: Gram) -> Tensor:
    """Return the effective rank as ``effective_rank`` does, () in float64; errors as ``spectral_norm_of``.

    Singular values below about 1e-8 σ₁ are lost in the rounding of the Gram matrix.
    """
    _require_usable(gram)
    sigma = torch.linalg.eigvalsh(gram.matrix).clamp_min(0).sqrt()
    return torch.special.entr(sigma / sigma.sum()).sum().exp()


def _certified(gram: Gram, relative: float) -> tuple[Certified, Certified]:
    _require_usable(gram)
    with full_precision(gram.matrix.device):
        value, lower, upper, *trace = from_gram(gram.matrix[None], gram.num_summed, relative)[:, 0]
    return Certified(value, lower, upper), Certified(*trace)


def _require_usable(gram: Gram) -> None:
    trace = gram.matrix.trace()
    if trace.isfinite() and trace > 0:
        return
    raise InvalidArgument(
        "stable_rank",
        "weight",
        required="a matrix of finite numbers, not all zero",
        received="a matrix of zeros" if trace == 0 else "NaN or infinite in some entries",
        remedy="leave it out, or look for the step at which training diverged",
    )
