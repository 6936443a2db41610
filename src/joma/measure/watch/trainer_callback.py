"""Watching under the Trainer of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from joma.measure.watch.probing import moved
from joma.measure.watch.watching import Watch, callback_settings


class TrainerWatch(TrainerCallback):
    """Watches the model that a ``Trainer`` trains; a step is an optimiser step, however many batches it takes.

    A Trainer whose training fails tells no callback: then all that was measured is in ``metrics.jsonl``, and
    ``metrics.parquet`` comes at the end of training that goes on from a checkpoint.

    Args:
        probe_batch: what the model is called with, on any device.
        trainer: whose ``report_to`` the values go to as well; without it they go to ``out`` alone.
        every, out, **settings: as ``joma.watch`` takes them, but for ``start`` and ``tracker``.
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
        """Probe before the first step."""
        model: nn.Module = given["model"]
        self.watch = self.kind(
            model,
            moved(self._batch, next(model.parameters()).device),
            tracker=None if self._trainer is None else self._report,
            start=state.global_step,
            **self._settings,
        ).__enter__()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Probe if it is time; after the last step while reporters are still listening."""
        assert self.watch is not None  # training has begun
        self.watch.step(state.global_step)
        if state.global_step >= state.max_steps or control.should_training_stop:
            self.watch.measure()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what was measured."""
        assert self.watch is not None
        self.watch.__exit__(None, None, None)

    def _report(self, values: dict[str, float], step: int) -> None:
        """Tell reporters alone: ``trainer.log`` would also print hundreds of values at every probe."""
        assert self._trainer is not None
        handler = self._trainer.callback_handler
        for callback in handler.callbacks:
            if any(kind.__module__.startswith("transformers.integrations") for kind in type(callback).__mro__):
                callback.on_log(
                    self._trainer.args,
                    self._trainer.state,
                    self._trainer.control,
                    model=handler.model,
                    logs=dict(values),
                )
