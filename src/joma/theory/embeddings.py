"""Theorem 1 for embeddings that are not orthonormal: the exact correction, and a bound on the error without it.

With M = UᵀU, r = Uᵀu_q and γₖ = E[gₖ φ′ₖ], and for exponential attention at temperature T,

    z(t) − z(0) = (1/T) Σₖ { ½ (vₖ²(t) − vₖ²(0)) − ∫ vₖ∘[(I − M⁻¹) v̇ₖ] dt − ∫ vₖ∘[M⁻¹ r] γₖ dt }.
"""

from __future__ import annotations

import torch

from joma.arrays import Real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device, wrong_shape
from joma.domains import FINITE, NON_NEGATIVE, TEMPERATURE
from joma.errors import InvalidArgument

_SINGULAR = 1e-10  # smallest eigenvalue of M relative to its largest, below which M⁻¹ has fewer than six correct digits


@numpy_in_numpy_out
def coherence(context_embedding: Real) -> torch.Tensor:
    """Return max |UᵀU − I|: 0 for orthonormal embeddings, and a measure of the size of the corrections.

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
    """Return the correction of Theorem 1's logits (exponential attention) for embeddings that are not orthonormal.

    Claim: embeddings.almost_orthogonal. Both integrals use the trapezoidal rule between snapshots; its error is
    of second order in their spacing.

    Args:
        token_weights: (T, M, K) V = UᵀW at each snapshot.
        gates: (T, K) γₖ = E[gₖ φ′ₖ] at each snapshot.
        times: (T,) of the snapshots, not decreasing.
        context_embedding: (d, M) U; M = UᵀU must be invertible.
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
    TEMPERATURE.check(temperature, function, "temperature")
    num_tokens = embedding.shape[1]
    if weights.ndim != 3 or weights.shape[1] != num_tokens:
        raise wrong_shape(function, "token_weights", f"of shape (T, {num_tokens}, K)", weights)
    num_times, _, num_hidden = weights.shape
    if gates.shape != (num_times, num_hidden):
        raise wrong_shape(function, "gates", f"of shape ({num_times}, {num_hidden})", gates)
    if times.shape != (num_times,):
        raise wrong_shape(function, "times", f"of shape ({num_times},)", times)
    matrix, shift = _departure(function, embedding, query)
    middle = (weights[1:] + weights[:-1]) / 2
    along = (middle * (matrix @ weights.diff(dim=0))).sum(dim=-1)
    opened = weights * gates[:, None, :]
    across = (opened[1:] + opened[:-1]).sum(dim=-1) / 2 * times.diff()[:, None] * shift
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
    """Return a bound on the error of Theorem 1's logits without the correction, of first order in the coherence.

    Claim: embeddings.almost_orthogonal. It needs no integration: it uses the Cauchy–Schwarz inequality over the tokens
    and the largest values over time.

    Args:
        context_embedding: (d, M) U; M = UᵀU must be invertible.
        query_embedding: (d,) u_q.
        largest_weights: (M, K) the largest |v| of each token and hidden unit during training.
        path_lengths: (K,) length of the path of vₖ, at least ‖vₖ(t) − vₖ(0)‖ and equal to it on a straight path.
        gate_times: (K,) ∫ |γₖ| dt or an upper bound, such as the largest |γₖ| times the duration.
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
    TEMPERATURE.check(temperature, function, "temperature")
    if largest.ndim != 2 or largest.shape[0] != embedding.shape[1]:
        raise wrong_shape(function, "largest_weights", f"of shape ({embedding.shape[1]}, K)", largest)
    for name, tensor in (("path_lengths", lengths), ("gate_times", opened)):
        if tensor.shape != largest.shape[1:]:
            raise wrong_shape(function, name, f"of shape ({largest.shape[1]},)", tensor)
    matrix, shift = _departure(function, embedding, query)
    along = torch.linalg.vector_norm(matrix, dim=-1) * (largest @ lengths)
    return (along + shift.abs() * (largest @ opened)) / temperature


@numpy_in_numpy_out
def overcomplete_logits(
    token_weights: Real, squared_norm: Real, mean_attention: Real, temperature: float = 1.0
) -> torch.Tensor:
    """Return the attention logits that Theorem 1 predicts if there are more tokens than dimensions (softmax attention).

    Claim: text.theorem1 (derived). z = (1/2T) Σₖ (vₖ² − ‖wₖ‖² b̄) + const, for tokens of length 1. In the second term
    of Theorem 1, ‖vₖ‖² stands for 2 ∫ vₖ · E[gₖ φ′ₖ b] dt, which is 2 ∫ wₖ · ẇₖ dt = ‖wₖ‖² + const. The two norms are
    equal for orthonormal tokens; M tokens in D < M dimensions count every direction of wₖ about M/D times.

    Assumes what ``expected_logits`` does, except that M = UᵀU is 1 on its diagonal and small off it, not 0: the first
    term is approximate, and the query's part of wₖ is neglected.

    Args:
        token_weights: (..., M, K) V = UᵀW.
        squared_norm: (...) Σₖ ‖wₖ‖².
        mean_attention: (..., M) b̄; constant in time in the theorem.
        temperature: T, above 0.

    Returns:
        (..., M) z up to a constant.
    """
    function = "overcomplete_logits"
    weights, norm, mean = on_one_device(
        as_real_in(FINITE, token_weights, function, "token_weights"),
        as_real_in(NON_NEGATIVE, squared_norm, function, "squared_norm"),
        as_real_in(NON_NEGATIVE, mean_attention, function, "mean_attention"),
    )
    TEMPERATURE.check(temperature, function, "temperature")
    if weights.ndim < 2:
        raise wrong_shape(function, "token_weights", "of shape (..., M, K)", weights)
    check_broadcast(function, token_weights=weights[..., 0], mean_attention=mean, squared_norm=norm[..., None])
    return (weights.square().sum(-1) - norm[..., None] * mean) / (2 * temperature)


def _departure(function: str, embedding: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """I − M⁻¹, (M, M), and M⁻¹ r, (M,): both 0 for orthonormal embeddings."""
    if query.shape != embedding.shape[:1]:
        raise wrong_shape(function, "query_embedding", f"of shape ({embedding.shape[0]},)", query)
    gram = embedding.mT @ embedding
    eigenvalues = torch.linalg.eigvalsh(gram.detach())
    if float(eigenvalues[0]) <= _SINGULAR * float(eigenvalues[-1]):
        raise InvalidArgument(
            function,
            "context_embedding",
            required="linearly independent columns, so that its Gram matrix is invertible",
            received=f"of shape {tuple(embedding.shape)} with a Gram matrix whose eigenvalues range from "
            f"{float(eigenvalues[0]):.1e} to {float(eigenvalues[-1]):.1e}",
            remedy="with more tokens than dimensions the correction does not exist: measure the invariant's residual",
        )
    identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    # M⁻¹ (M − I) instead of I − M⁻¹ avoids cancellation: the correction is exactly 0 for orthonormal embeddings.
    matrix = torch.linalg.solve(gram, gram - identity)
    return matrix, torch.linalg.solve(gram, embedding.mT @ query)


def _read_embedding(function: str, context_embedding: Real) -> torch.Tensor:
    embedding = as_real_in(FINITE, context_embedding, function, "context_embedding")
    allowed = embedding.ndim >= 2 if function == "coherence" else embedding.ndim == 2
    if not allowed or embedding.shape[-1] == 0:
        raise wrong_shape(function, "context_embedding", "of shape (d, M) with at least one token", embedding)
    return embedding
