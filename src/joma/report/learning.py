"""A training run on a law's labels as people and machines read it, beside the best that anything could do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Curve, Mark, Role
from joma.problem.combinatorial import Combinatorial
from joma.problem.tree import LatentTree, Law, digest
from joma.problem.unrelated import UnrelatedLabels
from joma.report.drawing.rows import hierarchy_of
from joma.report.drawing.words import format_number
from joma.report.samples import law_text, token_presence
from joma.theory.labels import label_posterior
from joma.train.run import Run

_ROWS = 12
_NUM_SAMPLES = 20_000


@dataclass(frozen=True)
class Ceiling:
    """The best that can be had: no network tells labels more often, or at a lower loss.

    Args:
        accuracy: share of labels that the most probable one gets right.
        loss_nats: the entropy that the tokens leave to the label.
        standard_error: of ``accuracy``, where samples were drawn for it; 0 where it is exact.
    """

    accuracy: float
    loss_nats: float
    standard_error: float = 0.0


def ceiling_of(law: Law) -> Ceiling | None:
    """The ceiling of a law, ``None`` where no feasible sum gives it (random sets of members).

    A table's is exact. A latent tree's is the mean, over 20,000 samples, of the exact posterior of the label. Of
    labels that have nothing to do with the rest the commonest is the best guess.
    """
    probabilities = hierarchy_of(law).label_probabilities or (1 / law.num_labels,) * law.num_labels
    if isinstance(law, UnrelatedLabels):
        return Ceiling(max(probabilities), -math.fsum(p * math.log(p) for p in probabilities))
    if isinstance(law, LatentTree):
        samples = law.sample(_NUM_SAMPLES, torch.Generator().manual_seed(0))
        posterior = label_posterior(law, token_presence(law, samples.tokens))
        best = posterior.amax(-1)
        entropy = torch.special.entr(posterior).sum(-1)
        return Ceiling(float(best.mean()), float(entropy.mean()), float(best.std()) / math.sqrt(len(best)))
    if not isinstance(law, Combinatorial) or not law.is_table:
        return None
    tokens = law.sample(law.num_labels, torch.Generator(), torch.arange(law.num_labels)).tokens
    alike: dict[tuple[int, ...], list[float]] = {}
    for row, probability in zip(tokens.tolist(), probabilities, strict=True):
        alike.setdefault(tuple(row), []).append(probability)
    accuracy = math.fsum(max(group) for group in alike.values())
    loss = math.fsum(p * math.log(sum(group) / p) for group in alike.values() for p in group)
    return Ceiling(accuracy, loss)


def learning_record(run: Run, ceiling: Ceiling | None) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    course = _course(run)
    return {
        "folder": str(run.folder),
        "law": run.law().to_json(),
        "digest": digest(run.law()),
        "recipe": run.recipe.to_json(),
        "snapshots": run.snapshots(),
        "ceiling": None if ceiling is None else asdict(ceiling),
        "step": sorted(course["validation_accuracy"]),
        **{
            name: [course[name].get(step) for step in sorted(course["validation_accuracy"])]
            for name in ("validation_accuracy", "validation_loss_nats", "train_loss_nats")
        },
    }


def learning_table(run: Run, ceiling: Ceiling | None) -> Group:
    """Some of the measurements, first and last included."""
    course = _course(run)
    accuracy, loss, trained = (
        course[name] for name in ("validation_accuracy", "validation_loss_nats", "train_loss_nats")
    )
    config, num = run.recipe.decoder, run.recipe.num_probe_sequences
    title = (
        f"{law_text(run.law())}\n{config.num_layers} layers of width {config.width}, {config.feed_forward} hidden units"
    )
    table = Table()
    table.add_column("step", justify="right")
    for name in ("accuracy", "loss\nin nats", "loss while\ntraining"):
        table.add_column(name, justify="right", no_wrap=True)
    steps = sorted(accuracy)
    for index in sorted({round(place) for place in torch.linspace(0, len(steps) - 1, _ROWS).tolist()}):
        step = steps[index]
        seen = "–" if step not in trained else format_number(trained[step])
        table.add_row(f"{step:,}", f"{accuracy[step]:.4f}", format_number(loss[step]), seen)
    return Group(Text(title), table, Text(_ceiling_text(ceiling, num)))


def learning_charts(run: Run, ceiling: Ceiling | None) -> tuple[Chart, Chart]:
    """Accuracy and loss over training, with their ceiling and floor."""
    course = _course(run)
    chance = Mark("y", 1 / run.law().num_labels, "guessing")
    best = () if ceiling is None else (Mark("y", ceiling.accuracy, f"best possible: {ceiling.accuracy:.3f}"),)
    least = () if ceiling is None else (Mark("y", ceiling.loss_nats, f"least possible: {ceiling.loss_nats:.3f} nats"),)
    text = f"{law_text(run.law())}."
    accuracy = _curve(course["validation_accuracy"], "fresh samples", "measured")
    losses = (
        _curve(course["validation_loss_nats"], "fresh samples", "measured"),
        _curve(course["train_loss_nats"], "while training", "context"),
    )
    return (
        Chart("accuracy", "Labels told from the tokens", text, "step", "accuracy", (accuracy,), (chance, *best)),
        Chart("loss", "Cross-entropy of the labels", text, "step", "loss in nats", losses, least),
    )


def _course(run: Run) -> dict[str, dict[int, float]]:
    """By metric and step, what belongs to no single layer."""
    course: dict[str, dict[int, float]] = {"train_loss_nats": {}}
    for row in run.measurements():
        if row.layer is None:
            course.setdefault(row.metric, {})[row.step] = row.value
    return course


def _curve(values: dict[int, float], label: str, role: Role) -> Curve:
    steps = sorted(values)
    return Curve(label, [float(step) for step in steps], [values[step] for step in steps], role=role)


def _ceiling_text(ceiling: Ceiling | None, num: int) -> str:
    seen = f"accuracy and loss on {num:,} fresh samples"
    if ceiling is None:
        return f"{seen}; the best possible ones are not known for this law"
    error = f" ± {ceiling.standard_error:.4f}" if ceiling.standard_error else ""
    loss = format_number(ceiling.loss_nats)
    return f"{seen}; the best possible: accuracy {ceiling.accuracy:.4f}{error}, loss {loss} nats"
