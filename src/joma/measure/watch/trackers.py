"""Pass measured values and pictures to the experiment tracker of a training loop."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import UInt8

from joma.charts import SHADES
from joma.errors import InvalidArgument
from joma.measure.curves.quantities import ENTROPY, FIRST_ROLE
from joma.records import Row

Detail = Literal["layer", "head"]
DETAILS: Mapping[str, Detail] = {name: name for name in get_args(Detail)}

MOST_LAYERS = 8
"""Most charts of one metric with ``detail="layer"``: of more layers, neighbours share a chart."""

_NUM_BY_LAYER = 4  # metrics with charts of layers; others have one of the whole network
_FIRST = ((ENTROPY, None), ("attention_first_token_share", None), ("attention_max_logit", None))
_FIRST += (("stable_rank", FIRST_ROLE),)
_PICTURED = "attention_entropy_normalized"
_WIDTH, _CELL = 320, 8  # pixels of a picture, and of a head in it at least


class Picture(NamedTuple):
    """A picture for a tracker: a name, and pixels (height, width, 3)."""

    name: str
    pixels: UInt8[np.ndarray, "height width 3"]


Report = Callable[[dict[str, float], int, Picture | None], None]
"""Receives values by name, the step, and a picture."""

Track = Callable[[Sequence[Row], int], None]
"""Receives the rows of a probe, and the step."""


@dataclass(frozen=True)
class Reporter:
    """A tracker that also receives pictures."""

    report: Report


def tracked_values(rows: Iterable[Row]) -> dict[str, float]:
    """Return values by names such as ``joma/attention_entropy/layer_03/head_07``, without those of single experts."""
    return {_name(row.metric, row.projection, *_places(row)): row.value for row in rows if row.group is None}


class LayerValues:
    """Makes the values of layers from those of heads: a few dozen, whatever the size of the network.

    Four metrics have a value for each layer, the mean over its heads: if measured, entropy, the first token's share,
    the largest logit and the stable rank of the lower projections. Of more than ``MOST_LAYERS`` layers, neighbours
    share one: ``layers_00_02`` is their mean. Other metrics have one for the network, the mean over its layers. The
    first probe decides this, so that later ones have the same names.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None], dict[int, str]] = {}

    def __call__(self, rows: Iterable[Row]) -> dict[str, float]:
        """Return the values of one probe by their names in trackers, without those of single experts."""
        by_layer: dict[tuple[str, str | None], dict[int | None, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row.group is None:
                by_layer[row.metric, row.projection][row.layer].append(row.value)
        if not self._groups:
            first = [key for key in dict.fromkeys([*_FIRST, *by_layer]) if key in by_layer][:_NUM_BY_LAYER]
            self._groups = {key: _neighbours([at for at in by_layer[key] if at is not None]) for key in first}
        values: dict[str, list[float]] = defaultdict(list)
        for key, layers in by_layer.items():
            for layer, of_heads in layers.items():
                groups = self._groups.get(key)
                name = None if layer is None or groups is None else groups.get(layer, f"layer_{layer:02}")
                values[_name(*key, name)].append(float(np.mean(of_heads)))
        return {name: float(np.mean(parts)) for name, parts in values.items()}


def picture_of(rows: Iterable[Row]) -> Picture | None:
    """Draw normalised attention entropy, layers (0 on top) by heads, from light (0) to dark (1, uniform attention).

    Returns:
        ``None`` if it is not measured.
    """
    found = {(row.layer, row.head): row.value for row in rows if row.metric == _PICTURED}
    cells = {(layer, head): value for (layer, head), value in found.items() if layer is not None and head is not None}
    if not cells:
        return None
    values = np.full([1 + max(places) for places in zip(*cells, strict=True)], np.nan)
    for place, value in cells.items():
        values[place] = value
    shades = np.array([[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in SHADES])
    at = np.linspace(0, 1, len(shades))
    colours = np.stack([np.interp(values, at, channel) for channel in shades.T], axis=-1)
    colours = np.where(np.isnan(values)[..., None], 255, colours).round().astype(np.uint8)
    size = max(_CELL, _WIDTH // max(values.shape))
    pixels = colours.repeat(size, axis=0).repeat(size, axis=1)
    pixels[::size] = pixels[:, ::size] = 150  # lines between cells
    return Picture(f"joma/{_PICTURED}/layers_by_heads", pixels)


def track_with(tracker: Any, detail: Detail = "layer") -> Track:
    """Return a function that passes values to a tracker.

    Args:
        tracker: TensorBoard's ``SummaryWriter`` (or any object with ``add_scalar``); a run of W&B; an ``Accelerator``;
            a run of trackio (or any object with ``log``); the package wandb or trackio after its ``init``; a
            ``Reporter``; or a function of values and step.
        detail: ``layer`` for ``LayerValues``, ``head`` for all values.

    Raises:
        InvalidArgument: none of these, or a package without a run.
    """
    report, values = _report_to(tracker), LayerValues() if detail == "layer" else tracked_values

    def track(rows: Sequence[Row], step: int) -> None:
        report(values(rows), step, picture_of(rows))

    return track


def _report_to(tracker: Any) -> Report:
    if isinstance(tracker, ModuleType):
        tracker = _begun_run(tracker)
    if isinstance(tracker, Reporter):
        return tracker.report
    if hasattr(tracker, "add_scalar"):
        return lambda values, step, picture: _add(tracker, values, step, picture)
    if hasattr(tracker, "trackers"):
        return _report_to_each(tracker)
    if hasattr(tracker, "define_metric"):
        return _report_in_rows(tracker)
    if hasattr(tracker, "log"):
        return lambda values, step, _: tracker.log(values, step=step)
    if callable(tracker):
        return lambda values, step, _: tracker(values, step)
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


def _report_to_each(accelerator: Any) -> Report:
    if not accelerator.trackers:
        raise _bad(
            "one that has trackers",
            "an Accelerator without any",
            "give it log_with= and call its init_trackers first, or leave tracker out",
        )
    own = ("define_metric", "add_scalar")  # of W&B and TensorBoard, which show pictures
    reports = [
        _report_to(each.tracker if any(hasattr(each.tracker, name) for name in own) else each)
        for each in accelerator.trackers
    ]

    def report(values: dict[str, float], step: int, picture: Picture | None) -> None:
        for report_one in reports:
            report_one(values, step, picture)

    return report


def _report_in_rows(run: Any) -> Report:
    """Log to W&B, which numbers rows and drops values for rows before the last one.

    Training loops number rows in different ways: by optimiser steps, from 0 or 1, by batches, or by calls. Values are
    therefore logged to the current row, so that the loop's own values are kept unless it counts more slowly than
    probes are taken, and charts use ``joma/step`` as their axis.
    """
    run.define_metric("joma/step", hidden=True)
    run.define_metric("joma/*", step_metric="joma/step")
    last_row = -1

    def report(values: dict[str, float], step: int, picture: Picture | None) -> None:
        nonlocal last_row
        row = run.step
        if row == last_row:  # the loop has logged nothing since, and the row would be overwritten
            row += 1
        run.log({**values, **wandb_picture(picture), "joma/step": step}, step=row)
        last_row = row

    return report


def wandb_picture(picture: Picture | None) -> dict[str, Any]:
    """Return a picture by name, as W&B logs it; empty if there is none."""
    return {} if picture is None else {picture.name: sys.modules["wandb"].Image(picture.pixels)}


def _add(writer: Any, values: dict[str, float], step: int, picture: Picture | None) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)
    if picture is not None and hasattr(writer, "add_image"):
        writer.add_image(*picture, step, dataformats="HWC")


def _neighbours(layers: Iterable[int]) -> dict[int, str]:
    """Return the name of each layer's group: at most ``MOST_LAYERS`` groups of neighbours."""
    at = sorted(layers)
    size = -(-len(at) // MOST_LAYERS)
    groups = [at[first : first + size] for first in range(0, len(at), max(size, 1))]
    return {
        layer: f"layer_{group[0]:02}" if len(group) == 1 else f"layers_{group[0]:02}_{group[-1]:02}"
        for group in groups
        for layer in group
    }


def _places(row: Row) -> list[str]:
    return [f"{axis}_{number:02}" for axis, number in (("layer", row.layer), ("head", row.head)) if number is not None]


def _name(metric: str, projection: str | None, *places: str | None) -> str:
    return "/".join(filter(None, ["joma", metric.removesuffix("_nats"), projection, *places]))


def _bad(required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("watch", "tracker", required=required, received=received, remedy=remedy)
