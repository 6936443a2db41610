"""What a table of measurements says about a training run, in sentences with their numbers.

Each rule returns remarks only where its numbers are beyond its threshold, and nothing on an ordinary run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas

from joma.measure.curves.phases import COLLAPSED, FEWEST_PROBES, Stage, stages
from joma.measure.curves.quantities import ENTROPY

Kind = Literal["course", "problem", "open", "gap"]
"""``course``: what happened. ``problem``: a fault of training. ``open``: undecided. ``gap``: what cannot be seen."""

LARGE_LOGIT = 50.0
"""Largest attention logit from which softmax is close to one-hot, and float16 products lose their precision."""

SINK = 0.5
"""Mean share of attention on the first token from which it is an attention sink."""

DIVERGED = 0.1
"""Share of its fall by which a loss has to rise again to count as diverged."""

CAME_BACK = 0.1
"""Share of the fall of entropy from which a rise counts as coming back."""

FEW_PROBES = 20
_WIDE_GAP = 8.0


@dataclass(frozen=True)
class Remark:
    """A sentence about a run.

    Args:
        kind: of the remark.
        rule: the rule that made it.
        text: the sentence, with its numbers.
        remedy: what to try; empty if nothing has to be done.
        numbers: the numbers in the sentence, by name.
    """

    kind: Kind
    rule: str
    text: str
    remedy: str
    numbers: Mapping[str, float]


def remarks(frame: pandas.DataFrame) -> list[Remark]:
    """Return what the measurements of one run say, problems first.

    Args:
        frame: the table of one network (docs/metrics.md).
    """
    whole = frame
    for column in ("group", "suspect"):
        if column in whole:
            whole = whole[whole[column].isna()]
    table = _Table(whole)
    found = [remark for rule in RULES.values() for remark in rule(table)]
    order = {"problem": 0, "course": 1, "open": 2, "gap": 3}
    return sorted(found, key=lambda remark: order[remark.kind])


class _Table:
    """Curves of one run by metric and layer, and by head."""

    def __init__(self, frame: pandas.DataFrame) -> None:
        self.frame = frame[np.isfinite(frame["value"])]
        self.steps = sorted(map(int, frame["step"].unique()))

    def layers(self, metric: str) -> dict[int, pandas.Series]:
        """The mean over heads of each layer, by step."""
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["layer"].notna()]
        return {
            int(layer): part.groupby("step")["value"].mean()
            for layer, part in rows.groupby("layer")  # type: ignore
        }

    def heads(self, metric: str) -> dict[tuple[int, int], pandas.Series]:
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["head"].notna()]
        return {
            (int(layer), int(head)): part.set_index("step")["value"].sort_index()
            for (layer, head), part in rows.groupby(["layer", "head"])  # type: ignore
        }

    def network(self, metric: str) -> pandas.Series | None:
        layers = self.layers(metric)
        return pandas.DataFrame(layers).mean(axis=1).sort_index() if layers else None

    def loss(self) -> tuple[str, pandas.Series] | None:
        for name, words in (("val_loss_nats", "held-out loss"), ("train_loss_nats", "training loss")):
            rows = self.frame[(self.frame["metric"] == name) & self.frame["layer"].isna()]
            if len(rows):
                return words, rows.groupby("step")["value"].mean().sort_index()
        return None


def _stages(curve: pandas.Series) -> list[Stage]:
    return stages([int(step) for step in curve.index], curve.to_numpy(dtype=float).tolist())


def _course(table: _Table) -> Iterator[Remark]:
    curve = table.network(ENTROPY)
    found = [] if curve is None else _stages(curve)
    if curve is None or not found:
        return
    names = [stage.phase for stage in found]
    first, last, lowest = float(curve.iloc[0]), float(curve.iloc[-1]), float(curve.min())
    numbers = {"first_nats": first, "last_nats": last, "lowest_nats": lowest, "lowest_step": float(curve.idxmin())}
    span = f"over {len(table.layers(ENTROPY))} layers"
    if names == ["idle"]:
        num = table.steps[-1] - table.steps[0]
        text = f"Nothing moved in {num:,} steps: attention entropy {span} stayed at {last:.3g} nats"
        yield Remark(
            "open", "course", text, "raise the learning rate, or train longer if this was the warm-up", numbers
        )
        return
    fall = first - lowest
    turn = next((stage for stage in found if stage.phase == "densifying" and stage.until > curve.idxmin()), None)
    if turn is not None and "sparsifying" in names and last - lowest > CAME_BACK * fall:
        text = (
            f"Attention became sparser, from {first:.3g} to {lowest:.3g} nats at step {int(curve.idxmin()):,}, and dense "
            f"again from step {turn.since:,} ({turn.since_low:,} to {turn.since_high:,}) on: {last:.3g} nats at the end, "
            f"{(last - lowest) / fall:.0%} of the fall"
        )
        yield Remark("course", "course", text, "", numbers | {"came_back": (last - lowest) / fall})
    elif names[-1] == "sparsifying":
        text = (
            f"Attention is still becoming sparser at the last step: {first:.3g} nats at first, {last:.3g} at step "
            f"{table.steps[-1]:,}"
        )
        yield Remark("open", "course", text, "train longer to see whether it comes back", numbers)
    else:
        text = f"Attention entropy went from {first:.3g} to {last:.3g} nats ({', then '.join(names)})"
        yield Remark("course", "course", text, "", numbers)


def _collapse(table: _Table) -> Iterator[Remark]:
    remedy = "lower the learning rate, warm up longer, or normalise queries and keys"
    for layer, curve in table.layers(ENTROPY).items():
        found = _stages(curve)
        if found and found[-1].phase == "collapsed":
            last = found[-1]
            text = (
                f"Attention of layer {layer} collapsed: its entropy has been below {COLLAPSED:.0%} of its highest level "
                f"({curve.max():.3g} nats) since step {last.since:,} ({last.since_low:,} to {last.since_high:,}) and is "
                f"{curve.iloc[-1]:.2g} nats at the end"
            )
            numbers = {"layer": float(layer), "since": float(last.since), "last_nats": float(curve.iloc[-1])}
            yield Remark("problem", "collapse", text, remedy, numbers)


def _logits(table: _Table) -> Iterator[Remark]:
    for layer, curve in table.layers("attention_max_logit").items():
        above = _onset(curve, LARGE_LOGIT)
        if above is not None and curve.iloc[-1] > 2 * abs(curve.iloc[0]):
            low, since = above
            text = (
                f"The largest attention logits of layer {layer} grow: {curve.iloc[0]:.3g} at first, above {LARGE_LOGIT:g} "
                f"since step {since:,} ({low:,} to {since:,}), {curve.iloc[-1]:.3g} at the end"
            )
            numbers = {"layer": float(layer), "since": float(since), "last": float(curve.iloc[-1])}
            yield Remark("problem", "logits", text, "normalise queries and keys, or lower the learning rate", numbers)


def _sinks(table: _Table) -> Iterator[Remark]:
    onsets = {layer: _onset(curve, SINK) for layer, curve in table.layers("attention_first_token_share").items()}
    found = {layer: onset for layer, onset in onsets.items() if onset is not None}
    if found:
        first = min(found, key=lambda layer: found[layer][1])
        low, since = found[first]
        named = ", ".join(map(str, found))
        text = (
            f"Attention sinks: the first token gets more than {SINK:.0%} of attention in {len(found)} of {len(onsets)} "
            f"layers ({named}), first in layer {first} from step {since:,} ({low:,} to {since:,}) on"
        )
        yield Remark("course", "sinks", text, "", {"layers": float(len(found)), "since": float(since)})


def _onset(curve: pandas.Series, level: float) -> tuple[int, int] | None:
    """The last probe below a level and the first from which a curve stays above it, for two probes or more."""
    values, steps = curve.to_numpy(dtype=float), [int(step) for step in curve.index]
    below = np.flatnonzero(values <= level)
    first = int(below[-1]) + 1 if len(below) else 0
    if first > len(steps) - 2:
        return None
    return steps[max(first - 1, 0)], steps[first]


def _loss(table: _Table) -> Iterator[Remark]:
    found = table.loss()
    if found is None or len(found[1]) < 3:
        return
    words, curve = found
    first, lowest, last = float(curve.iloc[0]), float(curve.min()), float(curve.iloc[-3:].median())
    numbers = {"first": first, "lowest": lowest, "last": last, "lowest_step": float(curve.idxmin())}
    if len(curve) >= FEWEST_PROBES and last - lowest > DIVERGED * max(first - lowest, 1e-3 * abs(first)):
        text = (
            f"The {words} rose again: {first:.3g} nats at first, {lowest:.3g} at step {int(curve.idxmin()):,}, {last:.3g} "
            "at the end"
        )
        why = (
            "stop earlier, or regularise" if words.startswith("held") else "lower the learning rate, or clip gradients"
        )
        yield Remark("problem", "loss", text, why, numbers)
    else:
        yield Remark("course", "loss", f"The {words} went from {first:.3g} to {last:.3g} nats", "", numbers)


def _gaps(table: _Table) -> Iterator[Remark]:
    steps = table.steps
    if len(steps) < FEW_PROBES:
        text = f"{len(steps)} probe{'s' * (len(steps) != 1)}: phases and their steps are coarse"
        yield Remark("gap", "gaps", text, "measure more often early on (every='log')", {"probes": float(len(steps))})
    if len(steps) > 4:
        widths = np.diff(steps)
        ratio = widths[1:] / np.maximum(np.maximum(widths[:-1], np.array(steps[1:-1]) - steps[0]), 1)
        wide = int(ratio.argmax()) + 1
        if ratio.max() > _WIDE_GAP:
            text = f"No probe between steps {steps[wide]:,} and {steps[wide + 1]:,}: what happened there cannot be seen"
            yield Remark("gap", "gaps", text, "", {"from": float(steps[wide]), "to": float(steps[wide + 1])})
    if table.loss() is None:
        yield Remark("gap", "gaps", "No loss was measured, so attention cannot be compared with it", "", {})


RULES: Mapping[str, Callable[[_Table], Iterator[Remark]]] = {
    "collapse": _collapse,
    "logits": _logits,
    "course": _course,
    "loss": _loss,
    "sinks": _sinks,
    "gaps": _gaps,
}
"""The rules by name."""
