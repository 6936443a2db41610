"""All metrics of networks: name, unit, source, queries averaged over, and meaning.

Tables, options, axes and the list in the documentation use these records. A new statistic of attention needs a kernel
in ``joma.measure.attention.statistics`` and a record here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from joma.errors import BadInput

Source = Literal["attention", "weights", "loss", "activations", "gradients"]
"""The source of a metric: attention on a text, the weights alone, predictions on a text, or the states between layers
or the gradient of the loss on it, which are measured only if they are named.
"""

ON_REQUEST: tuple[Source, ...] = ("activations", "gradients")
"""The sources that ``all`` leaves out."""

Queries = Literal["all", "spreading", "largest", ""]
"""The queries over which a metric of attention is averaged.

``all``: all queries that see a key and are not padding. ``spreading``: those of them that see two keys or more.
``largest``: the maximum over all of them instead of the mean. Empty for metrics without queries.
"""

Instrument = Literal["watch", "scan", "training"]


@dataclass(frozen=True)
class Metric:
    """A metric of networks.

    Args:
        name: in tables, with the unit if there is one.
        unit: ``nats`` or empty.
        source: of the metric.
        queries: over which it is averaged.
        meaning: in a few words, for axes.
        recovers: whether verdicts report its minimum and recovery.
        measured_by: those of ``joma.watch``, ``joma scan`` and joma's own training runs that measure it.
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
        """The meaning with the unit, for axes."""
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
    _attention("max_logit", "largest attention logit", "largest", measured_by=_EVERYWHERE),
    _attention("window_share", "share of attention on near tokens", measured_by=("watch",)),
    _attention("commonest_token_share", "share of attention on the text's commonest token", measured_by=_TRAINING),
    _attention("padding_share", "share of attention on padding", measured_by=_TRAINING),
    Metric("stable_rank", "", "weights", "", "stable rank", True, _EVERYWHERE),
    Metric("spectral_norm", "", "weights", "", "largest singular value", False, _PROBES),
    Metric("effective_rank", "", "weights", "", "effective rank", True, _PROBES),
    Metric("largest_activation", "", "activations", "largest", "largest activation after the layer", False, ("watch",)),
    Metric("gradient_stable_rank", "", "gradients", "", "stable rank of the gradient", False, ("watch",)),
    Metric("val_loss_nats", "nats", "loss", "", "held-out loss", False, ("scan", "training")),
    Metric("train_loss_nats", "nats", "loss", "", "training loss", False, _TRAINING),
    Metric("val_accuracy", "", "loss", "", "accuracy on held-out samples", False, _TRAINING),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""All metrics by name, in the order of tables."""

DEFAULT = ("attention", "stable_rank")
"""The metrics measured by default."""


def choose_metrics(names: str | Collection[str], instrument: Instrument) -> tuple[str, ...]:
    """Return metrics by name or by source (``attention``, ``weights``, …, ``all``), in the order of ``METRICS``.

    Args:
        names: one or several; a string may contain several, separated by commas.
        instrument: that measures them.

    Raises:
        BadInput: an unknown name, or one that this instrument does not measure, with the nearest one that it does.
    """
    requested = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    taken = {name: metric for name, metric in METRICS.items() if instrument in metric.measured_by}
    sources = dict.fromkeys(metric.source for metric in taken.values())
    known = [*taken, *sources, "all"]
    chosen: set[str] = set()
    for wanted in filter(None, requested):
        usual = {name for name, metric in taken.items() if metric.source not in ON_REQUEST}
        found = usual if wanted == "all" else {name for name in taken if wanted in (name, taken[name].source)}
        if not found:
            near = get_close_matches(wanted.lower(), known, n=1, cutoff=0.3)
            raise BadInput(
                f"there is no metric {wanted!r} for {instrument}",
                expected=f"some of {', '.join(known)}",
                remedy=f"did you mean {near[0]!r}?" if near else "pass one of these",
            )
        chosen |= found
    if not chosen:
        raise BadInput("no metric is named", expected=f"some of {', '.join(known)}", remedy=f"pass {','.join(DEFAULT)}")
    return tuple(name for name in METRICS if name in chosen)


def sources_of(names: Sequence[str]) -> set[Source]:
    """Return the sources of the named metrics."""
    return {METRICS[name].source for name in names}
