"""Sparse, then dense: the paper's Figure 4, from the exact solution instead of finite steps."""

from __future__ import annotations

import math

import torch

from joma.charts import Chart, Curve, Mark, Role
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.dynamics import Solution, Symbol, paper_figure4, solve
from joma.theory.normalized import entropy_of_squares

NUM_TARGETS = 10
SYMBOLS: tuple[Symbol, ...] = ("μ", "Δ")
STEP = 0.02
NUM_STEPS = 5000

CRITERION = Criterion(
    "rise of the attention entropy from its lowest value to its last, as a share of its fall before",
    ">=",
    0.05,
    "one twentieth of the fall: visible in a plot, and a hundred million times what rounding lets a curve rise that "
    "only falls",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Read fall and rise of attention entropy off the exact solutions with and without the nonlinearity."""
    seeds = workspace.seeds(5)
    nonlinear, linear = ([solve(paper_figure4(symbol, targets(seed)), times()) for seed in seeds] for symbol in SYMBOLS)
    return Agreement(
        CRITERION,
        Estimate.of(map(_recovery, nonlinear)),
        (Control("linear MLP", Estimate.of(map(_recovery, linear))),),
        conclusion=_conclusion(nonlinear, linear),
        findings=_findings(nonlinear, linear),
        charts=(_entropy_chart(nonlinear, linear), _component_chart(nonlinear[0])),
        notes=(
            "Each seed draws other targets; curves show seed 0, bands all of them. The paper shows one draw, with "
            "steps of 0.02; finite steps are drawn beside the exact solution.",
        ),
    )


def targets(seed: int) -> torch.Tensor:
    """Return the ten targets of one draw, between 1 and 4, in increasing order."""
    drawn = torch.rand(NUM_TARGETS, generator=torch.Generator().manual_seed(seed))
    return torch.sort(drawn * 3 + 1).values.double()


def times() -> torch.Tensor:
    """Return the time of every step."""
    return STEP * torch.arange(NUM_STEPS + 1, dtype=torch.float64)


def stepped_entropy(mu: torch.Tensor) -> torch.Tensor:
    """Return attention entropy along explicit steps, as the literature takes them, before each step."""
    dynamics, entropies = paper_figure4(rates=mu), []
    v, gain = dynamics.v0, dynamics.gain
    for _ in range(NUM_STEPS):
        entropies.append(entropy_of_squares(v, torch.tensor(gain)))
        v = v + STEP * (mu - v) * torch.softmax(gain * v.square(), dim=-1)
    return torch.stack(entropies)


def _lowest(solution: Solution) -> float:
    """The lowest entropy, wherever it lies."""
    entropy = float(solution.entropy.min())
    return entropy if solution.sparsest is None else min(entropy, solution.sparsest.entropy)


def _recovery(solution: Solution) -> float:
    """Rise of the entropy after its lowest value as a share of the fall before."""
    lowest = _lowest(solution)
    return float((solution.entropy[-1] - lowest) / (solution.entropy[0] - lowest))


def _findings(nonlinear: list[Solution], linear: list[Solution]) -> tuple[Finding, ...]:
    first = nonlinear[0]
    stepped = stepped_entropy(targets(0))
    return (
        Finding("entropy at the start", Estimate.of((course.entropy[0] for course in nonlinear), "nats")),
        Finding("lowest entropy", Estimate.of(map(_lowest, nonlinear), "nats")),
        Finding("steps until attention is sparsest", Estimate.of(map(_sparsest_step, nonlinear), "steps")),
        Finding("last entropy", Estimate.of((course.entropy[-1] for course in nonlinear), "nats")),
        Finding("last entropy, linear MLP", Estimate.of((course.entropy[-1] for course in linear), "nats")),
        Finding("lowest entropy, the paper's draw", Estimate.of([_lowest(first)], "nats")),
        Finding(
            "what explicit steps get wrong, the paper's draw",
            Estimate.of([float((stepped - first.entropy[:-1]).abs().max())], "nats"),
            "largest difference in entropy from the exact solution",
        ),
    )


def _conclusion(nonlinear: list[Solution], linear: list[Solution]) -> str:
    course, control = nonlinear[0], linear[0]
    return (
        f"In the paper's draw, attention entropy starts at {course.entropy[0]:.4f} nats; with a nonlinear MLP it is "
        f"{_lowest(course):.4f} at its lowest and {course.entropy[-1]:.4f} after {NUM_STEPS:,} steps. With a linear "
        f"MLP it is {_lowest(control):.4f} at its lowest and {control.entropy[-1]:.4f} at the end. These are the "
        "theory's own equations; whether trained networks follow them is another claim (text.mechanism)."
    )


def _entropy_chart(nonlinear: list[Solution], linear: list[Solution]) -> Chart:
    places = _shown()
    steps = [float(place) for place in places]
    stepped = stepped_entropy(targets(0))
    shown = [place for place in places if place < NUM_STEPS]
    return Chart(
        "entropy",
        "Attention entropy: sparse, then dense",
        "With the nonlinearity entropy falls while the largest components grow and rises as the others catch up; "
        "without it one component takes all attention for good.",
        "steps of 0.02",
        "attention entropy (nats)",
        (
            _curve("nonlinear MLP, exact", steps, places, nonlinear, "predicted"),
            _curve("linear MLP, exact", steps, places, linear, "control"),
            Curve("explicit steps, seed 0", [float(p) for p in shown], stepped[shown].tolist(), role="measured"),
        ),
        (Mark("x", _sparsest_step(nonlinear[0]), "sparsest (seed 0)"),),
    )


def _curve(label: str, steps: list[float], places: list[int], solutions: list[Solution], role: Role) -> Curve:
    values = torch.stack([solution.entropy[places] for solution in solutions])
    low, high = values.amin(dim=0).tolist(), values.amax(dim=0).tolist()
    return Curve(label, steps, values[0].tolist(), low, high, role)


def _component_chart(solution: Solution) -> Chart:
    places = _shown()
    steps, v = [float(place) for place in places], solution.dynamics.v(times()[places])
    return Chart(
        "components",
        "Components on their way to their targets",
        "Each component jumps to its target once its turn has come, the largest first.",
        "steps of 0.02",
        "v(t)",
        tuple(
            Curve(f"μ = {mu:.2f}", steps, v[:, j].tolist(), role="predicted")
            for j, mu in enumerate(solution.dynamics.rates.tolist())
        ),
        (Mark("x", _sparsest_step(solution), "sparsest"),),
    )


def _sparsest_step(solution: Solution) -> float:
    return math.inf if solution.sparsest is None else solution.sparsest.time / STEP


def _shown() -> list[int]:
    """The steps drawn: every 10th, which no eye can tell from all."""
    return list(range(0, NUM_STEPS + 1, 10))
