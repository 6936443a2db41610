"""Measure one saved step of a series.

A step is measured with a fixed number of threads, one sequence after another, so that its numbers are bit-identical in
every process and with any other load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from joma.devices import device_of
from joma.errors import BadInput, RunFailed, cause_of
from joma.measure.capture.calls import LayerMetrics
from joma.measure.capture.kernels import observing
from joma.measure.capture.outputs import agree, changed_by_observation
from joma.measure.models.building import Build, built, needed_names, require_finite
from joma.measure.models.experts import unread_experts, with_means
from joma.measure.models.families import num_layers_of, projections, setting
from joma.measure.models.projections import Projection
from joma.measure.models.weights import spectral_rows
from joma.measure.scan.results import StepResult
from joma.metrics import METRICS, sources_of
from joma.progress import Progress, part_of, silent
from joma.records import Row
from joma.saved.series import CheckpointFiles, Series
from joma.threads import threads

MOST_GROUPS = 8
"""Number of groups of probe sequences with separate results: repetitions, whose spread gives intervals."""

_DEFINITION = "metrics of joma.metrics, attention to 1e-5 nats and spectra to 1e-6"
"""The definition of the metrics, a part of fingerprints: results from before it changed are measured again."""

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_WEIGHT = re.compile(r"weight[^.]*$")


@dataclass(frozen=True)
class Plan:
    """What to measure in each step.

    Args:
        series: the series of steps.
        metrics: names, from ``choose_metrics``.
        probe: (sequences, length) token ids that models read; ``None`` if only weights are measured.
        num_threads: for each step; the last digits of sums depend on it.
        device: ``cpu``, or ``auto`` for an accelerator if there is one.
        build: builds a step's model; it must be picklable.
    """

    series: Series
    metrics: tuple[str, ...]
    probe: Tensor | None = None
    num_threads: int = 1
    device: Literal["cpu", "auto"] = "cpu"
    build: Build = built

    @property
    def place(self) -> torch.device:
        """Where models run and spectra are taken."""
        return device_of(self.device, "Plan")

    @property
    def num_groups(self) -> int:
        """The number of groups of probe sequences; sequence i belongs to group i modulo this."""
        return 0 if self.probe is None else min(MOST_GROUPS, len(self.probe))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the results of steps depend on, as plain data."""
        probe = None
        if self.probe is not None:
            digest = hashlib.sha256(self.probe.contiguous().numpy().tobytes()).hexdigest()[:16]
            probe = {"sequences": len(self.probe), "length": self.probe.shape[1], "sha256": digest}
        return {
            "source": self.series.source,
            "metrics": list(self.metrics),
            "probe": probe,
            "num_threads": self.num_threads,
            "device": self.place.type,
        }


def measure_step(plan: Plan, step: int, progress: Progress = silent) -> StepResult:
    """Measure one step; an error becomes its result.

    Args:
        plan: what to measure.
        step: of the plan's series.
        progress: called repeatedly.
    """
    series, started, before = plan.series, time.monotonic(), plan.series.bytes_read
    rows: list[Row] = []
    notes: list[str] = []
    reason = remedy = fingerprint = ""
    bytes_stored = 0
    try:
        checkpoint = series.checkpoint(step)
        bytes_stored = sum(file.size for file in checkpoint.files)
        fingerprint = fingerprint_of(series, step)
        with threads(plan.num_threads), torch.no_grad():
            rows += _rows(plan, checkpoint, progress, notes)
    except (BadInput, RunFailed) as error:
        rows, reason, remedy = [], error.problem, error.remedy
    except Exception as error:  # noqa: BLE001 (any error becomes the result of its step)
        rows, reason = [], f"it cannot be computed ({cause_of(error)})"
        remedy = "shorten `length` if memory is short, check config.json, or leave this step out"
    return StepResult(
        step,
        tuple(rows),
        fingerprint,
        round(time.monotonic() - started, 3),
        series.bytes_read - before,
        bytes_stored,
        reason,
        remedy,
        tuple(notes),
    )


def is_current(series: Series, result: StepResult | None) -> bool:
    """Whether a stored result belongs to the current weights of the series; ``False`` if the step failed."""
    if result is None or not result.ok:
        return False
    try:
        return fingerprint_of(series, result.step) == result.fingerprint
    except (BadInput, RunFailed):  # measuring it will say why
        return False


def fingerprint_of(series: Series, step: int) -> str:
    """Return an identifier of a step's configuration and of all its weight files, without reading them.

    A file is identified by its size and by the hash that a hub states, or in a folder by the times of its last change:
    a file that was written, moved or given other permissions in the meantime counts as replaced.

    Raises:
        BadInput, RunFailed: as ``Series.checkpoint``.
    """
    checkpoint = series.checkpoint(step)
    files = [(file.name, file.size, file.digest or file.version) for file in checkpoint.files]
    config = json.dumps(checkpoint.config, sort_keys=True, default=str)
    return hashlib.sha256(f"{_DEFINITION}{files}{config}".encode()).hexdigest()[:32]


def _rows(plan: Plan, checkpoint: CheckpointFiles, progress: Progress, notes: list[str]) -> Iterator[Row]:
    sources = sources_of(plan.metrics)
    runs = bool(sources & {"attention", "loss"})
    parts = runs + ("weights" in sources)
    if not checkpoint.config:
        raise BadInput(
            f"{plan.series.place(checkpoint.step)} has no config.json",
            expected="the configuration that was saved with the weights",
            remedy="copy it next to them, or into the folder above",
        )
    _require_unquantised(checkpoint)
    if runs:
        names = needed_names(checkpoint.tensors, with_head="loss" in sources)
        tensors = plan.series.read(checkpoint.step, names)
        yield from _rows_of_model(plan, checkpoint, tensors, part_of(progress, "measuring", 0, 1, parts))
    else:
        tensors = {}
    if "weights" in sources:
        rest = part_of(progress, "measuring", parts - 1, 1, parts)
        yield from with_means(_rows_of_weights(plan, checkpoint, tensors, rest, notes))


def _require_unquantised(checkpoint: CheckpointFiles) -> None:
    """Refuse quantised weights, which need scales, except those of GGUF, which are dequantised when read."""
    if checkpoint.kind == "gguf":
        return
    remedy = "scan the weights from before they were quantised, or a GGUF file"
    expected = "weights in float32, float16 or bfloat16"
    if stated := checkpoint.config.get("quantization_config"):
        method = stated.get("quant_method", "unknown method") if isinstance(stated, Mapping) else stated
        raise BadInput(f"config.json says that the weights are quantised ({method})", expected=expected, remedy=remedy)
    for name, place in checkpoint.tensors.items():
        whole = place.dtype.is_floating_point and place.dtype.itemsize > 1
        if _WEIGHT.search(name) and not whole:
            kept = str(place.dtype).removeprefix("torch.")
            problem = f"{name} is stored in {kept}: quantised or packed, without its scale"
            raise BadInput(problem, expected=expected, remedy=remedy)


def _require_all_layers(checkpoint: CheckpointFiles) -> None:
    config = checkpoint.config
    num_found = len({match[1] for name in checkpoint.tensors if (match := _LAYER.search(name))})
    num_stated = num_layers_of(config)
    if num_stated not in (None, num_found):
        raise BadInput(
            f"there are weights of {num_found} layers, and config.json states {num_stated}",
            expected="weights and a configuration of the same model",
            remedy="check config.json, and that the step is complete: joma scan --verify",
        )


def _rows_of_weights(
    plan: Plan, checkpoint: CheckpointFiles, held: Mapping[str, Tensor], progress: Progress, notes: list[str]
) -> Iterator[Row]:
    """Measure spectra per projection and head; each tensor is read once, unless it is in ``held``."""
    wanted = [name for name in plan.metrics if METRICS[name].source == "weights"]
    by_tensor: dict[str, list[Projection]] = {}
    found = projections(checkpoint.config, checkpoint.tensors)
    _require_all_layers(checkpoint)
    if unread := unread_experts(checkpoint.tensors, found):
        notes.append(f"{len(unread)} tensors of experts: left out, because their names are unknown ({unread[0]})")
    for projection in found:
        by_tensor.setdefault(projection.tensor, []).append(projection)
    for done, (name, parts) in enumerate(by_tensor.items()):
        progress("measuring", done, len(by_tensor))
        tensor = held[name] if name in held else plan.series.read(checkpoint.step, [name])[name]
        require_finite({name: tensor})
        for part in parts:
            for piece, matrices in part.pieces(part.of(tensor).to(plan.place)):
                if bool((matrices != 0).flatten(-2).any(-1).all()):
                    yield from spectral_rows(piece, matrices, wanted)
                else:
                    expert = f", {piece.part}" if piece.part else ""
                    notes.append(f"layer {part.layer}, {part.role}{expert}: left out, because zeros have no rank")


def _rows_of_model(
    plan: Plan, checkpoint: CheckpointFiles, tensors: Mapping[str, Tensor], progress: Progress
) -> Iterator[Row]:
    """Measure attention and loss on the probe, as means over all sequences and over each group."""
    assert plan.probe is not None
    with_head = "val_loss_nats" in plan.metrics
    model = plan.build(checkpoint.config, tensors, with_head=with_head).to(plan.place)
    require_reads(model, checkpoint.config, int(plan.probe.max()))
    wanted = [name for name in plan.metrics if METRICS[name].source == "attention"]
    found: dict[tuple[int | None, str], list[Tensor]] = {}  # for each sequence the values of all heads

    for index, tokens in enumerate(plan.probe.to(plan.place)):
        progress("measuring", index, len(plan.probe))
        measured = LayerMetrics()
        with observing(model, measured.add) if wanted else contextlib.nullcontext(model) as module:
            output = module(tokens[None])
        if index == 0 and wanted:
            require_observed(model, tokens[None], output, bool(measured.of_layers))
        for layer, metrics in measured.of_layers.items():
            for name in wanted:
                found.setdefault((layer, name), []).append(metrics[name].value)
        if with_head:
            logits = output if isinstance(output, Tensor) else output.logits
            loss = torch.nn.functional.cross_entropy(logits[0, :-1], tokens[1:])
            found.setdefault((None, "val_loss_nats"), []).append(loss.double())
    for (layer, name), values in found.items():
        yield from _rows_of_groups(layer, name, torch.stack(values), plan.num_groups)


def _rows_of_groups(layer: int | None, name: str, values: Tensor, num_groups: int) -> Iterator[Row]:
    """Yield rows of one metric over all sequences, and over each group of them.

    Args:
        layer: of the metric; ``None`` for a metric of the whole model.
        name: of the metric.
        values: (sequences, H), or (sequences,) for a metric of the whole model.
        num_groups: of sequences; sequence i belongs to group i modulo this.
    """
    if not bool(values.isfinite().all()):
        raise BadInput(
            f"{name} of layer {layer} is not finite",
            expected="activations that fit into float32",
            remedy="leave this step out",
        )
    numbers = range(num_groups) if num_groups > 1 else ()
    groups = {f"sequences_{number}": values[number::num_groups].contiguous() for number in numbers}
    for group, part in ({None: values} | groups).items():
        over_all = part.amax(0) if METRICS[name].queries == "largest" else part.mean(0)
        for head, value in enumerate(over_all.flatten().tolist()):
            yield Row(layer, None if layer is None else head, None, name, value, group)


def require_observed(model: nn.Module, tokens: Tensor, seen: Any, has_found: bool) -> None:
    """Raise ``BadInput`` unless attention was observed, and the model gave the same outputs as when it is not."""
    if not has_found:
        raise BadInput(
            "no attention was observed while the model ran",
            expected="a Transformer",
            remedy="measure only weights: set `measures` to weights",
        )
    if not agree(seen, plain := model(tokens)):
        raise changed_by_observation(model, plain, lambda: model(tokens))


def require_reads(model: Any, config: Mapping[str, Any], last_token: int) -> None:
    """Raise ``BadInput`` unless a model reads one text and knows these tokens."""
    reads, both = getattr(model, "main_input_name", "input_ids"), getattr(model, "config", None)
    if reads != "input_ids" or getattr(both, "is_encoder_decoder", False):
        what = f"reads {reads}" if reads != "input_ids" else "has an encoder and a decoder"
        raise BadInput(
            f"a {config.get('model_type')!r} model {what}",
            expected="a model that reads one text",
            remedy="measure only weights: set `measures` to weights",
        )
    num_known = setting(config, "vocab_size")
    if isinstance(num_known, int) and last_token >= num_known:
        raise BadInput(
            f"the text has token {last_token}, but the model has {num_known} tokens",
            expected="the tokenizer of the model",
            remedy="name another one with `tokenizer`, or leave out this step",
        )
