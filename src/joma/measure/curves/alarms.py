"""Alarms while a model trains: signs of a fault, looked for in the probes so far."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from joma.measure.curves.signs import SIGNS, short
from joma.records import Row


@dataclass(frozen=True)
class Alarm:
    """A sign of a fault that some layers have since recently.

    Args:
        rule: ``collapse``, ``logits`` or ``sinks``.
        step: of the probe at which it was found.
        since: the first step with the sign, the earliest of these layers.
        values: the level now by layer, the mean over heads, in the unit of the metric.
        text: a sentence with these numbers.
        remedy: what to try.
    """

    rule: str
    step: int
    since: int
    values: Mapping[int, float]
    text: str
    remedy: str


class Alarms:
    """Looks for signs of a fault after each probe, and reports each once per layer.

    Only probes so far count, so that the same probes give the same alarms at any time.

    Args:
        earlier: probes before, by step; their alarms are not reported again.
    """

    def __init__(self, earlier: Mapping[int, Sequence[Row]] | None = None) -> None:
        self._steps: dict[tuple[str, int], array[int]] = defaultdict(lambda: array("q"))
        self._values: dict[tuple[str, int], array[float]] = defaultdict(lambda: array("d"))
        self._reported: set[tuple[str, int]] = set()
        for step, rows in (earlier or {}).items():
            self.after(step, rows)

    def after(self, step: int, rows: Iterable[Row]) -> list[Alarm]:
        """Add a probe, and return the alarms that it gives, at most one per rule.

        Args:
            step: larger than before.
            rows: of the probe; rows of parts of the probe are left out.
        """
        of_layers: dict[tuple[str, int], list[float]] = defaultdict(list)
        for row in rows:
            if row.layer is not None and row.group is None and math.isfinite(row.value):
                of_layers[row.metric, row.layer].append(row.value)
        for place, values in of_layers.items():
            self._steps[place].append(step)
            self._values[place].append(math.fsum(values) / len(values))
        found = [
            self._alarm(rule, step, sorted(layer for name, layer in of_layers if name == SIGNS[rule].metric))
            for rule in SIGNS
        ]
        return [alarm for alarm in found if alarm is not None]

    def _alarm(self, rule: str, step: int, layers: Iterable[int]) -> Alarm | None:
        sign, since = SIGNS[rule], dict[int, int]()
        for layer in layers:
            if (rule, layer) not in self._reported:
                idx = sign.since(np.frombuffer(self._values[sign.metric, layer]))
                if idx is not None:
                    since[layer] = self._steps[sign.metric, layer][idx]
        if not since:
            return None
        self._reported.update((rule, layer) for layer in since)
        values = {layer: self._values[sign.metric, layer][-1] for layer in since}
        named = f"layer{'s' * (len(since) > 1)} {', '.join(map(str, since))}"
        levels = "; ".join(short(value) for value in values.values())
        text = f"step {step:,}, {named}: {sign.meaning}, since step {min(since.values()):,}; now {levels}"
        return Alarm(rule, step, min(since.values()), values, text, sign.remedy)
