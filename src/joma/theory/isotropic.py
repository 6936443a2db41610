"""Uniform attention over a mixture of isotropic distributions (Theorem 3): the origin of the fixed points μ."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.autograd.functional import jacobian

from joma.arrays import REAL, Real, as_real, as_real_in, numpy_in_numpy_out, on_one_device, wrong_shape
from joma.domains import FINITE, NON_NEGATIVE, POSITIVE
from joma.errors import InvalidArgument
from joma.problem.activations import Activation, as_activation
from joma.theory.inversion import gauss_legendre

_WIDEST = 9.0  # standard deviations; 1e-19 of a normal distribution lies outside
_KNOTS = (0.0, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0)  # activations are taken as smooth between these preactivations, ± each
_NODES = 16  # quadrature nodes between two knots
_NUM_STARTS = 32
_ROOT = 1e-9  # residual of a fixed point, relative to the terms of the flow that cancel there
_SATURATED = 1e-6  # strength of the flow relative to that of a linear activation


class NoiseGains(NamedTuple):
    """Moments of the derivative of the activation under noise.

    Args:
        along_centre: θ₁ = E[φ′(r + ‖v‖s)].
        along_weights: θ₂ = E[s φ′(r + ‖v‖s)].
    """

    along_centre: torch.Tensor
    along_weights: torch.Tensor


class FixedPoints(NamedTuple):
    """The fixed points of the flow.

    Args:
        points: (P, D) the fixed points found.
        growth: (P,) largest real part of the eigenvalues of the flow's Jacobian: below 0 the point is stable, above 0
            unstable; 0 on a ray of fixed points, as homogeneous activations have.
    """

    points: torch.Tensor
    growth: torch.Tensor


@numpy_in_numpy_out
def noise_gains(projection: Real, norm: Real, activation: str | Activation = "relu", noise: Real = 1.0) -> NoiseGains:
    """Return θ₁ and θ₂ of Theorem 3 for Gaussian noise: closed forms for ReLU and identity, otherwise quadrature.

    Claim: theorem3.

    Args:
        projection: r = vᵀx̄, any shape, finite.
        norm: ‖v‖, at least 0 and finite; broadcasts against ``projection``.
        activation: a name of ``joma.problem.activations`` or an elementwise torch function, smooth except at 0.
        noise: ς, standard deviation of the noise along v, above 0.

    Returns:
        θ₁ and θ₂, of the broadcast shape; quadrature is accurate to 1e-12.
    """
    projection, norm, noise = on_one_device(
        as_real_in(FINITE, projection, "noise_gains", "projection"),
        as_real_in(NON_NEGATIVE, norm, "noise_gains", "norm"),
        as_real_in(POSITIVE, noise, "noise_gains", "noise"),
    )
    FINITE.check(float(norm.detach().max()) if norm.numel() else 0.0, "noise_gains", "norm")
    projection, norm, noise = torch.broadcast_tensors(projection, norm, noise)
    if activation == "identity":
        return NoiseGains(torch.ones_like(projection), torch.zeros_like(projection))
    if activation == "relu":
        return _relu_gains(projection, norm, noise)
    return _gains_by_quadrature(projection, norm, noise, as_activation(activation, "noise_gains"))


@numpy_in_numpy_out
def uniform_attention_flow(
    v: Real, centres: Real, gradients: Real, weights: Real, activation: str | Activation = "relu", noise: Real = 1.0
) -> torch.Tensor:
    """Return v̇ = Σⱼ aⱼ Δⱼ (θ₁ⱼ x̄ⱼ + θ₂ⱼ v/‖v‖) for data from a mixture of isotropic Gaussians.

    Claim: theorem3. Assumes uniform attention and a constant upstream gradient on each component of the mixture.

    Args:
        v: (..., D) weights of one hidden unit.
        centres: (C, D) x̄.
        gradients: (C,) Δ.
        weights: (C,) a, at least 0, summing to 1.
        activation: as in ``noise_gains``.
        noise: ς, above 0.

    Returns:
        (..., D) v̇; at v = 0 only the first term.
    """
    v, centres, pull = _read_mixture("uniform_attention_flow", v, centres, gradients, weights)
    return _flow(v, centres, pull, activation, noise)


@numpy_in_numpy_out
def fixed_points(
    centres: Real, gradients: Real, weights: Real, activation: str | Activation = "tanh", noise: float = 1.0
) -> FixedPoints:
    """Return the fixed points of ``uniform_attention_flow`` that Newton's method finds, with their stability.

    Claim: theorem3. These are the μ of the nonlinear dynamics. The search starts from the centres, from their opposites
    and from 32 random points of a fixed seed, so that other fixed points may be missed. Not differentiable. Arguments
    as in ``uniform_attention_flow``.

    Returns:
        The points, nearest to 0 first; P = 0 if none is found.
    """
    from scipy.optimize import root

    centres = as_real(centres, "fixed_points", "centres")
    start = torch.zeros(centres.shape[-1:], dtype=REAL)
    start, centres, pull = (
        part.detach().cpu() for part in _read_mixture("fixed_points", start, centres, gradients, weights)
    )

    def flow(v: torch.Tensor) -> torch.Tensor:
        return _flow(v, centres, pull, activation, noise)

    largest = float(_strength(torch.zeros_like(start), centres, pull, "identity", noise))
    found: list[torch.Tensor] = []
    for place in _starts(centres):
        end = root(
            lambda v: flow(torch.from_numpy(v)).numpy(),
            place.numpy(),
            jac=lambda v: jacobian(flow, torch.from_numpy(v)).numpy(),
            options={"xtol": 1e-13},
        )
        point = torch.from_numpy(end.x)
        # Where an activation saturates, the flow tends to 0 at infinity without a fixed point.
        strength = float(_strength(point, centres, pull, activation, noise))
        is_fixed = _SATURATED * largest < strength and float(flow(point).norm()) <= _ROOT * strength
        if is_fixed and all(float((point - other).norm()) > 1e-6 * (1 + float(other.norm())) for other in found):
            found.append(point)
    found.sort(key=lambda point: float(point.norm()))
    growth = [float(torch.linalg.eigvals(jacobian(flow, point)).real.max()) for point in found]
    points = torch.stack(found) if found else torch.zeros(0, centres.shape[1], dtype=REAL)
    return FixedPoints(points, torch.tensor(growth, dtype=REAL))


def _relu_gains(projection: torch.Tensor, norm: torch.Tensor, noise: torch.Tensor) -> NoiseGains:
    still = norm == 0
    ratio = projection / torch.where(still, 1.0, noise * norm)
    ratio = torch.where(still, torch.sign(projection) * torch.inf, ratio).nan_to_num(0.0)  # φ′(0) = ½ at v = 0
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    return NoiseGains(torch.special.erfc(-ratio / math.sqrt(2)) / 2, torch.where(still, 0.0, noise * density))


def _gains_by_quadrature(
    projection: torch.Tensor, norm: torch.Tensor, noise: torch.Tensor, activation: Activation
) -> NoiseGains:
    """Gauss–Legendre quadrature between the knots of the activation and of the normal density."""
    knots = torch.tensor(sorted({-knot for knot in _KNOTS} | set(_KNOTS)), dtype=REAL, device=norm.device)
    with torch.no_grad():
        scale = (noise * norm)[..., None].clamp(min=torch.finfo(REAL).tiny)
        bends = ((knots - projection[..., None]) / scale).clamp(-_WIDEST, _WIDEST)
        fixed = torch.arange(-_WIDEST, _WIDEST + 1, dtype=REAL, device=norm.device).expand(*norm.shape, -1)
        edges = torch.cat([bends, fixed], dim=-1).sort(dim=-1).values
        nodes, weights = gauss_legendre(_NODES, norm.device)
        width = edges.diff(dim=-1)[..., None]
        s = (edges[..., :-1, None] + width * nodes).flatten(-2)
        mass = (width * weights).flatten(-2) * torch.exp(-s.square() / 2) / math.sqrt(2 * math.pi)
    slope = _slope(activation, projection[..., None] + (noise * norm)[..., None] * s)
    return NoiseGains((mass * slope).sum(dim=-1), noise * (mass * s * slope).sum(dim=-1))


def _slope(activation: Activation, preactivation: torch.Tensor) -> torch.Tensor:
    """φ′ by automatic differentiation; differentiable if the preactivation requires a gradient."""
    keep = preactivation.requires_grad
    with torch.enable_grad():
        given = preactivation if keep else preactivation.detach().requires_grad_()
        (slope,) = torch.autograd.grad(activation(given).sum(), given, create_graph=keep)
    return slope


def _flow(
    v: torch.Tensor, centres: torch.Tensor, pull: torch.Tensor, activation: str | Activation, noise: Real
) -> torch.Tensor:
    still = (v == 0).all(dim=-1, keepdim=True)
    norm = torch.where(still, 0.0, torch.linalg.vector_norm(torch.where(still, 1.0, v), dim=-1, keepdim=True))
    gains = noise_gains(v @ centres.T, norm, activation, noise)
    direction = torch.where(still, 0.0, v / torch.where(still, 1.0, norm))
    return (pull * gains.along_centre) @ centres + (pull * gains.along_weights).sum(-1, keepdim=True) * direction


def _strength(
    v: torch.Tensor, centres: torch.Tensor, pull: torch.Tensor, activation: str | Activation, noise: Real
) -> torch.Tensor:
    """The sum of the lengths of the terms of the flow, without cancellation."""
    gains = noise_gains(centres @ v, v.norm(), activation, noise)
    return (pull.abs() * (gains.along_centre.abs() * centres.norm(dim=-1) + gains.along_weights.abs())).sum()


def _starts(centres: torch.Tensor) -> list[torch.Tensor]:
    """Starting points: the centres, their opposites, and fixed random points around 0 at two widths."""
    random = torch.randn(_NUM_STARTS, centres.shape[1], generator=torch.Generator().manual_seed(0), dtype=REAL)
    size = centres.abs().max().clamp(min=1.0)
    widths = torch.where(torch.arange(_NUM_STARTS) % 2 == 0, 1.0, 10.0)[:, None]
    return list(torch.cat([centres, -centres, random * widths / size]))


def _read_mixture(
    function: str, v: Real, centres: Real, gradients: Real, weights: Real
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check the mixture; return v, centres and aⱼ Δⱼ."""
    v, centres, gradients, weights = on_one_device(
        as_real_in(FINITE, v, function, "v"),
        as_real_in(FINITE, centres, function, "centres"),
        as_real_in(FINITE, gradients, function, "gradients"),
        as_real_in(NON_NEGATIVE, weights, function, "weights"),
    )
    num, size = centres.shape if centres.ndim == 2 else (-1, -1)
    for name, tensor, required, fits in (
        ("centres", centres, "of shape (C, D), with at least one centre", num > 0 and size > 0),
        ("v", v, f"of shape (..., {size}), like the centres", v.ndim > 0 and v.shape[-1] == size),
        ("gradients", gradients, f"of shape ({num},), one for each centre", gradients.shape == (num,)),
        ("weights", weights, f"of shape ({num},), one for each centre", weights.shape == (num,)),
    ):
        if not fits:
            raise wrong_shape(function, name, required, tensor)
    if abs(float(weights.detach().sum()) - 1) > 1e-6:
        raise InvalidArgument(
            function,
            "weights",
            required="probabilities that sum to 1",
            received=f"of sum {float(weights.detach().sum()):g}",
            remedy="divide them by their sum",
        )
    return v, centres, gradients * weights
