"""The callback for the Trainer of transformers."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from joma.errors import InvalidArgument
from joma.measure.watch.probing import moved
from joma.measure.watch.schedule import Every, is_due
from joma.measure.watch.trackers import Picture, Reporter, wandb_picture
from joma.measure.watch.watching import Watch, callback_settings, next_trial


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
        every: Every = 100,
        out: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self._batch, self._trainer = probe_batch, trainer
        self._settings = callback_settings("TrainerWatch", {**settings, "every": every, "out": out})
        self.watch: Watch | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure before the first step.

        A Trainer begins again after a failure, with smaller batches (``auto_find_batch_size``), from a checkpoint or by
        another call: then what was measured since is dropped. Each trial of a search of hyperparameters has a folder of
        its own in ``out``: ``trial_0``, ``trial_1``, …
        """
        model: nn.Module = given["model"]
        settings = dict(self._settings)
        if state.is_hyper_param_search and settings["out"] is not None:
            settings["out"] = next_trial(settings["out"])
        elif self.watch is not None and not self.watch.is_complete:
            self.watch.abandon(state.global_step)
        self.watch = self.kind(
            model,
            moved(self._batch, next(model.parameters()).device),
            tracker=None if self._trainer is None else Reporter(self._report),
            start=state.global_step,
            **settings,
        ).__enter__()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Measure if a probe is due, or after the last step, before other callbacks can put in other weights."""
        assert self.watch is not None  # training has begun
        step = state.global_step + 1  # which the Trainer counts after this
        self.watch.step(step)
        if step >= state.max_steps:
            self.watch.measure_last()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure the last step if training stops early, before the best weights are loaded or reporters are closed."""
        if self.watch is not None and control.should_training_stop:
            self.watch.measure_last()

    on_epoch_end = on_evaluate = on_save = on_log  # the first of them after the decision to stop

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the table."""
        assert self.watch is not None
        self.watch.__exit__(None, None, None)

    def _report(self, values: dict[str, float], step: int, picture: Picture | None) -> None:
        """Call only the reporters: ``trainer.log`` would also print hundreds of values at every probe."""
        assert self._trainer is not None
        trainer, handler = self._trainer, self._trainer.callback_handler
        state = copy(trainer.state)
        state.global_step = step
        for callback in handler.callbacks:
            if any(kind.__module__.startswith("transformers.integrations") for kind in type(callback).__mro__):
                board, is_wandb = getattr(callback, "tb_writer", None), hasattr(callback, "_wandb")
                logs = {**values, **wandb_picture(picture if is_wandb else None)}
                callback.on_log(trainer.args, state, trainer.control, model=handler.model, logs=logs)
                if picture is not None and board is not None:
                    board.add_image(f"train/{picture.name}", picture.pixels, step, dataformats="HWC")


class TrainerSave(TrainerCallback):
    """Saves checkpoints at the steps at which ``every="log"`` measures, from before the first to the last.

    Early in training much happens in few steps; the Trainer alone saves at regular ones. The steps of its own
    ``save_strategy`` are saved too.

    >>> from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    >>> import pathlib, torch, joma
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> texts = [{"input_ids": ids, "labels": ids} for ids in torch.randint(99, (16, 12))]
    >>> settings = TrainingArguments("saved", max_steps=2, report_to="none", save_strategy="no", save_only_model=True)
    >>> trainer = Trainer(model, settings, train_dataset=texts, callbacks=[joma.TrainerSave()])
    >>> trainer.train()
    {...}
    TrainOutput(...)
    >>> sorted(path.name for path in pathlib.Path("saved").iterdir())
    ['checkpoint-0', 'checkpoint-1', 'checkpoint-2']

    Raises:
        InvalidArgument: when training begins, if ``save_total_limit`` would remove the first checkpoints.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Save the model before the first step: its weights alone, from which training does not continue."""
        if args.save_total_limit is not None:
            raise InvalidArgument(
                "TrainerSave",
                "save_total_limit",
                required="None, because it removes the first checkpoints, which are most of the log-spaced ones",
                received=str(args.save_total_limit),
                remedy="leave it out, and pass save_only_model=True for smaller checkpoints",
            )
        if state.global_step == 0 and state.is_world_process_zero:
            given["model"].save_pretrained(Path(str(args.output_dir)) / "checkpoint-0")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save a checkpoint if one is due, and after the last step."""
        if is_due("log", state.global_step - 1, state.global_step) or state.global_step >= state.max_steps:
            control.should_save = True
