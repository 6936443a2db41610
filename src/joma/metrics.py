"""Every number that joma reads off a network, known here alone: name, unit, source, which queries count, meaning.

Tables, options, axes and the documentation's list come from these records. A further statistic of attention is a
kernel in ``joma.measure.attention.statistics`` and one record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from joma.errors import BadInput

Source = Literal["attention", "weights", "loss"]
"""What a number is read off: attention of a model that reads a text, weights alone, or the model's predictions."""

Queries = Literal["all", "spreading", "largest", ""]
"""Over which queries a number of attention is averaged.

``all``: all that see a key and are no padding. ``spreading``: those of them that see two keys or more. ``largest``: no
mean but the largest over all of them. Empty where no queries are involved.
"""

Instrument = Literal["watch", "scan", "training"]


@dataclass(frozen=True)
class Metric:
    """One kind of number.

    Args:
        name: with its unit where there is one, as it stands in tables.
        unit: ``nats`` or empty.
        source: what it is read off.
        queries: over which it is averaged.
        meaning: in a few words, as an axis says it.
        recovers: whether it is asked where it is lowest and whether it comes back.
        measured_by: which of ``joma.watch``, ``joma scan`` and trainings of joma's own take it.
    """

    name: str
    unit: str
    source: Source
    queries: Queries
    meaning: str
    recovers: bool
    measured_by: tuple[Instrument, ...]

    @property
    def axis(self) -> str:
        """The meaning with the unit, for an axis."""
        return f"{self.meaning} ({self.unit})" if self.unit else self.meaning


_PROBES: tuple[Instrument, ...] = ("watch", "scan")
_EVERYWHERE: tuple[Instrument, ...] = ("watch", "scan", "training")
_TRAINING: tuple[Instrument, ...] = ("training",)


def _attention(
    name: str,
    meaning: str,
    queries: Queries = "all",
    recovers: bool = False,
    measured_by: tuple[Instrument, ...] = _PROBES,
) -> Metric:
    unit = "nats" if name.endswith("_nats") else ""
    return Metric(f"attention_{name}", unit, "attention", queries, meaning, recovers, measured_by)


_ALL = (
    _attention("entropy_nats", "attention entropy", "all", True, _EVERYWHERE),
    _attention(
        "entropy_normalized", "attention entropy (1: uniform over visible keys)", "spreading", True, _EVERYWHERE
    ),
    _attention("sum_of_squares", "sum of squared attention weights (1/effective keys)"),
    _attention("first_token_share", "share of attention on the first token", measured_by=_EVERYWHERE),
    _attention("entropy_without_first_nats", "attention entropy without the first token", "spreading", True),
    _attention("max_logit", "largest attention logit", "largest"),
    _attention("window_share", "share of attention on near tokens", measured_by=("watch",)),
    _attention("commonest_token_share", "share of attention on the text's commonest token", measured_by=_TRAINING),
    _attention("padding_share", "share of attention on padding", measured_by=_TRAINING),
    Metric("stable_rank", "", "weights", "", "stable rank", True, _EVERYWHERE),
    Metric("spectral_norm", "", "weights", "", "largest singular value", False, _PROBES),
    Metric("effective_rank", "", "weights", "", "effective rank", True, _PROBES),
    Metric("val_loss_nats", "nats", "loss", "", "held-out loss", False, ("scan", "training")),
    Metric("train_loss_nats", "nats", "loss", "", "training loss", False, _TRAINING),
    Metric("val_accuracy", "", "loss", "", "accuracy on held-out samples", False, _TRAINING),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""All of them, in the order in which they are written."""

DEFAULT = ("attention", "stable_rank")
"""What is measured where nothing is asked for."""


def choose_metrics(names: str | Collection[str], instrument: Instrument) -> tuple[str, ...]:
    """Look metrics up by name or by source (``attention``, ``weights``, ``loss``, ``all``), each once, in their order.

    Args:
        names: one or several; a text may name several, with commas between.
        instrument: that takes them.

    Raises:
        BadInput: an unknown name, or one that this instrument does not take, with the nearest that it does.
    """
    asked = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    taken = {name: metric for name, metric in METRICS.items() if instrument in metric.measured_by}
    sources = dict.fromkeys(metric.source for metric in taken.values())
    known = [*taken, *sources, "all"]
    chosen: set[str] = set()
    for wanted in filter(None, asked):
        found = {name for name, metric in taken.items() if wanted in (name, metric.source, "all")}
        if not found:
            near = get_close_matches(wanted.lower(), known, n=1, cutoff=0.3)
            raise BadInput(
                f"there is no metric {wanted!r} for {instrument}",
                expected=f"some of {', '.join(known)}",
                remedy=f"did you mean {near[0]!r}?" if near else "name one of these",
            )
        chosen |= found
    if not chosen:
        raise BadInput("no metric is named", expected=f"some of {', '.join(known)}", remedy=f"name {','.join(DEFAULT)}")
    return tuple(name for name in METRICS if name in chosen)


def sources_of(names: Sequence[str]) -> set[Source]:
    """What the metrics named are read off."""
    return {METRICS[name].source for name in names}
