"""Measurements of a model during training: ``joma.watch``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import pandas
from torch import nn

from joma.errors import BadInput
from joma.measure.capture.checking import KernelChecks
from joma.measure.watch import watching
from joma.measure.watch.watching import WatchSettings
from joma.report.courses import course_pictures, head_pictures, quantities_summary, step_pictures
from joma.studies.result import Result, verdict_frame
from joma.tidy import frame_of

if TYPE_CHECKING:
    from joma.charts import Chart, Heatmap


class Watch(watching.Watch, Result):
    """The watch of a model; ``frame()`` returns all measurements so far (docs/metrics.md)."""

    def frame(self) -> pandas.DataFrame:
        """Return all measurements so far; in the first process only."""
        return frame_of(self.measurements())

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per layer and metric: the step of its minimum, and whether it recovered."""
        return verdict_frame(self.probes)

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return charts over the steps, and heatmaps of steps by layers and of layers by heads."""
        return [*course_pictures(self.probes), *step_pictures(self.probes), *head_pictures(self.probes)]

    def summary(self) -> str:
        """Return the number of probes and the verdicts, in words."""
        num = len(self.probes)
        return ", ".join(filter(None, (f"{num} probe{'' if num == 1 else 's'}", quantities_summary(self.probes))))


class WatchingCallback(Result):
    """A callback with a ``watch`` once training has begun, and the results of that."""

    watch: watching.Watch | None

    def frame(self) -> pandas.DataFrame:
        """Return all measurements so far (docs/metrics.md)."""
        return self._begun.frame()

    def verdicts(self) -> pandas.DataFrame:
        """Return one row per layer and metric: the step of its minimum, and whether it recovered."""
        return self._begun.verdicts()

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Return charts over the steps, and heatmaps of steps by layers and of layers by heads."""
        return self._begun.pictures()

    def check(self) -> KernelChecks:
        """Return whether the model's attention kernels are right on the probe batch; print it for a table."""
        return self._begun.check()

    def summary(self) -> str:
        """Return the number of probes and the verdicts, in words."""
        return "training has not begun" if self.watch is None else self._begun.summary()

    def _repr_html_(self) -> str:
        from joma.report.pages.result import result_html

        nothing = (type(self).__name__, self.summary(), pandas.DataFrame(), ())
        return result_html(*nothing) if self.watch is None else super()._repr_html_()

    @property
    def _begun(self) -> Watch:
        if not isinstance(self.watch, Watch):
            name = type(self).__name__
            raise BadInput(
                f"{name} has measured nothing", expected="a training run that has begun", remedy="call it later"
            )
        return self.watch


def watch(model: nn.Module, probe_batch: Any, **settings: Unpack[WatchSettings]) -> Watch:
    """Measure the attention of a model and the ranks of its weights during training, every few optimiser steps.

    >>> import torch, joma
    >>> model, inputs = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True), torch.randn(2, 8, 16)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    >>> with joma.watch(model, inputs, every=5) as probe:
    ...     for _ in range(20):
    ...         loss = (model(inputs) - inputs.roll(1, 1)).square().mean()
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         probe.step(loss=loss)
    >>> entropy = probe.frame().query("metric == 'attention_entropy_nats'")
    >>> sorted(entropy["step"].unique().tolist())
    [0, 5, 10, 15, 20]
    >>> axes = probe.plot("attention_entropy_nats")

    Args:
        model: a model of transformers, of torch's attention modules, or any other that uses torch's attention kernel.
            It may be compiled, or wrapped for data parallelism. With several processes the first one measures.
        probe_batch: the arguments of the model at each probe: a mapping of keyword arguments, a tuple of arguments, or
            one tensor, on the model's device. It should be small: a probe costs one forward pass on it.
        **settings: of ``WatchSettings``: every, measures, projections, share_window, out, tracker, detail,
            alarm, start.

    Returns:
        A context manager, which measures at the start of its block, at ``step()``, and at the end. ``frame()``,
        ``verdicts()`` and ``plot()`` use all measurements so far. ``check()`` compares the model's attention kernels
        with plain attention.

    Raises:
        InvalidArgument, BadInput: a model that cannot be watched, or a batch that it does not accept (found at the
            start of the block).
    """
    return Watch(model, probe_batch, **settings)
