"""Hands values on to whatever tracker a training loop already uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from joma.errors import InvalidArgument
from joma.journal import Row

Track = Callable[[dict[str, float], int], None]
"""Told values by name, and the step."""


def tracked_values(rows: Iterable[Row]) -> dict[str, float]:
    """Name values as trackers show them: ``joma/attention_entropy/layer_03/head_07``."""
    return {_name(layer, head, metric): value for layer, head, metric, value in rows}


def track_with(tracker: Any) -> Track:
    """Find out how a tracker wants to be told.

    Args:
        tracker: TensorBoard's ``SummaryWriter`` (anything with ``add_scalar``); a run of W&B or trackio, either
            package itself, or an ``Accelerator`` (anything with ``log``); or a function of values and step.

    Raises:
        InvalidArgument: none of these.
    """
    if hasattr(tracker, "add_scalar"):
        return lambda values, step: _add_scalars(tracker, values, step)
    if hasattr(tracker, "log"):
        return lambda values, step: tracker.log(values, step=step)
    if callable(tracker):
        return tracker
    raise InvalidArgument(
        "watch",
        "tracker",
        required="an Accelerator, a SummaryWriter, a run of W&B or trackio, or a function of values and step",
        received=f"a {type(tracker).__name__}",
        remedy="pass a function: lambda values, step: ...",
    )


def _add_scalars(writer: Any, values: dict[str, float], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)


def _name(layer: int | None, head: int | None, metric: str) -> str:
    parts = ["joma", metric.removesuffix("_nats")]
    if layer is not None:
        parts.append(f"layer_{layer:02}")
    if head is not None:
        parts.append(f"head_{head:02}")
    return "/".join(parts)
