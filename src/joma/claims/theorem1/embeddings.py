"""Claim embeddings.almost_orthogonal: the error of Theorem 1 with coherent embeddings, and its exact correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from joma.arrays import REAL
from joma.charts import Chart, Curve, Role
from joma.claims.theorem1 import PERTURBATIONS
from joma.claims.theorem1.flow import N_CONTEXT, N_HIDDEN, SOLVER, model_of
from joma.claims.workspace import Workspace
from joma.problem.classes import random_parameters
from joma.problem.one_layer import OneLayer, error_signal, orthonormal_embeddings
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.flow import flow
from joma.simulate.trajectory import Trajectory
from joma.theory.embeddings import almost_orthogonal_correction, coherence, uncorrected_error_bound

TIMES = torch.linspace(0, 8, 801, dtype=REAL)
CRITERION = Criterion(
    "error of the logits, relative to their motion, at the largest coherence",
    "<=",
    1e-4,
    f"the correction's integrals are trapezoids over {len(TIMES) - 1} intervals, whose error is near 1e-6 here; the "
    "error without the correction, of first order in the coherence, is above 1e-3 even at the smallest",
)


@dataclass(frozen=True)
class _Errors:
    """Results at one size of perturbation, per seed; errors and bound are relative to the motion of the logits."""

    coherence: Float[torch.Tensor, " P"]
    corrected: Float[torch.Tensor, " P"]
    uncorrected: Float[torch.Tensor, " P"]
    bound: Float[torch.Tensor, " P"]


def almost_orthogonal(workspace: Workspace) -> Agreement:
    """Compare the logits with those of Theorem 1, with and without the correction."""
    seeds = list(workspace.seeds(3))
    errors = []
    for done, size in enumerate(PERTURBATIONS):
        workspace.progress(f"gradient flow, perturbation {size:g}", done, len(PERTURBATIONS))
        errors.append(_errors(size, seeds))
    workspace.progress("gradient flow", len(PERTURBATIONS), len(PERTURBATIONS))
    coherences = torch.stack([entry.coherence for entry in errors])
    uncorrected = torch.stack([entry.uncorrected for entry in errors])
    corrected = torch.stack([entry.corrected for entry in errors])
    slopes = _slopes(coherences, uncorrected)
    bound = torch.stack([entry.bound for entry in errors])
    return Agreement(
        criterion=CRITERION,
        measured=Estimate.of(corrected[-1], "", "lognormal"),
        controls=(
            Control(
                f"no correction, coherence {coherences[-1].mean():.2g}", Estimate.of(uncorrected[-1], "", "lognormal")
            ),
            Control(
                f"no correction, coherence {coherences[0].mean():.2g}", Estimate.of(uncorrected[0], "", "lognormal")
            ),
        ),
        conclusion=f"If embeddings overlap by up to {coherences[-1].mean():.2f}, the error of Theorem 1 is "
        f"{uncorrected[-1].mean():.1%} of the logits' motion, and {uncorrected[0].mean():.1%} if they overlap by "
        f"{coherences[0].mean():.2f}. With the correction the error at the largest overlap is "
        f"{corrected[-1].mean():.0e}. The correction needs linearly independent embeddings, so at most as many tokens "
        "as dimensions.",
        findings=(
            Finding(
                "slope of ln(error without correction) over ln(coherence)", Estimate.of(slopes), "1 is first order"
            ),
            *(
                Finding(
                    f"coherence {entry.coherence.mean():.2g}: error without / with correction",
                    Estimate.of(entry.uncorrected / entry.corrected, "", "lognormal"),
                )
                for entry in errors
            ),
            Finding(
                "bound / error without correction, smallest over the sizes",
                Estimate.of((bound / uncorrected).amin(0), "", "lognormal"),
                "at least 1: the bound needs no integral",
            ),
        ),
        charts=(
            _chart(
                coherences,
                (
                    ("with the correction", corrected, "measured"),
                    ("without", uncorrected, "control"),
                    ("bound on the error without", bound, "context"),
                ),
            ),
        ),
        notes=(f"{N_CONTEXT} tokens in {N_CONTEXT + 1} dimensions, {N_HIDDEN} hidden units, tanh, one query.",),
    )


def _errors(size: float, seeds: Sequence[int]) -> _Errors:
    base = model_of("exp", "tanh", seeds)
    embeddings = torch.stack([_perturbed(size, seed) for seed in seeds])
    model = replace(base, context_embedding=embeddings[..., :N_CONTEXT], query_embedding=embeddings[..., N_CONTEXT:])
    start = random_parameters(model, N_HIDDEN, seeds, scale=0.3)
    seen = flow(model, start, TIMES, solver=SOLVER).complete()
    gates = _gates(model, seen)
    corrections = [
        almost_orthogonal_correction(
            seen.token_weights[:, index],
            gates[:, index],
            TIMES,
            model.context_embedding[index],
            model.query_embedding[index, :, 0],
        )
        for index in range(len(seeds))
    ]
    motion = seen.motion.abs().amax((0, -1))
    bound = [_bound(model, seen, gates, index).amax() for index in range(len(seeds))]
    return _Errors(
        coherence=coherence(model.context_embedding),
        corrected=(seen.residual - torch.stack(corrections, 1)).abs().amax((0, -1)) / motion,
        uncorrected=seen.residual.abs().amax((0, -1)) / motion,
        bound=torch.stack(bound) / motion,
    )


def _perturbed(size: float, seed: int) -> Float[torch.Tensor, "D M+1"]:
    """[U_C, u_q]: orthonormal vectors plus random noise, normalised to length 1."""
    exact = torch.cat(orthonormal_embeddings(N_CONTEXT), -1)
    noise = torch.randn(*exact.shape, dtype=REAL, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(exact + size * noise, dim=-2)


def _gates(model: OneLayer, seen: Trajectory) -> Float[torch.Tensor, "T P K"]:
    """γₖ = E[gₖ φ′ₖ] at every snapshot."""
    return torch.stack([error_signal(model, seen.parameters(at)).mean((-3, -2)) for at in range(len(seen.times))])


def _bound(model: OneLayer, seen: Trajectory, gates: torch.Tensor, index: int) -> Float[torch.Tensor, " M"]:
    weights = seen.token_weights[:, index]
    return uncorrected_error_bound(
        model.context_embedding[index],
        model.query_embedding[index, :, 0],
        weights.abs().amax(0),
        weights.diff(dim=0).norm(dim=1).sum(0),
        gates[:, index].abs().amax(0) * float(TIMES[-1]),
    )


def _slopes(coherences: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """Least-squares slope of ln error against ln coherence, per seed."""
    pairs = zip(coherences.log().T.numpy(), errors.log().T.numpy(), strict=True)
    return torch.tensor([np.polyfit(x, y, 1)[0] for x, y in pairs])


def _chart(coherences: torch.Tensor, lines: Sequence[tuple[str, torch.Tensor, Role]]) -> Chart:
    return Chart(
        "coherence",
        "Theorem 1 with embeddings that are not orthonormal",
        "Without the correction the error is proportional to the coherence; with it only the quadrature error remains. "
        "The bound needs no integral. Mean over seeds, with the range.",
        "coherence max |UᵀU − I|",
        "largest error / largest motion of a logit",
        tuple(
            Curve(
                label,
                coherences.mean(-1).tolist(),
                values.mean(-1).tolist(),
                values.amin(-1).tolist(),
                values.amax(-1).tolist(),
                role=role,
            )
            for label, values, role in lines
        ),
        x_scale="log",
        y_scale="log",
    )
