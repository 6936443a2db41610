"""What the measurements of a training run say, in sentences with their numbers.

Each rule makes a remark only where its numbers are beyond its threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas
from jaxtyping import Float

from joma.measure.curves.phases import FEWEST_PROBES, LEAST, Stage, stages, without_outliers
from joma.measure.curves.quantities import ENTROPY
from joma.measure.curves.signs import COLLAPSED, LARGE_LOGIT, SIGNS, WHOLE, lasting_from, short

Kind = Literal["problem", "course", "open", "gap"]
"""``problem``: a fault of training. ``course``: what happened. ``open``: undecided. ``gap``: what cannot be seen."""

SINK = 0.5
"""Mean share of attention on the first token from which it is an attention sink."""

DIVERGED = 0.1
"""Share of its fall by which a loss has to rise again to count as diverged."""

MOVED = 0.1
"""Share of its first level by which a loss has to fall to count as learning."""

CAME_BACK = 0.1
"""Share of the fall of entropy from which a rise counts as coming back."""

MOST_LAYERS = 3
"""Layers with a sentence each on the same problem; further ones are named together."""

FEW_PROBES = 20
_WIDE_GAP = 8.0
_LOSS_REMEDY = "pass it, probe.step(loss=loss), or keep the trainer's log in the same folder"
_SURE = 5.0  # standard errors of the difference of two smoothed levels


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
    for column in ("group", "suspect"):
        if column in frame:
            frame = frame[frame[column].isna()]
    table = _Table(frame)
    found = [remark for rule in RULES.values() for remark in _few(list(rule(table)))]
    if any(remark.kind == "problem" for remark in found):  # nobody should go on with a broken run
        found = [replace(remark, remedy="") if remark.kind == "open" else remark for remark in found]
    return sorted(found, key=lambda remark: remark.kind != "problem")  # in each half in the order of rules


def _few(found: list[Remark]) -> list[Remark]:
    """Keep one rule's earliest problems of layers, and name the other layers in one more remark."""
    by_layer = [remark for remark in found if remark.kind == "problem" and "layer" in remark.numbers]
    if len(by_layer) <= MOST_LAYERS + 1:
        return found
    by_layer.sort(key=lambda remark: remark.numbers["since"])
    more = by_layer[MOST_LAYERS:]
    steps = [int(remark.numbers["since"]) for remark in (more[0], more[-1])]
    since = f"step {steps[0]:,}" if steps[0] == steps[1] else f"steps {steps[0]:,} to {steps[1]:,}"
    layers = sorted(int(remark.numbers["layer"]) for remark in more)
    text = f"The same holds for {len(more)} more layers since {since}: {', '.join(map(str, layers))}"
    numbers = {"layers": float(len(more)), "since": float(steps[0]), "since_last": float(steps[1])}
    rest = [remark for remark in found if remark not in by_layer]
    return [*by_layer[:MOST_LAYERS], Remark("problem", more[0].rule, text, "", numbers), *rest]


class _Curve(NamedTuple):
    """One number over steps."""

    steps: list[int]
    values: Float[np.ndarray, " steps"]

    @property
    def first(self) -> float:
        return float(self.values[0])

    @property
    def last(self) -> float:
        return float(self.values[-1])

    @property
    def lowest(self) -> float:
        return float(self.values.min())

    @property
    def highest(self) -> float:
        return float(self.values.max())

    @property
    def lowest_step(self) -> int:
        return self.steps[int(self.values.argmin())]

    def smoothed(self) -> _Curve:
        """The medians of neighbouring values, a tenth of all: a lowest value of noise is no lowest level."""
        half = len(self.steps) // 20
        parts = [self.values[max(0, at - half) : at + half + 1] for at in range(len(self.steps))]
        return _Curve(self.steps, np.array([np.median(part) for part in parts]))

    def uncertainty(self) -> float:
        """The standard error of the last smoothed value minus another one, from single values' noise."""
        half = len(self.steps) // 20
        noise = 1.4826 * float(np.median(np.abs(np.diff(self.values, 2)))) / np.sqrt(6)  # a slope is no noise
        return float(1.25 * noise * np.sqrt(1 / (half + 1) + 1 / (2 * half + 1)))  # 1.25: of a median, not a mean

    def stages(self) -> list[Stage]:
        return stages(self.steps, self.values.tolist())

    def onset(self, first: int | None) -> tuple[int, int] | None:
        """The probe before an index, and the probe there."""
        return None if first is None else (self.steps[max(first - 1, 0)], self.steps[first])


class _Table:
    """The curves of one run."""

    def __init__(self, frame: pandas.DataFrame) -> None:
        self.frame = frame[np.isfinite(frame["value"])]
        self.steps = sorted(int(step) for step in self.frame["step"].unique())
        self.num_lost = int((~np.isfinite(frame["value"])).sum())

    def layers(self, metric: str) -> dict[int, _Curve]:
        """The mean over heads of each layer."""
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["layer"].notna()]
        return {layer: _mean(rows[rows["layer"] == layer]) for layer in sorted(map(int, rows["layer"].unique()))}

    def network(self, metric: str) -> _Curve | None:
        """The mean over heads, then over layers."""
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["layer"].notna()]
        return _mean(rows.groupby(["step", "layer"], as_index=False)["value"].mean()) if len(rows) else None

    def loss(self) -> tuple[str, _Curve] | None:
        """The held-out loss, or else that of training, with its name."""
        for name, words in (("val_loss_nats", "held-out loss"), ("train_loss_nats", "training loss")):
            rows = self.frame[(self.frame["metric"] == name) & self.frame["layer"].isna()]
            if len(rows):
                return words, _mean(rows)
        return None


def _mean(rows: pandas.DataFrame) -> _Curve:
    means = rows.groupby("step")["value"].mean().sort_index()
    return _Curve([int(step) for step in means.index.to_numpy()], means.to_numpy(dtype=float))


def _course(table: _Table) -> Iterator[Remark]:
    curve = table.network(ENTROPY)
    found = [] if curve is None else curve.stages()
    if curve is None or not found:
        return
    names = [stage.phase for stage in found]
    curve = curve._replace(values=without_outliers(curve.values))
    first, last, lowest, at = curve.first, curve.last, curve.lowest, curve.lowest_step
    numbers = {"first_nats": first, "last_nats": last, "lowest_nats": lowest, "lowest_step": float(at)}
    if names == ["idle"]:
        yield _unmoved(table, curve, numbers)
        return
    has_fallen = first - lowest > LEAST * first
    back = (last - lowest) / (first - lowest) if has_fallen else 0.0
    turn = next((stage for stage in found if stage.phase == "densifying" and stage.until > at), None)
    if turn is not None and "sparsifying" in names and back > CAME_BACK:
        text = (
            f"Attention became sparser, from {short(first)} to {short(lowest)} nats at step {at:,}, and denser again "
            f"from step {turn.since:,} ({turn.since_low:,} to {turn.since_high:,}) on: {short(last)} nats at the end, "
            f"{back:.0%} of the fall"
        )
        yield Remark("course", "course", text, "", numbers | {"came_back": back})
    elif names[-1] == "sparsifying":
        stage = found[-1]
        now = f"{short(stage.end)} at step {stage.until:,}"
        text = f"Attention is still becoming sparser: {short(stage.start)} nats at step {stage.since:,}, {now}"
        yield Remark("open", "course", text, "train longer to see whether it becomes denser again", numbers)
    else:
        text = f"Attention entropy went from {short(first)} to {short(last)} nats ({', then '.join(names)})"
        yield Remark("course", "course", text, "", numbers)


def _unmoved(table: _Table, curve: _Curve, numbers: Mapping[str, float]) -> Remark:
    """The remark on attention without a sure movement: it stands still, or varies without a clear direction."""
    loss, span = table.loss(), f"{curve.steps[-1] - curve.steps[0]:,} steps"
    if curve.highest - curve.lowest > LEAST * curve.highest:
        text = (
            f"Attention entropy was between {short(curve.lowest)} and {short(curve.highest)} nats in {span}, "
            f"{short(curve.first)} at first and {short(curve.last)} at the end: no clear movement in "
            f"{len(curve.steps)} probes"
        )
        remedy = "train longer, or measure more often"
    elif loss is not None and loss[1].first - loss[1].smoothed().last > MOVED * abs(loss[1].first):
        text = f"Attention did not move in {span}, while the loss fell: its entropy stayed at {short(curve.last)} nats"
        remedy = "train longer: attention may move later"
    else:
        text = f"Nothing moved in {span}: attention entropy stayed at {short(curve.last)} nats"
        remedy = "raise the learning rate, or train longer if this was the warm-up"
    return Remark("open", "course", text, remedy, numbers)


def _collapse(table: _Table) -> Iterator[Remark]:
    for layer, curve in table.layers(ENTROPY).items():
        found = curve.stages()
        if found and found[-1].phase == "collapsed" and curve.values.max() > 0:
            stage = found[-1]
            text = (
                f"Attention of layer {layer} collapsed: since step {stage.since:,} ({stage.since_low:,} to "
                f"{stage.since_high:,}) its entropy is below {COLLAPSED:.0%} of its highest level, "
                f"{short(curve.values.max())} nats; at the end it is {short(curve.last)} nats"
            )
            when = {"since": float(stage.since), "since_low": float(stage.since_low)}
            levels = {"highest_nats": float(curve.values.max()), "last_nats": curve.last}
            numbers = {"layer": float(layer)} | when | levels
            yield Remark("problem", "collapse", text, SIGNS["collapse"].remedy, numbers)


def _logits(table: _Table) -> Iterator[Remark]:
    sign = SIGNS["logits"]
    for layer, curve in table.layers(sign.metric).items():
        above = curve.onset(sign.since(curve.values))
        if above is not None:
            text = (
                f"The largest attention logits of layer {layer} grow: {short(curve.first)} at first, "
                f"above {LARGE_LOGIT:g} since step {above[1]:,} ({above[0]:,} to {above[1]:,}), "
                f"{short(curve.last)} at the end"
            )
            when = {"since": float(above[1]), "since_low": float(above[0])}
            numbers = {"layer": float(layer)} | when | {"first": curve.first, "last": curve.last}
            yield Remark("problem", "logits", text, sign.remedy, numbers)


def _sinks(table: _Table) -> Iterator[Remark]:
    sign = SIGNS["sinks"]
    curves = table.layers(sign.metric)
    whole = {layer: since for layer, curve in curves.items() if (since := curve.onset(sign.since(curve.values)))}
    for layer, (low, since) in whole.items():
        text = (
            f"The first token takes everything in layer {layer}: more than {WHOLE:.0%} of attention from step "
            f"{since:,} ({low:,} to {since:,}) on, {short(curves[layer].last)} at the end"
        )
        numbers = {"layer": float(layer), "since": float(since), "since_low": float(low), "last": curves[layer].last}
        yield Remark("problem", "sinks", text, sign.remedy, numbers)
    onsets = {layer: curve.onset(lasting_from(curve.values > SINK)) for layer, curve in curves.items()}
    found = {layer: onset for layer, onset in onsets.items() if onset is not None}
    if found:
        first = min(found, key=lambda layer: found[layer][1])
        low, since = found[first]
        text = (
            f"Attention sinks: the first token gets more than {SINK:.0%} of attention in {len(found)} of {len(onsets)} "
            f"layers ({', '.join(map(str, found))}), first in layer {first}, from step {since:,} ({low:,} to {since:,})"
        )
        yield Remark("course", "sinks", text, "", {"layers": float(len(found)), "since": float(since)})


def _loss(table: _Table) -> Iterator[Remark]:
    found = table.loss()
    if found is None or len(found[1].steps) < 3:
        return
    words, curve = found
    level, first = curve.smoothed(), curve.first
    lowest, last = level.lowest, level.last
    numbers = {"first": first, "lowest": lowest, "last": last, "lowest_step": float(level.lowest_step)}
    least = max(DIVERGED * max(first - lowest, 1e-3 * abs(first)), _SURE * curve.uncertainty())
    if len(curve.steps) >= FEWEST_PROBES and last - lowest > least:
        turn = f"{short(lowest)} at step {level.lowest_step:,}"
        rose = "rose again" if first > lowest else "rose"
        text = f"The {words} {rose}: {short(first)} nats at first, {turn}, {short(last)} at the end"
        held_out, trained = "stop earlier, or regularise", "lower the learning rate, or clip gradients"
        yield Remark("problem", "loss", text, held_out if words.startswith("held") else trained, numbers)
    else:
        yield Remark("course", "loss", f"The {words} went from {short(first)} to {short(last)} nats", "", numbers)


def _gaps(table: _Table) -> Iterator[Remark]:
    steps = table.steps
    if table.num_lost:
        text = f"NaN or infinite measurements are left out ({table.num_lost:,}): training diverged, or a probe failed"
        yield Remark("problem", "gaps", text, "lower the learning rate, or check the probe batch", {})
    yield from _ends(table)
    if len(steps) < FEW_PROBES:
        few = "phases and their steps are coarse" if len(steps) >= FEWEST_PROBES else "too few for phases"
        text = f"{len(steps)} probe{'s' * (len(steps) != 1)} only: {few}"
        yield Remark("gap", "gaps", text, "measure more often", {"probes": float(len(steps))})
    if len(steps) > 4:
        widths = np.diff(steps)
        ratio = widths[1:] / np.maximum(np.maximum(widths[:-1], np.array(steps[1:-1]) - steps[0]), 1)
        wide = int(ratio.argmax()) + 1
        if ratio.max() > _WIDE_GAP:
            text = f"No probe between steps {steps[wide]:,} and {steps[wide + 1]:,}: what happened there cannot be seen"
            yield Remark("gap", "gaps", text, "", {"from": float(steps[wide]), "to": float(steps[wide + 1])})
    if table.loss() is None:
        text, remedy = "No loss was measured, so attention cannot be compared with it", _LOSS_REMEDY
        yield Remark("gap", "gaps", text, remedy, {})


def _ends(table: _Table) -> Iterator[Remark]:
    """Probes leave out what is not finite: a curve that ends long before the probes do, ends there for a reason."""
    probes = table.frame.loc[table.frame["layer"].notna(), "step"]
    curves = {f"layer {layer}": curve for layer, curve in table.layers(ENTROPY).items()}
    ends = {name: curve.steps[-1] for name, curve in curves.items() if _is_cut(curve.steps, probes.max())}
    if ends:
        last = min(ends.values())
        text = (
            f"Attention of {', '.join(ends)} was last measured at step {last:,}, though probes go on to step "
            f"{int(probes.max()):,}: queries or keys are no longer finite, or the measurement failed"
        )
        yield Remark(
            "problem", "gaps", text, "lower the learning rate, or check the probe batch", {"last": float(last)}
        )
    found = table.loss()
    if found is not None and len(probes) and _is_cut(found[1].steps, probes.max()):
        last = found[1].steps[-1]
        text = f"The {found[0]} was last measured at step {last:,}: it is no longer finite, or was not logged"
        yield Remark("gap", "gaps", text, "", {"last": float(last)})


def _is_cut(steps: Sequence[int], end: int) -> bool:
    """Return whether two or more steps are missing at the end of evenly or log-spaced ones."""
    return len(steps) > 1 and end - steps[-1] > 1.5 * float(np.diff(steps).max())


RULES: Mapping[str, Callable[[_Table], Iterator[Remark]]] = {
    "collapse": _collapse,
    "logits": _logits,
    "course": _course,
    "loss": _loss,
    "sinks": _sinks,
    "gaps": _gaps,
}
"""The rules by name."""
