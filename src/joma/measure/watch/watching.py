"""Measure a model during training: a probe on a fixed batch at regular optimiser steps.

Between probes the model is unchanged, without hooks and with its own kernels. A probe runs the model once on the batch,
in evaluation mode, without gradients and with a separate random number state. Training is therefore bit-identical with
and without probes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn

from joma.domains import choose
from joma.errors import BadInput, InvalidArgument, RunFailed
from joma.journal import append_line, probe_line
from joma.measure.capture.checking import KernelChecks
from joma.measure.capture.kernels import unwrapped
from joma.measure.capture.sharded import is_sharded
from joma.measure.curves.alarms import Alarm, Alarms
from joma.measure.curves.signs import SIGNS
from joma.measure.models.families import setting
from joma.measure.models.projections import ROLES
from joma.measure.watch.gradients import gradient_rows
from joma.measure.watch.kept import earlier_probes, rewrite
from joma.measure.watch.losses import Losses
from joma.measure.watch.probing import (
    AttentionProbe,
    arguments_of,
    measured_projections,
    warn_of_experts,
    weight_rows,
)
from joma.measure.watch.sampling import WeightSample
from joma.measure.watch.schedule import Every, is_due
from joma.measure.watch.trackers import DETAILS, Detail, track_with, tracked_values
from joma.metrics import DEFAULT, METRICS, choose_metrics
from joma.records import Measurement, Row
from joma.tidy import frame_of, write_frame


class WatchSettings(TypedDict, total=False):
    """The settings of ``joma.watch``; all are optional.

    Args:
        every: optimiser steps between probes (100), or ``log`` for log-spaced steps: 1 to 8, and then four in each
            doubling. There are also one probe before the first step and one after the last.
        measures: metrics by name or source (docs/metrics.md): ``attention``, ``stable_rank``, ``weights``, …; by
            default attention, and the stable rank if the family of the model is known; ``gradients`` need a batch with
            which the model returns a loss.
        projections: roles of the measured weights: ``query``, ``mlp_upper``, …; ``mlp_lower`` by default.
        share_window: keys nearer than this count in ``attention_window_share``; not measured by default.
        out: a folder for ``metrics.jsonl``, written during training, and ``metrics.parquet``, written at the end.
        tracker: an ``Accelerator``, a ``SummaryWriter``, a run of W&B or trackio, or a function of values and step.
        detail: what the tracker receives: by default ``layer``, values of layers, or of groups of neighbouring layers
            in deep networks, and a picture of all heads; or ``head``, every value.
        alarm: warn when attention entropy collapses, logits grow large, or the first token takes everything, once per
            layer (docs/watch.md); a function is also called with the ``Alarm``, and may raise to stop training.
        start: number of finished optimiser steps, if training continues from a checkpoint. Measurements in ``out``
            from this step on are replaced.
    """

    every: Every
    measures: str | Collection[str] | None
    projections: str | Collection[str]
    share_window: int | None
    out: str | Path | None
    tracker: Any
    detail: Detail
    alarm: bool | Callable[[Alarm], object]
    start: int


def callback_settings(callback: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a callback, which it passes to its ``Watch``.

    Raises:
        InvalidArgument: an unknown setting, or one that the callback sets itself.
    """
    taken = [name for name in WatchSettings.__annotations__ if name not in ("start", "tracker")]
    for name in settings:
        if name not in taken:
            required, received = f"some of {', '.join(taken)}", "not one of its settings"
            remedy = "leave it out: the callback gets model, start and tracker from its Trainer"
            raise InvalidArgument(callback, name, required=required, received=received, remedy=remedy)
    return settings


def next_trial(out: str | Path) -> Path:
    """Make a folder for the next trial of a search, ``trial_0``, ``trial_1``, …, and return it."""
    for number in count():
        with suppress(FileExistsError):
            folder = Path(out) / f"trial_{number}"
            folder.mkdir(parents=True)
            return folder
    raise AssertionError  # numbers do not end


class _Wanted(NamedTuple):
    """The metrics that a forward pass gives, those of weights and gradients, and the roles of measured projections."""

    attention: tuple[str, ...]
    weights: tuple[str, ...]
    gradients: tuple[str, ...]
    roles: tuple[str, ...]


class Watch:
    """A context manager that measures a model when it is entered, at optimiser steps, and when it is left.

    The last step is measured only if the model still has the weights that it left. If the block is entered again, it
    continues, or begins again if it failed.

    Args:
        model: a model of transformers, of torch's attention modules, or any that calls torch's attention kernel; it may
            be compiled or wrapped for data parallelism. With several processes the first one measures.
        probe_batch: the arguments of the model at each probe: a mapping of keyword arguments, a tuple of arguments, or
            one tensor, on the model's device. Keep it small: a probe takes one forward pass on it.
        **settings: of ``WatchSettings``.

    Raises:
        InvalidArgument, BadInput: a model that cannot be measured, or a batch that it cannot read. Some of these are
            only found by the first probe, when the block is entered.
    """

    def __init__(self, model: nn.Module, probe_batch: Any, **settings: Unpack[WatchSettings]) -> None:
        for name in settings:
            choose(name, WatchSettings.__annotations__, "watch", "settings")
        self._model = model
        self._every, self._start = settings.get("every", 100), settings.get("start", 0)
        share_window, out = settings.get("share_window"), settings.get("out")
        if self._every != "log" and not _counts(self._every, 1):
            what = "a whole number of optimiser steps, 1 or more, or 'log'"
            raise _bad("every", what, repr(self._every), "take 100")
        if not _counts(self._start, 0):
            raise _bad("start", "the number of finished steps, 0 or more", repr(self._start), "leave it out")
        if share_window is not None and not _counts(share_window, 1):
            what = "a whole number of positions, 1 or more, or None"
            raise _bad("share_window", what, repr(share_window), "take 16")
        _require_readable(unwrapped(model), probe_batch)
        roles = settings.get("projections", ("mlp_lower",))
        self._wanted = _wanted(model, settings.get("measures"), (roles,) if isinstance(roles, str) else tuple(roles))
        with_activations, self._batch = "largest_activation" in self._wanted.attention, probe_batch
        self._attention = AttentionProbe(
            model, probe_batch, share_window=share_window, with_activations=with_activations
        )
        self._folder = None if out is None else Path(out)
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise _bad("out", "a folder", f"the file {self._folder}", "name another place")
        distributed, tracker = torch.distributed, settings.get("tracker")
        is_first = not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
        self._is_measuring = is_first or is_sharded(model)  # together, and only the first one writes
        self._folder = self._folder if is_first else None
        detail = choose(settings.get("detail", "layer"), DETAILS, "watch", "detail")
        self._track = track_with(tracker, detail) if tracker is not None and is_first else None
        alarm = _alarm(settings.get("alarm", False), self._wanted.attention)
        self._alarm, self._alarms = alarm if is_first else False, Alarms()
        self._step, self._is_open, self.is_complete = self._start, False, False
        self._weights, self._losses = WeightSample(unwrapped(model)), Losses()
        self._ahead: tuple[int, list[Row]] = (-1, [])
        self._probes: dict[int, tuple[Row, ...]] = {}

    @property
    def probes(self) -> Mapping[int, Sequence[Row]]:
        """All measurements so far, by step; in the first process only."""
        return self._probes

    def __enter__(self) -> Self:
        if self._is_measuring:
            start = self._step + 1 if self.is_complete else self._start
            if self._probes and not self.is_complete:
                self.abandon(start)
            if self._folder is not None:
                self._probes = earlier_probes(self._folder / "metrics.jsonl", start)
            self._alarms = Alarms(self._probes if self._alarm else None)
            self._is_open = True
            self._weights.take()
            self.measure()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._is_measuring:
            return
        try:
            if kind is None and not self.measure_last():
                warnings.warn(
                    f"joma: step {self._step}, the last one, is not measured, because the model has other weights now "
                    "than that step left: an average, or a checkpoint; measure() before they are put in",
                    RuntimeWarning,
                    stacklevel=2,
                )
        finally:
            self._is_open, self.is_complete = False, kind is None
            if self._folder is not None:
                write_frame(frame_of(self.measurements()), self._folder / "metrics.parquet")

    def step(self, number: int | None = None, *, loss: Tensor | float | None = None) -> None:
        """Count a finished optimiser step, and measure if a probe is due; call it in every process.

        Args:
            number: of finished steps; counted automatically by default. It continues from ``start`` and over epochs.
            loss: of this step in nats, a number or a tensor with one entry; each probe has the mean since the last one.

        Raises:
            InvalidArgument: a loss that is no number, or a smaller number of steps than before. If training returns to
                a checkpoint, start a new watch, which drops later measurements.
        """
        if number is not None and not _counts(number, self._step):
            required = f"{self._step} or more, the number of finished optimiser steps"
            remedy = f"keep counting over epochs; after a rollback start a new watch with start={number}"
            raise InvalidArgument("Watch.step", "number", required=required, received=repr(number), remedy=remedy)
        before, self._step = self._step, self._step + 1 if number is None else number
        if self._is_measuring and self._step > before:
            self._weights.take()
            self._losses.add(loss)
        if is_due(self._every, before, self._step):
            self.measure()

    def measure(self) -> dict[str, float]:
        """Measure now, unless this step was measured already.

        Returns:
            All values by their names in trackers (``detail="head"``); empty in a process that does not measure.

        Raises:
            InvalidArgument: called outside of the block although ``out`` is set.
            BadInput: the weights are not those that the last step left.
            RunFailed: the measurements cannot be written.
        """
        if not self._is_measuring:
            return {}
        if (self._is_open or self._step not in self._probes) and not self._weights.is_current():
            raise BadInput(
                f"the model has other weights now than step {self._step} left",
                expected="measurements of a step with the weights that it left",
                remedy="call step() after each optimizer.step(), and measure before weights are averaged or loaded",
            )
        if self._step not in self._probes:
            if self._folder is not None and not self._is_open:
                what = f"{self._folder}, which is only open inside the block"
                raise _bad("out", "a call inside the block", what, "move the call there, or leave `out` out")
            self._keep(self._rows())
        return tracked_values(self._probes[self._step])

    def measure_last(self) -> bool:
        """Measure the last step, unless that is done or the model has other weights now; return whether it is measured.

        Call it where training may have ended, before weights are averaged or loaded.
        """
        if self._is_measuring and self._is_open and self._step not in self._probes:
            step, rows = self._ahead
            if step == self._step:
                self._keep(rows)
            elif self._weights.is_current():
                self._keep(self._rows())
        return not self._is_measuring or self._step in self._probes

    def measure_ahead(self) -> None:
        """Measure this step in case it turns out to be the last one; ``measure_last`` keeps these values."""
        if self._is_measuring and self._step not in self._probes and self._weights.is_current():
            self._ahead = self._step, self._rows()

    def abandon(self, step: int) -> None:
        """Drop what was measured from a step on, because training begins again from there."""
        self._is_open, self._step = False, step
        self._probes = {each: rows for each, rows in self._probes.items() if each < step}
        if self._is_measuring and self._folder is not None:
            rewrite(self._folder / "metrics.jsonl", self._probes)

    def check(self) -> KernelChecks:
        """Compare the outputs of the model's attention kernels on the probe batch with plain attention in float64.

        Returns:
            For each layer the largest error, and whether rounding explains it (``is_right``); print it for a table.
            Without layers in a process that does not measure.

        Raises:
            BadInput: as ``measure``, or the model attends in another order with another kernel.
        """
        return self._attention.check() if self._is_measuring else KernelChecks(())

    def measurements(self) -> Iterator[Measurement]:
        """Yield all measurements so far, in order; in the first process only."""
        run = "watched" if self._folder is None else self._folder.name
        for step, rows in self._probes.items():
            for row in rows:
                yield Measurement(run, step, *row)

    def _rows(self) -> list[Row]:
        wanted, rows = self._wanted, []
        if wanted.attention:
            rows += [row for row in self._attention.rows() if row.metric in wanted.attention]
        if wanted.weights:
            rows += weight_rows(self._model, wanted.weights, wanted.roles)
        if wanted.gradients:
            rows += gradient_rows(self._model, self._batch, wanted.roles)
        return [*rows, *self._losses.rows(self._step)]

    def _keep(self, rows: list[Row]) -> None:
        if self._folder is not None:
            path = self._folder / "metrics.jsonl"
            try:
                append_line(path, probe_line(self._step, rows))
            except OSError as error:
                raise RunFailed(
                    f"step {self._step} could not be written to {path} ({error.strerror})",
                    kept=f"{len(self._probes)} earlier probes are there",
                    remedy="free some disk space, and continue from a checkpoint with start=",
                ) from error
        self._probes[self._step] = tuple(rows)
        self._losses = Losses()
        if self._track is not None:
            self._track(rows, self._step)
        for found in self._alarms.after(self._step, rows) if self._alarm else ():
            warnings.warn(f"joma: {found.text}; {found.remedy}", RuntimeWarning, stacklevel=2)
            if callable(self._alarm):
                self._alarm(found)


def _counts(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _alarm(alarm: Any, measured: Collection[str]) -> bool | Callable[[Alarm], object]:
    """Return the setting, after checking that what alarms need is measured."""
    if not (isinstance(alarm, bool) or callable(alarm)):
        raise _bad("alarm", "True, False, or a function of an Alarm", repr(alarm), "pass alarm=True")
    if missing := [sign.metric for sign in SIGNS.values() if alarm and sign.metric not in measured]:
        raise _bad("measures", f"{missing[0]}, for alarms", "without it", "add it to measures, or leave out alarm")
    return alarm


def _wanted(model: nn.Module, measures: str | Collection[str] | None, roles: tuple[str, ...]) -> _Wanted:
    """Return what to measure, after checking that the model has it."""
    for role in roles:
        choose(role, dict.fromkeys(ROLES), "watch", "projections")
    chosen = choose_metrics(DEFAULT if measures is None else measures, "watch")
    attention, weights, gradients = (
        tuple(name for name in chosen if METRICS[name].source in sources)
        for sources in (("attention", "activations"), ("weights",), ("gradients",))
    )
    if of_roles := weights + gradients:
        if not roles:
            raise _bad("projections", f"some of {', '.join(ROLES)}", "empty", f"leave {of_roles[0]} out of measures")
        try:
            measured_projections(model, roles)
        except BadInput as error:
            if measures is not None:
                raise
            weights = ()  # by default, weights are measured only if the family is known
            warn_of_experts(model, (), error.problem)
    return _Wanted(attention, weights, gradients, roles)


def _require_readable(model: nn.Module, batch: Any) -> None:
    """Raise ``InvalidArgument`` for a batch that the model cannot read, as far as can be checked without running it."""
    positional, named = arguments_of(batch)
    tensors = {f"tensor {place}": value for place, value in enumerate(positional)} | named
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors or any(value.numel() == 0 for value in tensors.values()):
        what = "without any tensor" if not tensors else "empty"
        raise _bad("probe_batch", "the arguments of the model in training", what, "take the first batch of a loader")
    devices = {parameter.device for parameter in model.parameters()}
    for name, value in tensors.items():
        if devices and value.device not in devices:
            place = min(map(str, devices))
            raise _bad("probe_batch", f"on {place}, as the model", f"on {value.device} ({name})", f"use .to({place!r})")
    ids, longest = named.get("input_ids"), setting(getattr(model, "config", None), "max_position_embeddings")
    if isinstance(ids, Tensor) and isinstance(longest, int) and 0 < longest < ids.shape[-1]:
        received, remedy = f"{ids.shape[-1]} tokens long", f"cut it to {longest} tokens"
        raise _bad("probe_batch", f"at most {longest} tokens long, the model's context", received, remedy)


def _bad(parameter: str, required: str, received: str, remedy: str) -> InvalidArgument:
    return InvalidArgument("watch", parameter, required=required, received=received, remedy=remedy)
