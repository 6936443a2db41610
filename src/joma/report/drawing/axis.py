"""The axis on which the page shows a claim's measured value, its controls and its threshold."""

from __future__ import annotations

import math

from joma.records import Agreement


class Axis:
    """An axis from 0 to 100 % for all values of an agreement; logarithmic if they differ by large factors."""

    def __init__(self, agreement: Agreement) -> None:
        estimates = [agreement.measured, *(control.estimate for control in agreement.controls)]
        criterion = agreement.criterion
        values = [value for estimate in estimates for value in estimate.values] + [criterion.threshold]
        self._logarithmic = min(values) > 0 and max(values) > 50 * min(values)
        ends = [end for estimate in estimates for end in estimate.interval if math.isfinite(end)]
        ends = [end for end in ends if end > 0 or not self._logarithmic]
        low, high = self._warped(min(values + ends)), self._warped(max(values + ends))
        margin = 0.08 * (high - low) or 1.0
        self._low, self._high = low - margin, high + margin
        self.threshold = self.at(criterion.threshold)
        self.counting = (0.0, self.threshold) if criterion.relation == "<=" else (self.threshold, 100.0)

    def at(self, value: float) -> float:
        """Return the position of a value or of an end of an interval, which may be infinite, in percent."""
        if self._logarithmic and value <= 0:  # an interval may extend below zero although no value does
            return 0.0
        if math.isinf(value):
            return 100.0 if value > 0 else 0.0
        return min(100.0, max(0.0, 100 * (self._warped(value) - self._low) / (self._high - self._low)))

    def _warped(self, value: float) -> float:
        return math.log10(value) if self._logarithmic else value
