"""Claim theorem1.softmax: the paper's Figure 2, with each of the formula's two terms alone and two exact identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

from joma.arrays import REAL
from joma.charts import Chart, Curve, Mark, Role
from joma.claims.theorem1 import LEARNT, TEMPERATURE
from joma.claims.workspace import Workspace
from joma.correlations import correlation
from joma.problem.classes import classification_data, gaussian_classes, random_parameters
from joma.problem.one_layer import OneLayer, activity, orthonormal_embeddings
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.simulate.descent import Minibatches, descent
from joma.simulate.flow import Adaptive, flow
from joma.simulate.trajectory import Trajectory
from joma.theory.invariants import expected_logits

N_CONTEXT, N_CLASSES, N_HIDDEN, N_SAMPLES, LENGTH = 40, 4, 16, 1024, 20
LEARNING_RATE, BATCH, NUM_STEPS, EVERY = 0.1, 64, 2000, 100
CLUSTERED, COVERING = 0.2, 1.0
Curves = Float[torch.Tensor, "T P"]


@dataclass(frozen=True)
class _Run:
    """Predicted against simulated logits during training, over (T, P) times and seeds, without the start."""

    trajectory: Trajectory
    whole: Curves
    mlp_term: Curves
    mean_term: Curves
    permuted: Curves
    whole_with_present_mean: Curves
    residual: Curves
    mean_drift: Curves
    learning: torch.Tensor  # (T, P), whether the network was still learning

    def while_learning(self, curve: Curves) -> Estimate:
        """Return the mean of a curve over the steps at which the network was still learning, per seed."""
        return Estimate.of((curve * self.learning).sum(0) / self.learning.sum(0))

    def learnt(self, curve: Curves) -> Estimate:
        """Return the value of a curve at the end of learning, per seed."""
        last = self.learning.sum(0, keepdim=True).long() - 1
        return Estimate.of(curve.gather(0, last).squeeze(0))


def softmax(workspace: Workspace) -> Agreement:
    """Compare logits with their prediction from z − (1/2T) Σ (v² − ‖v‖² b̄) under softmax attention."""
    seeds = list(workspace.seeds(4))
    workspace.progress("SGD, clustered classes", 0, 3)
    main = _train(seeds, CLUSTERED)
    workspace.progress("SGD, classes that cover the vocabulary", 1, 3)
    covering = _train(seeds, COVERING)
    workspace.progress("gradient flow, exact identities", 2, 3)
    flowing = flow(
        _model(seeds, CLUSTERED).subset(torch.arange(BATCH)),
        random_parameters(_model(seeds, CLUSTERED), N_HIDDEN, seeds),
        torch.linspace(0, 60, 13, dtype=REAL),
        solver=Adaptive(tolerance=1e-9),
    ).complete()
    workspace.progress("SGD and gradient flow", 3, 3)

    measured = main.while_learning(main.whole)
    criterion = Criterion(
        "correlation of predicted and simulated logits while the network learns",
        ">=",
        0.95,
        "the paper predicts a correlation near 1; at 0.95 a tenth of the variance over tokens is unexplained, and "
        f"chance alone gives 0 ± {N_CONTEXT**-0.5:.2f} with {N_CONTEXT} tokens",
    )
    return Agreement(
        criterion=criterion,
        measured=measured,
        controls=(
            Control("(1/2T) Σ vₖ² alone", main.while_learning(main.mlp_term)),
            Control("−(1/2T) Σ ‖vₖ‖² b̄ alone", main.while_learning(main.mean_term)),
            Control("the formula with its tokens permuted", main.while_learning(main.permuted)),
        ),
        conclusion=_conclusion(main),
        findings=_findings(main, covering, flowing),
        charts=(_correlation_chart(main), _size_chart(main)),
        notes=(
            f"{N_CONTEXT} tokens, {N_CLASSES} classes (width 5 tokens, centres in the middle {CLUSTERED:.0%} of the "
            f"vocabulary), {N_HIDDEN} linear hidden units, samples of {LENGTH} tokens, batches of {BATCH}, "
            f"{NUM_STEPS:,} steps at {LEARNING_RATE:g}.",
            "Sizes and learning rate are this project's choice.",
        ),
    )


def _model(seeds: Sequence[int], spread: float) -> OneLayer:
    law = gaussian_classes(N_CLASSES, N_CONTEXT, width=5.0, spread=spread)
    return OneLayer(
        *classification_data(law, N_SAMPLES, LENGTH, seeds),
        *orthonormal_embeddings(N_CONTEXT),
        attention="softmax",
        temperature=TEMPERATURE,
        trains_upper=True,
    )


def _train(seeds: Sequence[int], spread: float) -> _Run:
    model = _model(seeds, spread)
    start = random_parameters(model, N_HIDDEN, seeds)
    steps = range(0, NUM_STEPS + 1, EVERY)
    trajectory = descent(model, start, steps, LEARNING_RATE, minibatches=Minibatches(BATCH)).complete()
    losses = torch.stack([activity(model, trajectory.parameters(index)).loss for index in range(len(steps))])
    weights, means = trajectory.token_weights, trajectory.mean_attention.squeeze(-2)
    moved = _since_start(trajectory.attention_logits.squeeze(-2))
    mlp = _since_start(weights.square().sum(-1) / (2 * TEMPERATURE))
    whole = _since_start(expected_logits(weights, "softmax", TEMPERATURE, means[:1]))
    present = _since_start(expected_logits(weights, "softmax", TEMPERATURE, means))
    shuffled = torch.randperm(N_CONTEXT, generator=torch.Generator().manual_seed(0))
    low, high = losses.amin(0), losses[0]
    return _Run(
        trajectory=trajectory,
        whole=correlation(whole, moved),
        mlp_term=correlation(mlp, moved),
        mean_term=correlation(whole - mlp, moved),
        permuted=correlation(whole[..., shuffled], moved),
        whole_with_present_mean=correlation(present, moved),
        residual=(whole - moved).norm(dim=-1) / moved.norm(dim=-1),
        mean_drift=(means - means[:1])[1:].abs().sum(-1) / 2,
        # learning ends at the first step below the line, although later minibatch losses may exceed it again
        learning=(losses[1:] > high - LEARNT * (high - low)).to(REAL).cumprod(0),
    )


def _findings(main: _Run, covering: _Run, flowing: Trajectory) -> tuple[Finding, ...]:
    descended, flowed = main.trajectory.identities, flowing.identities
    motion = main.trajectory.motion.abs().amax((0, -1))
    end = "end of learning"
    return (
        Finding(
            "residual / motion of the logits while learning",
            main.while_learning(main.residual),
            "1: as large as the motion itself",
        ),
        Finding(f"residual / motion at the {end}", main.learnt(main.residual), "a correlation ignores the size"),
        Finding("residual / motion after the last step", Estimate.of(main.residual[-1]), f"step {NUM_STEPS:,}"),
        Finding("correlation after the last step", Estimate.of(main.whole[-1]), f"step {NUM_STEPS:,}"),
        Finding(f"b̄ moved by the {end}", main.learnt(main.mean_drift), "total variation from its start, at most 1"),
        Finding(
            "correlation with b̄ as measured at each step",
            main.while_learning(main.whole_with_present_mean),
            "in the theorem, b̄ is constant",
        ),
        Finding("largest motion of a logit", Estimate.of(motion)),
        Finding(
            "correlation, classes that cover the vocabulary evenly",
            covering.while_learning(covering.whole),
            "b̄ is nearly uniform there",
        ),
        Finding(
            "the same, (1/2T) Σ vₖ² alone",
            covering.while_learning(covering.mlp_term),
            "if it equals the line above, the correlation does not depend on b̄",
        ),
        Finding(
            "drift of Σ z, SGD",
            Estimate.of(descended.logit_sum.abs().amax((0, -1)), "", "lognormal"),
            "exact in every step, up to rounding",
        ),
        Finding(
            "drift of Σ z, gradient flow",
            Estimate.of(flowed.logit_sum.abs().amax((0, -1)), "", "lognormal"),
            "exact, up to rounding",
        ),
        Finding(
            "integral identity, SGD, drift / motion",
            Estimate.of(descended.closed.abs().amax((0, -1)) / motion, "", "lognormal"),
            f"the error of finite steps, first order in the learning rate {LEARNING_RATE:g}",
        ),
        Finding(
            "integral identity, gradient flow, drift / motion",
            Estimate.of(flowed.closed.abs().amax((0, -1)) / flowing.motion.abs().amax((0, -1)), "", "lognormal"),
            "no discretisation; the solver's tolerance is 1e-9",
        ),
    )


def _conclusion(main: _Run) -> str:
    return (
        "While the network learns, the change of the logits predicted from the MLP weights correlates with the "
        f"simulated one at {main.while_learning(main.whole).mean:.3f} (at "
        f"{main.while_learning(main.mlp_term).mean:.3f} with the formula's first term alone). Its error is "
        f"{main.learnt(main.residual).mean:.2f} times as large as the change itself at the end of learning, and "
        f"{main.residual[-1].mean():.2f} times after the last step, where the correlation is "
        f"{main.whole[-1].mean():.3f}. The mean attention, which the formula assumes to be constant, has changed by "
        f"{main.learnt(main.mean_drift).mean:.2f} at the end of learning, where 1 is the largest possible change."
    )


def _correlation_chart(main: _Run) -> Chart:
    lines: list[tuple[str, Curves, Role]] = [
        ("whole formula", main.whole, "measured"),
        ("(1/2T) Σ vₖ² alone", main.mlp_term, "control"),
        ("−(1/2T) Σ ‖vₖ‖² b̄ alone", main.mean_term, "control"),
        ("tokens permuted", main.permuted, "control"),
        ("whole formula, b̄ as measured at each step", main.whole_with_present_mean, "context"),
    ]
    return Chart(
        "correlation",
        "Predicted and simulated attention logits",
        "While the network learns, the whole formula predicts the logits and neither of its terms does so alone; later "
        "the prediction fails. Mean over seeds, with the range.",
        "SGD steps",
        "correlation over tokens",
        tuple(_curve(label, curve, role) for label, curve, role in lines),
        marks=(_end_of_learning(main),),
    )


def _size_chart(main: _Run) -> Chart:
    return Chart(
        "residual",
        "Error of the formula",
        "The residual exceeds the motion of the logits as the mean attention moves away from its initial value.",
        "SGD steps",
        "relative to the motion of the logits; total variation",
        (
            _curve("residual / motion of the logits", main.residual, "measured"),
            _curve("b̄ moved (total variation)", main.mean_drift, "context"),
        ),
        marks=(_end_of_learning(main), Mark("y", 1.0, "as large as the motion")),
    )


def _end_of_learning(main: _Run) -> Mark:
    return Mark("x", float(main.learning.sum(0).mean()) * EVERY, f"{LEARNT:.0%} of the decrease of the loss")


def _curve(label: str, values: Curves, role: Role) -> Curve:
    steps = [float(EVERY * (index + 1)) for index in range(len(values))]
    low, high = values.amin(-1).tolist(), values.amax(-1).tolist()
    return Curve(label, steps, values.mean(-1).tolist(), low, high, role=role)


def _since_start(values: Float[torch.Tensor, "T P M"]) -> Float[torch.Tensor, "T-1 P M"]:
    return values[1:] - values[:1]
