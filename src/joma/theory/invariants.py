"""Theorem 1: the quantity that stays constant during joint training of attention and MLP.

Theorem 1 relates the logits z of a token to its MLP weights v along a gradient flow, for orthonormal token and query
embeddings and any loss, upper layer and activation. Arrays have a token axis M and a hidden axis K; leading axes
(times, problems) are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from joma.arrays import Real, as_real, as_real_in, numpy_in_numpy_out, wrong_shape
from joma.domains import SQUARABLE
from joma.errors import InvalidArgument
from joma.problem.attention import AttentionKind, check_attention


class SoftmaxIdentities(NamedTuple):
    """The drift of two quantities that are constant along any gradient flow with softmax attention.

    Args:
        logit_sum: the drift of Σₗ zₗ, (T, ...) or, for several queries, (T, ..., Q).
        closed: the drift of z − (1/2T) Σₖ vₖ² + (1/T) ∫ Σₖ E[gₖ φ′ₖ b bᵀ] vₖ dt, summed over queries, (T, ..., M).
    """

    logit_sum: torch.Tensor
    closed: torch.Tensor


@numpy_in_numpy_out
def expected_logits(
    token_weights: Real,
    attention: AttentionKind,
    temperature: float = 1.0,
    mean_attention: Real | None = None,
    start: tuple[Real, Real] | None = None,
) -> torch.Tensor:
    """Return the attention logits that Theorem 1 predicts from MLP weights (claims theorem1.linear, .exp, .softmax).

    linear: z = ±√(Σₖ vₖ² + const); exp: z = (1/2T) Σₖ vₖ² + const; softmax: z = (1/2T) Σₖ (vₖ² − ‖vₖ‖² b̄) + const.
    Assumes orthonormal embeddings, one query, gradient flow; softmax also assumes that b̄ = E[b] is constant in time
    and factors out of the gradient.

    Args:
        token_weights: V, (..., M, K): vₖ of each contextual token.
        attention: the kind of attention.
        temperature: T > 0; exp and softmax only.
        mean_attention: b̄, (..., M); required with softmax, not allowed otherwise.
        start: (token weights, logits) at one time, which determine the constant; if ``None``, the constant is 0.

    Returns:
        z, (..., M). With linear attention it has the sign of the starting logits, and is not negative without a start.

    Raises:
        InvalidArgument: an argument outside its domain; weights without a real logit (linear attention,
            Σₖ vₖ² + const < 0, beyond rounding).
    """
    name = "expected_logits"
    check_attention(attention, temperature, name)
    weights = _with_axes(token_weights, 2, name, "token_weights")
    mean = _mean_attention(mean_attention, attention, weights, name)
    if start is None:
        if attention == "linear":
            return torch.linalg.vector_norm(weights, dim=-1)  # unlike a square root, differentiable at 0
        return _driven(weights, temperature, mean)
    first = _with_axes(start[0], 2, name, "start[0]")
    logits = _with_axes(start[1], 1, name, "start[1]")
    _broadcasts(weights[..., 0], first[..., 0], name, "start[0]")
    _broadcasts(first[..., 0], logits, name, "start[1]")
    if attention == "linear":
        square = logits.square() + weights.square().sum(-1) - first.square().sum(-1)
        if (square < -1e-12 * (1 + logits.square())).any():
            raise InvalidArgument(
                name,
                "token_weights",
                required="weights with Σₖ vₖ² of at least Σₖ vₖ(0)² − z(0)², as linear attention implies",
                received=f"{-float(square.min()):.3g} below",
                remedy="check that weights and start belong to one trajectory",
            )
        return torch.copysign(square.clamp_min(0).sqrt(), logits)
    return logits + _driven(weights, temperature, mean) - _driven(first, temperature, mean)


@numpy_in_numpy_out
def invariant(
    token_weights: Real,
    attention_logits: Real,
    attention: AttentionKind,
    temperature: float = 1.0,
    mean_attention: Real | None = None,
) -> torch.Tensor:
    """Return the quantity that is constant by Theorem 1, per token.

    Claims: theorem1.linear, theorem1.exp, theorem1.softmax, theorem1.several_queries.

    >>> import torch, joma
    >>> weights = torch.tensor([[1.0, 2.0], [0.0, 1.0]])  # two tokens, two hidden units
    >>> joma.invariant(weights, torch.tensor([3.0, 0.5]), "exp")  # z − Σv²/2
    tensor([0.5000, 0.0000], dtype=torch.float64)

    linear: z² − Σₖ vₖ²; exp: z − (1/2T) Σₖ vₖ²; softmax: z − (1/2T) Σₖ (vₖ² − ‖vₖ‖² b̄). For several
    queries with a common V, z² (linear) or z (exp) is summed over the queries. Assumptions as for ``expected_logits``.

    Args:
        token_weights: V, (..., M, K).
        attention_logits: z, (..., M) of one query, or (..., Q, M) of several.
        attention: the kind of attention.
        temperature: T > 0; exp and softmax only.
        mean_attention: b̄, (..., M); required with softmax, not allowed otherwise.

    Returns:
        The invariant, (..., M).

    Raises:
        InvalidArgument: an argument outside its domain; more than one query with softmax attention, which
            Theorem 1 does not cover.
    """
    for name, value in (("token_weights", token_weights), ("attention_logits", attention_logits)):
        as_real_in(SQUARABLE, value, "invariant", name)
    return _invariant(token_weights, attention_logits, attention, temperature, mean_attention)


def _invariant(
    token_weights: Real, attention_logits: Real, attention: AttentionKind, temperature: float, mean: Real | None
) -> torch.Tensor:
    """As ``invariant``, also for numbers of a diverged training, whose squares float64 cannot hold."""
    name = "invariant"
    check_attention(attention, temperature, name)
    weights = _with_axes(token_weights, 2, name, "token_weights")
    logits = _per_query(attention_logits, weights, name)
    if attention == "softmax" and logits.shape[-2] > 1:
        raise InvalidArgument(
            name,
            "attention_logits",
            required="the logits of one query, with softmax attention",
            received=f"of {logits.shape[-2]} queries",
            remedy="use softmax_identities, which are exact for several",
        )
    mean = _mean_attention(mean, attention, weights, name)
    if attention == "linear":
        return logits.square().sum(-2) - weights.square().sum(-1)
    return logits.sum(-2) - _driven(weights, temperature, mean)


@numpy_in_numpy_out
def invariant_residual(
    token_weights: Real,
    attention_logits: Real,
    attention: AttentionKind,
    temperature: float = 1.0,
    mean_attention: Real | None = None,
) -> torch.Tensor:
    """Return the drift of Theorem 1's invariant from its value at the first time; zero if the theorem holds.

    Args:
        token_weights: V over time, (T, ..., M, K).
        attention_logits: z over time, (T, ..., M) of one query, or (T, ..., Q, M) of several.
        attention: the kind of attention.
        temperature: T > 0; exp and softmax only.
        mean_attention: b̄, (..., M), softmax only: constant, as the theorem assumes (without a time axis or with one of
            length 1), or measured at each time.

    Returns:
        The drift, (T, ..., M); in the units of z (z² for linear attention). NaN where squares exceed float64.
    """
    value = _invariant(
        as_real(token_weights, "invariant_residual", "token_weights"),
        as_real(attention_logits, "invariant_residual", "attention_logits"),
        attention,
        temperature,
        mean_attention,
    )
    return value - value[:1]


@numpy_in_numpy_out
def softmax_identities(
    token_weights: Real, attention_logits: Real, recoil_integral: Real, temperature: float = 1.0
) -> SoftmaxIdentities:
    """Return the drift of the two exact identities of softmax attention, which assume nothing of b̄ (derived).

    Σₗ zₗ = const, and z − (1/2T) Σₖ vₖ² + (1/T) ∫ Σₖ E[gₖ φ′ₖ b bᵀ] vₖ dt = const. Both hold for any loss, upper layer
    and activation; the second needs orthonormal embeddings, and summed over queries it holds for several.

    Args:
        token_weights: V over time, (T, ..., M, K).
        attention_logits: z over time, (T, ..., M) of one query, or (T, ..., Q, M) of several.
        recoil_integral: ∫ Σₖ E[gₖ φ′ₖ b bᵀ] vₖ dt from the first time on, in the shape of the logits.
        temperature: T > 0.

    Returns:
        Both drifts since the first time. They are zero up to the integrator's error along a gradient flow, and of first
        order in the step along gradient descent.
    """
    name = "softmax_identities"
    check_attention("softmax", temperature, name)
    weights = _with_axes(token_weights, 2, name, "token_weights")
    logits = _per_query(attention_logits, weights, name)
    recoil = _per_query(recoil_integral, weights, name, "recoil_integral")
    _broadcasts(logits, recoil, name, "recoil_integral")
    total = logits.sum(-1)
    closed = logits.sum(-2) - _driven(weights, temperature, None) + recoil.sum(-2) / temperature
    several = as_real(attention_logits, name, "attention_logits").ndim == weights.ndim
    drift = total - total[:1]
    return SoftmaxIdentities(drift if several else drift.squeeze(-1), closed - closed[:1])


def _driven(weights: torch.Tensor, temperature: float, mean: torch.Tensor | None) -> torch.Tensor:
    """(1/2T) Σₖ (vₖ² − ‖vₖ‖² b̄), without the second term if b̄ is ``None``."""
    square = weights.square().sum(-1)
    if mean is not None:
        square = square - square.sum(-1, keepdim=True) * mean
    return square / (2 * temperature)


def _with_axes(value: Real, num: int, function: str, parameter: str) -> torch.Tensor:
    tensor = as_real(value, function, parameter)
    if tensor.ndim < num:
        required = "(..., M, K): tokens, then hidden units" if num == 2 else "(..., M): one entry per token"
        raise wrong_shape(function, parameter, required, tensor, "add the missing axis, of length 1 for one entry")
    return tensor


def _per_query(logits: Real, weights: torch.Tensor, function: str, parameter: str = "attention_logits") -> torch.Tensor:
    """The logits as (..., Q, M): a query axis is added if they have one axis fewer than V."""
    given = as_real(logits, function, parameter)
    tensor = given.unsqueeze(-2) if given.ndim == weights.ndim - 1 else given
    if tensor.ndim != weights.ndim or (*tensor.shape[:-2], tensor.shape[-1]) != tuple(weights.shape[:-1]):
        shape = tuple(weights.shape[:-1])
        required = f"shape {shape}, or the same with a query axis before the last, to fit `token_weights`"
        remedy = "pass logits and token weights of the same times, problems and tokens"
        raise wrong_shape(function, parameter, required, given, remedy)
    return tensor


def _mean_attention(
    mean: Real | None, attention: AttentionKind, weights: torch.Tensor, function: str
) -> torch.Tensor | None:
    if (mean is not None) != (attention == "softmax"):
        raise InvalidArgument(
            function,
            "mean_attention",
            required="the mean attention b̄ with softmax attention, and None with any other kind",
            received="missing" if mean is None else f"given with {attention} attention",
            remedy="pass the mean of b over the data" if mean is None else "leave it out",
        )
    if mean is None:
        return None
    tensor = _with_axes(mean, 1, function, "mean_attention")
    _broadcasts(weights[..., 0], tensor, function, "mean_attention")
    return tensor


def _broadcasts(reference: torch.Tensor, tensor: torch.Tensor, function: str, parameter: str) -> None:
    """Raise unless ``tensor`` has the tokens of ``reference`` and can be broadcast to it."""
    shape, own = tuple(reference.shape), tuple(tensor.shape)
    fits = len(own) <= len(shape) and own[-1] == shape[-1]
    if not fits or any(mine not in (1, theirs) for mine, theirs in zip(own[::-1], shape[::-1], strict=False)):
        raise wrong_shape(function, parameter, f"shape {shape}", tensor, "match the token weights")
