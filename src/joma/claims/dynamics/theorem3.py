"""Claim theorem3: the flow under uniform attention over an isotropic mixture, against samples of that mixture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from joma.charts import Chart, Curve, Role
from joma.claims.workspace import Workspace
from joma.problem.activations import as_activation
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.isotropic import noise_gains, uniform_attention_flow

ACTIVATIONS = ("relu", "tanh", "gelu")
NUM_DIMENSIONS, NUM_CENTRES, NUM_WEIGHTS = 6, 3, 4  # NUM_WEIGHTS random v for each mixture
NOISE = 1.0
NUM_SAMPLES = 400_000  # of each centre
STEP, NUM_STEPS, STEP_SAMPLES = 0.05, 120, 20_000

CRITERION = Criterion(
    "distance of the predicted flow from the sampled one, as a share of the summed lengths of its parts",
    "<=",
    0.005,
    "sampling alone gives an error of about √(6 / 1.2 million) = 0.002 of the noise, which is a third of the parts",
)


class _Mixture(NamedTuple):
    centres: torch.Tensor
    gradients: torch.Tensor
    weights: torch.Tensor
    v: torch.Tensor  # (NUM_WEIGHTS, D)
    generator: torch.Generator


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the predicted with the sampled flow for several mixtures."""
    exact, partial, linear = [], [], []
    by_activation: dict[str, list[float]] = {name: [] for name in ACTIVATIONS}
    for seed in workspace.seeds(5):
        mixture = draw(seed)
        sampled = {name: sampled_flow(mixture, name, NUM_SAMPLES) for name in ACTIVATIONS}
        for name, flow in sampled.items():
            by_activation[name].append(_share(mixture, _predicted(mixture, name) - flow))
        exact.append(max(values[-1] for values in by_activation.values()))
        partial.append(max(_share(mixture, _centres_term(mixture, name) - sampled[name]) for name in ACTIVATIONS))
        linear.append(max(_share(mixture, _predicted(mixture, "identity") - sampled[name]) for name in ACTIVATIONS))
    measured, without, with_linear = (Estimate.of(values, "", "lognormal") for values in (exact, partial, linear))
    return Agreement(
        CRITERION,
        measured,
        (
            Control("without the term along the weights", without),
            Control("gains of a linear activation", with_linear),
        ),
        conclusion=f"The predicted flow of the weights differs from the sampled one by {measured.mean:.2%} of the size "
        f"of its parts. Without the term along the weights it would differ by {np.mean(partial):.1%}, and with a "
        f"linear activation in place of the nonlinear one by {np.mean(linear):.0%}.",
        findings=tuple(
            Finding(f"deviation with {name}", Estimate.of(values, "", "lognormal"))
            for name, values in by_activation.items()
        ),
        charts=(_chart(draw(0)),),
        notes=(
            "Gaussian noise of standard deviation 1 around each centre; normally distributed gradients and centres.",
        ),
    )


def draw(seed: int) -> _Mixture:
    """Return a random mixture and some random weights v."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = torch.softmax(normal(NUM_CENTRES) / 2, dim=0)
    centres, gradients = normal(NUM_CENTRES, NUM_DIMENSIONS), normal(NUM_CENTRES)
    return _Mixture(centres, gradients, weights, normal(NUM_WEIGHTS, NUM_DIMENSIONS), generator)


def sampled_flow(mixture: _Mixture, activation: str, num_samples: int) -> torch.Tensor:
    """Return the mean over samples of gradient times φ′(vᵀx) x for every v, without θ₁ and θ₂."""
    flow = torch.zeros_like(mixture.v)
    for centre, gradient, weight in zip(mixture.centres, mixture.gradients, mixture.weights, strict=True):
        noise = torch.randn(num_samples // 2, NUM_DIMENSIONS, generator=mixture.generator, dtype=flow.dtype)
        x = centre + NOISE * torch.cat([noise, -noise])
        preactivation = (x @ mixture.v.T).requires_grad_()
        (slope,) = torch.autograd.grad(as_activation(activation, "theorem3")(preactivation).sum(), preactivation)
        flow += weight * gradient * slope.T @ x / len(x)
    return flow


def _predicted(mixture: _Mixture, activation: str) -> torch.Tensor:
    return uniform_attention_flow(mixture.v, mixture.centres, mixture.gradients, mixture.weights, activation, NOISE)


def _centres_term(mixture: _Mixture, activation: str) -> torch.Tensor:
    gains = noise_gains(mixture.v @ mixture.centres.T, mixture.v.norm(dim=-1, keepdim=True), activation, NOISE)
    return (mixture.weights * mixture.gradients * gains.along_centre) @ mixture.centres


def _share(mixture: _Mixture, error: torch.Tensor) -> float:
    lengths = mixture.centres.norm(dim=-1) + NOISE
    parts = (mixture.weights * mixture.gradients.abs() * lengths).sum()
    return float(error.square().sum(dim=-1).mean().sqrt() / parts)


def _chart(mixture: _Mixture) -> Chart:
    """Three weights along small steps on fresh samples, and along the same steps of the predicted flow."""
    sampled, predicted = [mixture], [mixture]
    for _ in range(NUM_STEPS):
        measured = sampled_flow(sampled[-1], "tanh", STEP_SAMPLES)
        sampled.append(mixture._replace(v=sampled[-1].v + STEP * measured))
        predicted.append(mixture._replace(v=predicted[-1].v + STEP * _predicted(predicted[-1], "tanh")))
    times = [STEP * step for step in range(NUM_STEPS + 1)]
    paths: tuple[tuple[str, list[_Mixture], Role], ...] = (
        ("predicted", predicted, "predicted"),
        ("samples", sampled, "measured"),
    )
    return Chart(
        "flow",
        "Weights under uniform attention (tanh)",
        f"Each step of the measured lines uses {STEP_SAMPLES:,} fresh samples of each centre.",
        "time",
        "three of the six weights",
        tuple(
            Curve(f"v{j + 1}, {name}", times, [float(entry.v[0, j]) for entry in path], role=role, group=str(j))
            for j in range(3)
            for name, path, role in paths
        ),
    )
