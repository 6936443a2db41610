"""The largest eigenvalues of a symmetric matrix and their vectors, by Lanczos' iteration in the matrix's own precision.

Every new vector is made orthogonal to all before it, so that no eigenvalue comes twice and the vectors can be used.
Nothing here is certain: a vector that the start is orthogonal to is never found. Bounds are made of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FIRST_LOOK = 16  # steps before the first look at what has been found
MOST_STEPS = 400
_MOST_VECTORS = 48  # of those found


class Ritz(NamedTuple):
    """Approximate eigenvalues after some steps, the largest first.

    Args:
        values: (found,) in float64; those of the matrix restricted to what the iteration has seen.
        residuals: (found,) in float64; an eigenvalue lies no further from each than this, roundings apart.
        basis: (n, steps), orthonormal, in the matrix's precision and place.
        turns: (steps, found) in float64, from the basis to the vectors.
    """

    values: np.ndarray
    residuals: np.ndarray
    basis: Tensor
    turns: Tensor

    def vectors(self, num: int) -> Tensor:
        """The first ``num`` approximate eigenvectors, (n, num)."""
        return self.basis @ self.turns[:, :num].to(self.basis)


def largest(matrix: Tensor) -> Iterator[Ritz]:
    """Yield ever better approximations to the largest eigenvalues of a symmetric matrix, until they end.

    Args:
        matrix: (n, n), symmetric and finite, n at least 2.
    """
    num = len(matrix)
    most = min(num, MOST_STEPS)
    basis = matrix.new_empty(most + 1, num)
    start = torch.randn(num, generator=torch.Generator().manual_seed(0)).to(matrix)  # the same on every device
    vector = torch.div(start, torch.linalg.vector_norm(start), out=basis[0])
    alphas, betas, look = [], [], min(FIRST_LOOK, most)
    for step in range(1, most + 1):
        seen = basis[:step]
        new = torch.mv(matrix, vector)
        along = torch.mv(seen, new)
        alphas.append(along[-1])
        new.addmv_(seen.T, along, alpha=-1)
        new.addmv_(seen.T, torch.mv(seen, new), alpha=-1)  # once is not enough: what it leaves grows step by step
        betas.append(norm := torch.linalg.vector_norm(new))
        vector = torch.div(new, norm, out=basis[step])
        if step == look:
            found = _ritz(*torch.stack(alphas + betas).cpu().double().numpy().reshape(2, -1), seen)
            yield found
            if found.basis.shape[1] < step:
                return
            look = min(2 * look if look < 32 else look + (8 if look < 64 else 16), most)


def _ritz(alphas: np.ndarray, betas: np.ndarray, basis: Tensor) -> Ritz:
    """What the steps have found that brought something new: after them all that is left is rounding, or zero."""
    nothing_new = betas <= 16 * torch.finfo(basis.dtype).eps * np.nanmax(abs(np.concatenate([alphas, betas])))
    num = int(np.argmax(nothing_new)) + 1 if nothing_new.any() else len(betas)
    restricted = torch.from_numpy(np.diag(alphas[:num]) + np.diag(betas[: num - 1], -1))
    values, turns = (part[..., -_MOST_VECTORS:].flip(-1) for part in torch.linalg.eigh(restricted))
    return Ritz(values.numpy(), abs(turns[-1].numpy() * betas[num - 1]), basis[:num].T, turns)
