"""The losses of training between two probes."""

from __future__ import annotations

import math
import warnings
from numbers import Real

from torch import Tensor

from joma.errors import InvalidArgument
from joma.records import Row


class Losses:
    """The losses of the steps since the last probe; adding one does not wait for the device."""

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._num = 0

    def add(self, loss: Tensor | float | None) -> None:
        """Add the loss of a step; ``None`` is none.

        Raises:
            InvalidArgument: no number, nor a tensor with one entry.
        """
        if loss is None:
            return
        value = _value(loss)
        if value is None:
            received = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            required = "a number, or a tensor with one entry"
            raise InvalidArgument("Watch.step", "loss", required=required, received=received, remedy="pass loss.mean()")
        self._total, self._num = self._total + value, self._num + 1

    def rows(self, step: int) -> list[Row]:
        """Return the mean loss as a row; none without losses, and none but a warning if it is not finite."""
        if not self._num:
            return []
        mean = float(self._total) / self._num
        if not math.isfinite(mean):
            warnings.warn(
                f"joma: the training loss up to step {step} is {mean}; it is left out", RuntimeWarning, stacklevel=2
            )
            return []
        return [Row(None, None, None, "train_loss_nats", mean)]


def _value(loss: object) -> Tensor | float | None:
    """The number in a loss, still on its device; ``None`` if there is no real number."""
    if isinstance(loss, Tensor):
        is_one = loss.numel() == 1 and not loss.is_complex() and not loss.is_meta
        return loss.detach().reshape(()).float() if is_one else None
    try:
        return float(loss) if isinstance(loss, Real) and not isinstance(loss, bool) else None
    except OverflowError:
        return None
