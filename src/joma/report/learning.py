"""A training run on a law's labels as people and machines read it, together with the best that anything could do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from joma.charts import Chart, Mark
from joma.problem.tree import digest
from joma.report.drawing.looks import spread
from joma.report.drawing.tables import table_of
from joma.report.drawing.words import format_number
from joma.report.samples import law_text

if TYPE_CHECKING:
    from joma.measure.curves.course import Course
    from joma.theory.labels import Ceiling
    from joma.train.run import Run

    Courses = Mapping[str, Course]  # by metric: accuracy, loss, training loss

_ROWS = 12


def learning_record(run: Run, courses: Courses, ceiling: Ceiling | None) -> dict[str, Any]:
    """Plain data that survives strict JSON."""
    steps = courses["val_accuracy"].steps
    return {
        "folder": str(run.folder),
        "law": run.law().to_json(),
        "digest": digest(run.law()),
        "recipe": run.recipe.to_json(),
        "snapshots": run.snapshots(),
        "ceiling": None if ceiling is None else asdict(ceiling),
        "step": list(steps),
        **{metric: [_by_step(course).get(step) for step in steps] for metric, course in courses.items()},
    }


def learning_table(run: Run, courses: Courses) -> Group:
    """Some of the measurements, first and last included."""
    config = run.recipe.decoder
    size = f"{config.num_layers} layers of width {config.width}, {config.hidden} hidden units"
    table = table_of(("step", "accuracy", "loss\nin nats", "loss while\ntraining"))
    accuracy, loss, trained = map(_by_step, courses.values())
    steps = list(accuracy)
    for step in (steps[index] for index in spread(len(steps), _ROWS)):
        seen = "–" if step not in trained else format_number(trained[step])
        table.add_row(f"{step:,}", f"{accuracy[step]:.4f}", format_number(loss[step]), seen)
    return Group(Text(f"{law_text(run.law())}\n{size}"), table)


def learning_summary(run: Run, courses: Courses, ceiling: Ceiling | None) -> str:
    """The accuracy at the end, and the best possible, in a sentence."""
    step, accuracy = list(_by_step(courses["val_accuracy"]).items())[-1]
    chance = f"guessing: {1 / run.law().num_labels:.4f}"
    return f"Step {step:,}: accuracy {accuracy:.4f}, {chance}; {_ceiling_text(ceiling, run.recipe.num_probe_sequences)}"


def learning_charts(run: Run, courses: Courses, ceiling: Ceiling | None) -> tuple[Chart, Chart]:
    """Accuracy and loss over training, with their ceiling and floor."""
    law = run.law()
    chance = Mark("y", 1 / law.num_labels, "guessing")
    best = () if ceiling is None else (Mark("y", ceiling.accuracy, f"best possible: {ceiling.accuracy:.3f}"),)
    least = () if ceiling is None else (Mark("y", ceiling.loss_nats, f"least possible: {ceiling.loss_nats:.3f} nats"),)
    text, (accuracy, loss, trained) = f"{law_text(law)}.", courses.values()
    losses = (loss.curve("fresh samples", group=""), trained.curve("while training", "context", group=""))
    fresh = (accuracy.curve("fresh samples", group=""),)
    return (
        Chart("accuracy", "Labels predicted from the tokens", text, "step", "accuracy", fresh, (chance, *best)),
        Chart("loss", "Cross-entropy of the labels", text, "step", "loss in nats", losses, least),
    )


def _by_step(course: Course) -> dict[int, float]:
    return dict(zip(course.steps, course.mean.tolist(), strict=True))


def _ceiling_text(ceiling: Ceiling | None, num: int) -> str:
    seen = f"on {num:,} fresh samples"
    if ceiling is None:
        return f"{seen}; the best possible is not known for this law"
    error = "" if ceiling.exact else f" ± {ceiling.standard_error:.4f} (mean of {ceiling.num_samples:,} samples)"
    loss = format_number(ceiling.loss_nats)
    return f"{seen}; the best possible: accuracy {ceiling.accuracy:.4f}{error}, loss {loss} nats"
