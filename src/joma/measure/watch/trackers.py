"""Pass measured values to the experiment tracker of a training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from joma.errors import InvalidArgument
from joma.records import Row

Track = Callable[[dict[str, float], int], None]
"""Receives values by name, and the step."""


def tracked_values(rows: Iterable[Row]) -> dict[str, float]:
    """Return values by names such as ``joma/attention_entropy/layer_03/head_07``, without those of single experts."""
    return {_name(row): row.value for row in rows if row.group is None}


def track_with(tracker: Any) -> Track:
    """Return a function that passes values to a tracker.

    Args:
        tracker: TensorBoard's ``SummaryWriter`` (or any object with ``add_scalar``); a run of W&B; an ``Accelerator``;
            a run of trackio (or any object with ``log``); the package wandb or trackio after its ``init``; or a
            function of values and step.

    Raises:
        InvalidArgument: none of these, or a package without a run.
    """
    if isinstance(tracker, ModuleType):
        tracker = _begun_run(tracker)
    if hasattr(tracker, "add_scalar"):
        return lambda values, step: _add_scalars(tracker, values, step)
    if hasattr(tracker, "trackers"):
        return _track_with_each(tracker)
    if hasattr(tracker, "define_metric"):
        return _track_in_rows(tracker)
    if hasattr(tracker, "log"):
        return lambda values, step: tracker.log(values, step=step)
    if callable(tracker):
        return tracker
    raise _bad(
        "an Accelerator, a SummaryWriter, a run of W&B or trackio, or a function of values and step",
        f"a {type(tracker).__name__}",
        "pass a function: lambda values, step: ...",
    )


def _begun_run(package: ModuleType) -> Any:
    match package.__name__:
        case "wandb":
            run = package.run
        case "trackio":
            run = package.context_vars.current_run.get()
        case _:
            return package
    if run is None:
        name = package.__name__
        raise _bad("an active run", f"{name}, which has no active run", f"call {name}.init(...) first")
    return run


def _track_with_each(accelerator: Any) -> Track:
    if not accelerator.trackers:
        raise _bad(
            "one that has trackers",
            "an Accelerator without any",
            "give it log_with= and call its init_trackers first, or leave tracker out",
        )
    tracks = [
        track_with(each.tracker if hasattr(each.tracker, "define_metric") else each) for each in accelerator.trackers
    ]

    def track(values: dict[str, float], step: int) -> None:
        for track_one in tracks:
            track_one(values, step)

    return track


def _track_in_rows(run: Any) -> Track:
    """Log to W&B, which numbers rows and drops values for rows before the last one.

    Training loops number rows in different ways: by optimiser steps, from 0 or 1, by batches, or by calls. Values are
    therefore logged to the current row, so that the loop's own values are kept unless it counts more slowly than
    probes are taken, and charts use ``joma/step`` as their axis.
    """
    run.define_metric("joma/step", hidden=True)
    run.define_metric("joma/*", step_metric="joma/step")
    last_row = -1

    def track(values: dict[str, float], step: int) -> None:
        nonlocal last_row
        row = run.step
        if row == last_row:  # the loop has logged nothing since, and the row would be overwritten
            row += 1
        run.log({**values, "joma/step": step}, step=row)
        last_row = row

    return track


def _add_scalars(writer: Any, values: dict[str, float], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)


def _name(row: Row) -> str:
    parts = ["joma", row.metric.removesuffix("_nats"), row.projection]
    parts += [
        f"{axis}_{number:02}" for axis, number in (("layer", row.layer), ("head", row.head)) if number is not None
    ]
    return "/".join(filter(None, parts))


def _bad(required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("watch", "tracker", required=required, received=received, remedy=remedy)
