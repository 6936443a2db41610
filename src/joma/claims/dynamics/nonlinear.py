"""Claim nonlinear.sparse_then_dense: the paper's Figure 4, from the exact solution instead of finite steps."""

from __future__ import annotations

import math

import torch

from joma.charts import Chart, Curve, Mark, Role
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.dynamics import Solution, paper_figure4, solve
from joma.theory.normalized import entropy_of_squares

STEP, NUM_STEPS = 0.02, 5000
TIMES = STEP * torch.arange(NUM_STEPS + 1, dtype=torch.float64)
DRAWN = list(range(0, NUM_STEPS + 1, 10))
"""The steps that charts show."""

CRITERION = Criterion(
    "rise of the attention entropy from its lowest value to its last, as a share of its fall before",
    ">=",
    0.05,
    "one twentieth of the fall is visible in a plot, and a hundred million times the rise that rounding errors can "
    "give a curve that only falls",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read fall and rise of the attention entropy off the exact solutions with and without the nonlinearity."""
    draws = [targets(seed) for seed in workspace.seeds(5)]
    nonlinear, linear = ([solve(paper_figure4(symbol, mu), TIMES) for mu in draws] for symbol in ("μ", "Δ"))
    stepped = stepped_entropy(draws[0])
    return Agreement(
        CRITERION,
        Estimate.of(map(_recovery, nonlinear)),
        (Control("linear MLP", Estimate.of(map(_recovery, linear))),),
        conclusion=_conclusion(nonlinear[0], linear[0]),
        findings=_findings(nonlinear, linear, stepped),
        charts=(_entropy_chart(nonlinear, linear, stepped), _component_chart(nonlinear[0])),
        notes=(
            "Each seed draws its own targets; curves show seed 0, bands all seeds. The paper shows one draw, with "
            "steps of 0.02; the chart shows such steps and the exact solution.",
        ),
    )


def targets(seed: int) -> torch.Tensor:
    """Return the ten targets of one draw, between 1 and 4, in increasing order."""
    drawn = torch.rand(10, generator=torch.Generator().manual_seed(seed))
    return torch.sort(drawn * 3 + 1).values.double()


def stepped_entropy(mu: torch.Tensor) -> torch.Tensor:
    """Return the attention entropy before each explicit Euler step, the method of the paper."""
    dynamics, entropies = paper_figure4(rates=mu), []
    v, gain = dynamics.v0, dynamics.gain
    for _ in range(NUM_STEPS):
        entropies.append(entropy_of_squares(v, gain))
        v = v + STEP * (mu - v) * torch.softmax(gain * v.square(), dim=-1)
    return torch.stack(entropies)


def _lowest(solution: Solution) -> float:
    """The lowest entropy, at one of the times or between two of them."""
    entropy = float(solution.entropy.min())
    return entropy if solution.sparsest is None else min(entropy, solution.sparsest.entropy)


def _recovery(solution: Solution) -> float:
    lowest = _lowest(solution)
    return float((solution.entropy[-1] - lowest) / (solution.entropy[0] - lowest))


def _sparsest_step(solution: Solution) -> float:
    return math.inf if solution.sparsest is None else solution.sparsest.time / STEP


def _findings(nonlinear: list[Solution], linear: list[Solution], stepped: torch.Tensor) -> tuple[Finding, ...]:
    first = nonlinear[0]
    return (
        Finding("entropy at the start", Estimate.of((course.entropy[0] for course in nonlinear), "nats")),
        Finding("lowest entropy", Estimate.of(map(_lowest, nonlinear), "nats")),
        Finding("steps until attention is sparsest", Estimate.of(map(_sparsest_step, nonlinear), "steps")),
        Finding("last entropy", Estimate.of((course.entropy[-1] for course in nonlinear), "nats")),
        Finding("last entropy, linear MLP", Estimate.of((course.entropy[-1] for course in linear), "nats")),
        Finding("lowest entropy, the paper's draw", Estimate.of([_lowest(first)], "nats")),
        Finding(
            "error of explicit steps, the paper's draw",
            Estimate.of([float((stepped - first.entropy[:-1]).abs().max())], "nats"),
            "largest difference in entropy from the exact solution",
        ),
    )


def _conclusion(nonlinear: Solution, linear: Solution) -> str:
    return (
        f"In the paper's draw, attention entropy starts at {nonlinear.entropy[0]:.4f} nats; with a nonlinear MLP it is "
        f"{_lowest(nonlinear):.4f} at its lowest and {nonlinear.entropy[-1]:.4f} after {NUM_STEPS:,} steps. With a "
        f"linear MLP it is {_lowest(linear):.4f} at its lowest and {linear.entropy[-1]:.4f} at the end. These are the "
        "theory's own equations; whether trained networks follow them is another claim (text.mechanism)."
    )


def _entropy_chart(nonlinear: list[Solution], linear: list[Solution], stepped: torch.Tensor) -> Chart:
    steps = list(map(float, DRAWN))

    def curve(label: str, solutions: list[Solution], role: Role) -> Curve:
        values = torch.stack([solution.entropy[DRAWN] for solution in solutions])
        return Curve(label, steps, values[0].tolist(), values.amin(0).tolist(), values.amax(0).tolist(), role)

    return Chart(
        "entropy",
        "Attention entropy: sparse, then dense",
        "With the nonlinearity, entropy falls while the largest components grow and rises as the others catch up; "
        "without it, one component takes all attention for good.",
        "steps of 0.02",
        "attention entropy (nats)",
        (
            curve("nonlinear MLP, exact", nonlinear, "predicted"),
            curve("linear MLP, exact", linear, "control"),
            Curve("explicit steps, seed 0", steps[:-1], stepped[DRAWN[:-1]].tolist()),
        ),
        (Mark("x", _sparsest_step(nonlinear[0]), "sparsest (seed 0)"),),
    )


def _component_chart(solution: Solution) -> Chart:
    steps, v = list(map(float, DRAWN)), solution.dynamics.v(TIMES[DRAWN])
    curves = [
        Curve(f"μ = {mu:.2f}", steps, v[:, j].tolist(), role="predicted")
        for j, mu in enumerate(solution.dynamics.rates.tolist())
    ]
    return Chart(
        "components",
        "Components on their way to their targets",
        "The components jump to their targets one after the other, the one with the largest target first.",
        "steps of 0.02",
        "v(t)",
        tuple(curves),
        (Mark("x", _sparsest_step(solution), "sparsest"),),
    )
