"""Embeddings that are not orthonormal: what Theorem 1 becomes, exactly, and how far off it is if one does not care.

With M = UᵀU, r = Uᵀu_q and γₖ = E[gₖ φ′ₖ], and for exponential attention at temperature T,

    z(t) − z(0) = (1/T) Σₖ { ½ (vₖ²(t) − vₖ²(0)) − ∫ vₖ∘[(I − M⁻¹) v̇ₖ] dt − ∫ vₖ∘[M⁻¹ r] γₖ dt }.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from joma.arrays import Real, as_real_in, numpy_in_numpy_out, on_one_device
from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument

_SINGULAR = 1e-10  # smallest eigenvalue of M relative to its largest, below which M⁻¹ has fewer than six digits


@numpy_in_numpy_out
def coherence(context_embedding: Real) -> torch.Tensor:
    """Return max |UᵀU − I|: 0 for orthonormal embeddings, the size of all corrections below.

    Claim: embeddings.almost_orthogonal.

    Args:
        context_embedding: (..., d, M) U, one column per contextual token.

    Returns:
        (...) at least 0.
    """
    embedding = _read_embedding("coherence", context_embedding)
    gram = embedding.mT @ embedding
    return (gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)).abs().amax(dim=(-2, -1))


@numpy_in_numpy_out
def almost_orthogonal_correction(
    token_weights: Real,
    gates: Real,
    times: Real,
    context_embedding: Real,
    query_embedding: Real,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return what to add to Theorem 1's logits (exponential attention) for embeddings that are not orthonormal.

    Claim: embeddings.almost_orthogonal. Both integrals are taken by trapezoids between the snapshots, so that the error
    falls with the square of their distance.

    Args:
        token_weights: (T, M, K) V = UᵀW at each snapshot.
        gates: (T, K) γₖ = E[gₖ φ′ₖ] at each snapshot.
        times: (T,) of the snapshots, not decreasing.
        context_embedding: (d, M) U; M = UᵀU must have an inverse.
        query_embedding: (d,) u_q.
        temperature: T, above 0.

    Returns:
        (T, M) the correction to z(t) − z(0), 0 at the first snapshot and for orthonormal embeddings.
    """
    function = "almost_orthogonal_correction"
    weights, gates, times, embedding, query = on_one_device(
        as_real_in(FINITE, token_weights, function, "token_weights"),
        as_real_in(FINITE, gates, function, "gates"),
        as_real_in(FINITE, times, function, "times"),
        _read_embedding(function, context_embedding),
        as_real_in(FINITE, query_embedding, function, "query_embedding"),
    )
    POSITIVE.check(temperature, function, "temperature")
    num_tokens = embedding.shape[1]
    if weights.ndim != 3 or weights.shape[1] != num_tokens:
        raise _wrong_shape(function, "token_weights", f"(T, {num_tokens}, K)", weights)
    num_times, _, num_hidden = weights.shape
    if gates.shape != (num_times, num_hidden):
        raise _wrong_shape(function, "gates", f"({num_times}, {num_hidden})", gates)
    if times.shape != (num_times,):
        raise _wrong_shape(function, "times", f"({num_times},)", times)
    departure = _departure(function, embedding, query)
    middle = (weights[1:] + weights[:-1]) / 2
    along = (middle * (departure.matrix @ weights.diff(dim=0))).sum(dim=-1)
    opened = weights * gates[:, None, :]
    across = (opened[1:] + opened[:-1]).sum(dim=-1) / 2 * times.diff()[:, None] * departure.shift
    start = torch.zeros(1, num_tokens, dtype=weights.dtype, device=weights.device)
    return -torch.cat([start, along + across]).cumsum(dim=0) / temperature


@numpy_in_numpy_out
def uncorrected_error_bound(
    context_embedding: Real,
    query_embedding: Real,
    largest_weights: Real,
    path_lengths: Real,
    gate_times: Real,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return how far the logits can be from Theorem 1 if the correction is left out; nothing has to be integrated.

    Claim: embeddings.almost_orthogonal. First order in the coherence. By Cauchy–Schwarz in the tokens, and the
    largest value in time.

    Args:
        context_embedding: (d, M) U; M = UᵀU must have an inverse.
        query_embedding: (d,) u_q.
        largest_weights: (M, K) the largest |v| of each token and hidden unit during training.
        path_lengths: (K,) how far vₖ has travelled, at least ‖vₖ(t) − vₖ(0)‖ and equal to it on a straight way.
        gate_times: (K,) ∫ |γₖ| dt, or anything larger, such as the largest |γₖ| times the duration.
        temperature: T, above 0.

    Returns:
        (M,) a bound on |z(t) − z(0) − (1/2T) Σₖ (vₖ²(t) − vₖ²(0))|, exponential attention.
    """
    function = "uncorrected_error_bound"
    embedding, query, largest, lengths, opened = on_one_device(
        _read_embedding(function, context_embedding),
        as_real_in(FINITE, query_embedding, function, "query_embedding"),
        as_real_in(NON_NEGATIVE, largest_weights, function, "largest_weights"),
        as_real_in(NON_NEGATIVE, path_lengths, function, "path_lengths"),
        as_real_in(NON_NEGATIVE, gate_times, function, "gate_times"),
    )
    POSITIVE.check(temperature, function, "temperature")
    if largest.ndim != 2 or largest.shape[0] != embedding.shape[1]:
        raise _wrong_shape(function, "largest_weights", f"({embedding.shape[1]}, K)", largest)
    for name, tensor in (("path_lengths", lengths), ("gate_times", opened)):
        if tensor.shape != largest.shape[1:]:
            raise _wrong_shape(function, name, f"({largest.shape[1]},)", tensor)
    departure = _departure(function, embedding, query)
    along = torch.linalg.vector_norm(departure.matrix, dim=-1) * (largest @ lengths)
    return (along + departure.shift.abs() * (largest @ opened)) / temperature


class _Departure(NamedTuple):
    """I − M⁻¹, (M, M), and M⁻¹ r, (M,): both 0 for orthonormal embeddings."""

    matrix: torch.Tensor
    shift: torch.Tensor


def _departure(function: str, embedding: torch.Tensor, query: torch.Tensor) -> _Departure:
    if query.shape != embedding.shape[:1]:
        raise _wrong_shape(function, "query_embedding", f"({embedding.shape[0]},)", query)
    gram = embedding.mT @ embedding
    eigenvalues = torch.linalg.eigvalsh(gram.detach())
    if float(eigenvalues[0]) <= _SINGULAR * float(eigenvalues[-1]):
        raise InvalidArgument(
            function,
            "context_embedding",
            required="linearly independent columns, so that its Gram matrix has an inverse",
            received=f"of shape {tuple(embedding.shape)} with a Gram matrix whose eigenvalues go from "
            f"{float(eigenvalues[0]):.1e} to {float(eigenvalues[-1]):.1e}",
            remedy="with more tokens than dimensions there is no such correction: measure the invariant's residual",
        )
    identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    # M⁻¹ (M − I), not I − M⁻¹: nothing cancels, so that orthonormal embeddings need no correction at all.
    matrix = torch.linalg.solve(gram, gram - identity)
    return _Departure(matrix, torch.linalg.solve(gram, embedding.mT @ query))


def _read_embedding(function: str, context_embedding: Real) -> torch.Tensor:
    embedding = as_real_in(FINITE, context_embedding, function, "context_embedding")
    allowed = embedding.ndim >= 2 if function == "coherence" else embedding.ndim == 2
    if not allowed or embedding.shape[-1] == 0:
        raise _wrong_shape(function, "context_embedding", "(d, M) with at least one token", embedding)
    return embedding


def _wrong_shape(function: str, parameter: str, required: str, received: torch.Tensor) -> InvalidArgument:
    return InvalidArgument(
        function,
        parameter,
        required=f"of shape {required}",
        received=f"of shape {tuple(received.shape)}",
        remedy="check its axes",
    )
