"""A training run on a law's labels as people and machines read it, together with the best that anything could do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from joma.charts import Chart, Mark
from joma.problem.tree import digest
from joma.report.drawing.words import format_number
from joma.report.samples import law_text

if TYPE_CHECKING:
    from joma.measure.curves.course import Course
    from joma.theory.labels import Ceiling
    from joma.train.courses import Learning

_ROWS = 12


def learning_record(found: Learning, ceiling: Ceiling | None) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    steps = found.accuracy.steps
    return {
        "folder": str(found.run.folder),
        "law": found.law.to_json(),
        "digest": digest(found.law),
        "recipe": found.run.recipe.to_json(),
        "snapshots": found.run.snapshots(),
        "ceiling": None if ceiling is None else asdict(ceiling),
        "step": list(steps),
        "validation_accuracy": [_by_step(found.accuracy)[step] for step in steps],
        "validation_loss_nats": [_by_step(found.loss).get(step) for step in steps],
        "train_loss_nats": [_by_step(found.train_loss).get(step) for step in steps],
    }


def learning_table(found: Learning, ceiling: Ceiling | None) -> Group:
    """Some of the measurements, first and last included."""
    config, num = found.run.recipe.decoder, found.run.recipe.num_probe_sequences
    title = (
        f"{law_text(found.law)}\n{config.num_layers} layers of width {config.width}, {config.feed_forward} hidden units"
    )
    table = Table()
    table.add_column("step", justify="right")
    for name in ("accuracy", "loss\nin nats", "loss while\ntraining"):
        table.add_column(name, justify="right", no_wrap=True)
    steps, trained = found.accuracy.steps, _by_step(found.train_loss)
    for index in sorted({round(place) for place in torch.linspace(0, len(steps) - 1, _ROWS).tolist()}):
        accuracy, loss = (float(course.mean[index]) for course in (found.accuracy, found.loss))
        seen = "–" if steps[index] not in trained else format_number(trained[steps[index]])
        table.add_row(f"{steps[index]:,}", f"{accuracy:.4f}", format_number(loss), seen)
    return Group(Text(title), table, Text(_ceiling_text(ceiling, num)))


def learning_charts(found: Learning, ceiling: Ceiling | None) -> tuple[Chart, Chart]:
    """Accuracy and loss over training, with their ceiling and floor."""
    chance = Mark("y", 1 / found.law.num_labels, "guessing")
    best = () if ceiling is None else (Mark("y", ceiling.accuracy, f"best possible: {ceiling.accuracy:.3f}"),)
    least = () if ceiling is None else (Mark("y", ceiling.loss_nats, f"least possible: {ceiling.loss_nats:.3f} nats"),)
    text = f"{law_text(found.law)}."
    accuracy = found.accuracy.curve("fresh samples", group="")
    losses = (
        found.loss.curve("fresh samples", group=""),
        found.train_loss.curve("while training", "context", group=""),
    )
    return (
        Chart("accuracy", "Labels predicted from the tokens", text, "step", "accuracy", (accuracy,), (chance, *best)),
        Chart("loss", "Cross-entropy of the labels", text, "step", "loss in nats", losses, least),
    )


def _by_step(course: Course) -> dict[int, float]:
    return dict(zip(course.steps, course.mean.tolist(), strict=True))


def _ceiling_text(ceiling: Ceiling | None, num: int) -> str:
    seen = f"accuracy and loss on {num:,} fresh samples"
    if ceiling is None:
        return f"{seen}; the best possible ones are not known for this law"
    error = f" ± {ceiling.standard_error:.4f}" if ceiling.standard_error else ""
    loss = format_number(ceiling.loss_nats)
    return f"{seen}; the best possible: accuracy {ceiling.accuracy:.4f}{error}, loss {loss} nats"
