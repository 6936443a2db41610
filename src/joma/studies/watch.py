"""A model that is watched while it trains: what ``joma.watch`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import pandas
from torch import nn

from joma.errors import BadInput
from joma.measure.watch import watching
from joma.measure.watch.watching import WatchSettings
from joma.report.courses import course_pictures, head_pictures, quantities_summary, step_pictures
from joma.studies.result import Result, verdict_frame
from joma.tidy import frame_of

if TYPE_CHECKING:
    from joma.charts import Chart, Heatmap


class Watch(watching.Watch, Result):
    """A model under observation: ``frame()`` has all that was measured so far (docs/metrics.md)."""

    def frame(self) -> pandas.DataFrame:
        """Everything measured so far; in the first process only."""
        return frame_of(self.measurements())

    def verdicts(self) -> pandas.DataFrame:
        """One row for each layer and metric: where it was lowest, and whether it came back."""
        return verdict_frame(self.probes)

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Courses over the steps, heatmaps of steps by layers and of layers by heads."""
        return [*course_pictures(self.probes), *step_pictures(self.probes), *head_pictures(self.probes)]

    def summary(self) -> str:
        """How many probes there are, and what the curves do."""
        num = len(self.probes)
        return f"{num} probe{'' if num == 1 else 's'}, {quantities_summary(self.probes)}"


class WatchingCallback(Result):
    """A callback that has a ``watch`` once training has begun, and shows what it measured."""

    watch: watching.Watch | None

    def frame(self) -> pandas.DataFrame:
        """Everything measured so far (docs/metrics.md)."""
        return self._begun.frame()

    def verdicts(self) -> pandas.DataFrame:
        """One row for each layer and metric: where it was lowest, and whether it came back."""
        return self._begun.verdicts()

    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Courses over the steps, heatmaps of steps by layers and of layers by heads."""
        return self._begun.pictures()

    def summary(self) -> str:
        """How many probes there are, and what the curves do."""
        return "training has not begun" if self.watch is None else self._begun.summary()

    @property
    def _begun(self) -> Watch:
        if not isinstance(self.watch, Watch):
            name = type(self).__name__
            raise BadInput(f"{name} has measured nothing", expected="training that has begun", remedy="call it later")
        return self.watch


def watch(model: nn.Module, probe_batch: Any, **settings: Unpack[WatchSettings]) -> Watch:
    """Watch a model while it trains: its attention and the ranks of its weights, every so many optimiser steps.

    >>> import torch, joma
    >>> model = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    >>> with joma.watch(model, torch.randn(2, 8, 16), every=10) as probe:
    ...     for _ in range(20):  # a training loop
    ...         probe.step()     # after optimizer.step()
    >>> entropy = probe.frame().query("metric == 'attention_entropy_nats'")
    >>> sorted(entropy["step"].unique().tolist())
    [0, 10, 20]

    Args:
        model: of transformers, of torch's attention modules, or anything that attends by torch's kernel; compiled,
            or wrapped for data parallelism. With several processes the first one measures.
        probe_batch: what the model is called with at each probe: a mapping of keyword arguments, a tuple of
            arguments, or one tensor, on the model's device. Keep it small: a probe costs one forward pass on it.
        **settings: of ``WatchSettings``: every, measures, projections, share_window, out, tracker, start.

    Returns:
        A context manager: probes are taken when it is entered, at ``step()``, and when it is left. ``frame()``,
        ``verdicts()`` and ``plot()`` show what was measured so far.

    Raises:
        InvalidArgument, BadInput: a model that cannot be watched, or a batch that it cannot read. What a model makes
            of the batch is known at the first probe, when the block is entered.
    """
    return Watch(model, probe_batch, **settings)
