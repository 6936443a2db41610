"""The largest eigenvalues and eigenvectors of a symmetric matrix, by the Lanczos iteration in the matrix's precision.

Every new vector is orthogonalised against all earlier ones, so that no eigenvalue is repeated. The results are not
certified: an eigenvector orthogonal to the start vector is never found. Callers derive the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FIRST_CHECK = 16  # steps before the first approximation is computed
MOST_STEPS = 400
_MOST_VECTORS = 48  # eigenvectors returned at most


class Ritz(NamedTuple):
    """Approximate eigenvalues (Ritz values) after some steps, the largest first.

    Args:
        values: (found,) in float64; eigenvalues of the matrix restricted to the Krylov space.
        residuals: (found,) in float64; some eigenvalue lies within this distance of each value, except for rounding.
        basis: (n, steps), orthonormal, in the matrix's precision and on its device.
        turns: (steps, found) in float64; coefficients of the eigenvectors in the basis.
    """

    values: np.ndarray
    residuals: np.ndarray
    basis: Tensor
    turns: Tensor

    def vectors(self, num: int) -> Tensor:
        """Return the first ``num`` approximate eigenvectors, (n, num)."""
        return self.basis @ self.turns[:, :num].to(self.basis)


def largest(matrix: Tensor) -> Iterator[Ritz]:
    """Yield increasingly accurate approximations of the largest eigenvalues of a symmetric matrix.

    Args:
        matrix: (n, n), symmetric and finite, n at least 2.
    """
    num = len(matrix)
    most = min(num, MOST_STEPS)
    basis = matrix.new_empty(most + 1, num)
    start = torch.randn(num, generator=torch.Generator().manual_seed(0)).to(matrix)  # the same on every device
    vector = torch.div(start, torch.linalg.vector_norm(start), out=basis[0])
    alphas, betas, check = [], [], min(FIRST_CHECK, most)
    for step in range(1, most + 1):
        seen = basis[:step]
        new = torch.mv(matrix, vector)
        along = torch.mv(seen, new)
        alphas.append(along[-1])
        new.addmv_(seen.T, along, alpha=-1)
        new.addmv_(seen.T, torch.mv(seen, new), alpha=-1)  # twice, because errors left by one pass grow
        betas.append(norm := torch.linalg.vector_norm(new))
        vector = torch.div(new, norm, out=basis[step])
        if step == check:
            found = _ritz(*torch.stack(alphas + betas).cpu().double().numpy().reshape(2, -1), seen)
            yield found
            if found.basis.shape[1] < step:
                return
            check = min(2 * check if check < 32 else check + (8 if check < 64 else 16), most)


def _ritz(alphas: np.ndarray, betas: np.ndarray, basis: Tensor) -> Ritz:
    """Return the approximations from all steps before the residual vector is zero or only rounding."""
    nothing_new = betas <= 16 * torch.finfo(basis.dtype).eps * np.nanmax(abs(np.concatenate([alphas, betas])))
    num = int(np.argmax(nothing_new)) + 1 if nothing_new.any() else len(betas)
    restricted = torch.from_numpy(np.diag(alphas[:num]) + np.diag(betas[: num - 1], -1))
    values, turns = (part[..., -_MOST_VECTORS:].flip(-1) for part in torch.linalg.eigh(restricted))
    return Ritz(values.numpy(), abs(turns[-1].numpy() * betas[num - 1]), basis[:num].T, turns)
