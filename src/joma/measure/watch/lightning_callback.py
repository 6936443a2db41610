"""The callback for Lightning's Trainer; it needs the extra ``lightning``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from joma.errors import InvalidArgument
from joma.extras import extra
from joma.measure.watch.probing import moved
from joma.measure.watch.schedule import Every
from joma.measure.watch.trackers import Picture, Reporter
from joma.measure.watch.watching import Watch, callback_settings

extra("lightning", "this callback is for its Trainer")
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402 (``extra`` raises if it is missing)


class LightningWatch(Callback):
    """Measures the model that Lightning trains; steps are optimiser steps, also with gradient accumulation.

    Args:
        probe_batch: the arguments of the model, on any device.
        part: the attribute of the ``LightningModule`` that holds the model; the whole module by default.
        every, out, **settings: as in ``joma.watch``, without ``start`` and ``tracker``; values go to the Trainer's
            loggers.
    """

    kind: type[Watch] = Watch

    def __init__(
        self,
        probe_batch: Any,
        *,
        part: str | None = None,
        every: Every = 100,
        out: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self._batch, self._part = probe_batch, part
        self._settings = callback_settings("LightningWatch", {**settings, "every": every, "out": out})
        self.watch: Watch | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step; if the last training failed, what was measured from here on is dropped."""
        if self.watch is not None and not self.watch.is_complete:
            self.watch.abandon(trainer.global_step)

        def report(values: dict[str, float], step: int, picture: Picture | None) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(values, step)
                own: Any = logger  # only some show pictures
                if picture is not None and hasattr(own, "log_image"):
                    own.log_image(picture.name, [picture.pixels], step)
                elif picture is not None and hasattr(own.experiment, "add_image"):
                    own.experiment.add_image(*picture, step, dataformats="HWC")

        with trainer.precision_plugin.forward_context():
            self.watch = self.kind(
                self._model(pl_module),
                moved(self._batch, pl_module.device),
                tracker=Reporter(report),
                start=trainer.global_step,
                **self._settings,
            ).__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Measure if a probe is due, or after the last step."""
        assert self.watch is not None  # training has begun
        with trainer.precision_plugin.forward_context():
            self.watch.step(trainer.global_step)
            if 0 <= trainer.max_steps <= trainer.global_step:
                self.watch.measure_last()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the last step at the end of the last epoch, before weights are averaged.

        Early stopping may decide after this that it was the last one, so that every epoch may be.
        """
        assert self.watch is not None
        last = trainer.max_epochs
        with trainer.precision_plugin.forward_context():
            if trainer.should_stop or (last is not None and 0 <= last <= trainer.current_epoch + 1):
                self.watch.measure_last()
            elif trainer.early_stopping_callbacks:
                self.watch.measure_ahead()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the last step if the model still has its weights, and write the table."""
        assert self.watch is not None
        with trainer.precision_plugin.forward_context():
            self.watch.__exit__(None, None, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the measurements from before the failure."""
        if self.watch is not None:
            self.watch.__exit__(type(exception), exception, exception.__traceback__)

    def _model(self, module: LightningModule) -> nn.Module:
        if self._part is None and type(module).forward is not LightningModule.forward:
            return module
        part = None if self._part is None else getattr(module, self._part, None)
        if not isinstance(part, nn.Module):
            raise InvalidArgument(
                "LightningWatch",
                "part",
                required=f"an attribute of {type(module).__name__} that holds the model"
                + (", because it has no forward" if self._part is None else ""),
                received=repr(self._part),
                remedy=f"name one of {', '.join(name for name, _ in module.named_children())}",
            )
        return part
