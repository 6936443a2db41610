"""The callback for the Trainer of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from joma.measure.watch.probing import moved
from joma.measure.watch.watching import Watch, callback_settings


class TrainerWatch(TrainerCallback):
    """Measures the model that a ``Trainer`` trains; steps are optimiser steps, also with gradient accumulation.

    A Trainer calls no callback when training fails: then all measurements are in ``metrics.jsonl``, and
    ``metrics.parquet`` is written at the end of training that continues from a checkpoint.

    Args:
        probe_batch: the arguments of the model, on any device.
        trainer: values also go to its ``report_to``; without it they go only to ``out``.
        every, out, **settings: as in ``joma.watch``, without ``start`` and ``tracker``.
    """

    kind: type[Watch] = Watch

    def __init__(
        self,
        probe_batch: Any,
        *,
        trainer: Trainer | None = None,
        every: int = 100,
        out: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self._batch, self._trainer = probe_batch, trainer
        self._settings = callback_settings("TrainerWatch", {**settings, "every": every, "out": out})
        self.watch: Watch | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure before the first step."""
        model: nn.Module = given["model"]
        self.watch = self.kind(
            model,
            moved(self._batch, next(model.parameters()).device),
            tracker=None if self._trainer is None else self._report,
            start=state.global_step,
            **self._settings,
        ).__enter__()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure if a probe is due, and after the last step, before reporters are closed."""
        assert self.watch is not None  # training has begun
        self.watch.step(state.global_step)
        if state.global_step >= state.max_steps or control.should_training_stop:
            self.watch.measure()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the table."""
        assert self.watch is not None
        self.watch.__exit__(None, None, None)

    def _report(self, values: dict[str, float], step: int) -> None:
        """Call only the reporters: ``trainer.log`` would also print hundreds of values at every probe."""
        assert self._trainer is not None
        trainer, handler = self._trainer, self._trainer.callback_handler
        for callback in handler.callbacks:
            if any(kind.__module__.startswith("transformers.integrations") for kind in type(callback).__mro__):
                callback.on_log(trainer.args, trainer.state, trainer.control, model=handler.model, logs=dict(values))
