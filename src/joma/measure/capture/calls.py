"""Records of attention kernel calls, and the class that collects them from all hooks.

Axes: B sequences, H heads, G key heads, L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.attention.arguments import checked
from joma.measure.attention.statistics import AttentionStatistics, attention_statistics
from joma.measure.capture.layers import Layers
from joma.measure.capture.padding import Marks, padding_of
from joma.measure.capture.sharded import is_sharded, joined_heads, split_heads
from joma.metrics import METRICS

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Queries(NamedTuple):
    """The queries over which attention statistics are averaged, everywhere in joma; (B or 1, H or 1, L) bool.

    A statistic is averaged over all queries for which it is defined. The first query of a causal sequence sees only its
    own key: its entropy is 0 and counts, but normalised entropy and entropy without the first key are undefined. A
    query that sees no key has no statistics.

    Args:
        every: all that see a key and are not padding: for entropy, Σp² and shares.
        spreading: those that also see two keys or more: for normalised entropy and entropy without the first key.
    """

    every: Tensor
    spreading: Tensor

    def of(self, metric: str) -> Tensor:
        """The queries over which a metric is averaged."""
        return self.spreading if METRICS[metric].queries == "spreading" else self.every


class OverQueries(NamedTuple):
    """One metric of each head over sequences and queries.

    Args:
        total: the sum over queries, or the largest value; (H,) in float64.
        num_queries: number of counted queries; (H,).
        is_largest: whether the metric is a largest value.
    """

    total: Tensor
    num_queries: Tensor
    is_largest: bool = False

    @property
    def value(self) -> Tensor:
        """The mean over queries, or the largest value; (H,) in float64, NaN if no query counts."""
        return self.total.where(self.num_queries > 0, math.nan) if self.is_largest else self.total / self.num_queries

    def joined(self, other: OverQueries) -> OverQueries:
        """Return the metric over the queries of both."""
        join = torch.maximum if self.is_largest else torch.add
        return OverQueries(join(self.total, other.total), self.num_queries + other.num_queries, self.is_largest)


def over_queries(values: Tensor, counted: Tensor, *, largest: bool = False) -> OverQueries:
    """Return the sum, or the largest, of each head's values over sequences and queries.

    Args:
        values: (B, H, L).
        counted: (B or 1, H or 1, L) bool, from ``Queries``.
        largest: take the largest value.
    """
    counted = counted.expand(values.shape)
    kept = values.double().masked_fill(~counted, -math.inf if largest else 0)
    return OverQueries(kept.amax((0, 2)) if largest else kept.sum((0, 2)), counted.sum((0, 2)), largest)


def mean_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of each head over sequences and queries, (H,) in float64; NaN if no query counts."""
    return over_queries(values, counted).value


class Output(NamedTuple):
    """What an attention kernel made of its values.

    Args:
        v: (B, G, S, V) values.
        out: (B, H, L, V); with a projection (B, L, D), of all heads together.
        weight, bias: (D, H·V) and (D,), of the projection that the kernel applies to its output.
    """

    v: Tensor
    out: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one attention kernel call.

    Its tensors share memory with the model: clone what you keep, and change nothing in place.

    Args:
        layer: number of the attention module, 0 or larger, as in ``Layers``.
        name: of the attention module in the model; empty for the model itself.
        q: (B, H, L, E), after rotary embedding.
        k: (B, G, S, E).
        scale: factor on q·k; 1/√E if ``None``.
        is_causal: query i sees keys 0 … i.
        attn_mask: bool (True = attend) or additive, broadcastable to (B, H, L, S); it includes sliding windows, padding
            and position biases.
        softcap: scores become c·tanh(score / c).
        sinks: (H,) logits that join the softmax without a value.
        is_cross: whether the keys belong to another sequence than the queries.
        is_guess: whether that is not known.
        marks: what the batch marks as padding.
        output: of the kernel, if the collector keeps outputs.
        heads_over: the processes of which each has some of the heads; ``None`` if this one has all.
    """

    layer: int
    name: str
    q: Tensor
    k: Tensor
    scale: float | None = None
    is_causal: bool = False
    attn_mask: Tensor | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    is_cross: bool = False
    is_guess: bool = False
    marks: Marks = field(default_factory=Marks)
    output: Output | None = None
    heads_over: DeviceMesh | None = None

    def statistics(self, share_window: int | None = None) -> AttentionStatistics:
        """Return the statistics of each query's attention, (B, H, L) each."""
        names = ("scale", "is_causal", "attn_mask", "softcap", "sinks")
        settings = {name: getattr(self, name) for name in names}
        return attention_statistics(self.q, self.k, **settings, share_window=share_window)

    def metrics(self, share_window: int | None = None) -> dict[str, OverQueries]:
        """Return each metric over sequences and queries, by name, for the heads of all processes."""
        queries, found = self.queries(), {}
        for statistic, values in self.statistics(share_window)._asdict().items():
            if values is not None:
                name = f"attention_{statistic}"
                largest = METRICS[name].queries == "largest"
                found[name] = over_queries(values, queries.of(name), largest=largest)
        if self.heads_over is None:
            return found
        parts = torch.stack([torch.stack((part.total, part.num_queries.double())) for part in found.values()])
        joined = zip(found.items(), joined_heads(parts, self.heads_over).unbind(), strict=True)
        return {name: OverQueries(total, num.long(), part.is_largest) for (name, part), (total, num) in joined}

    def queries(self) -> Queries:
        """Return the queries over which metrics are averaged, without padding (``padding_of``), with a warning if that
        is a guess.
        """
        visibility = checked("queries", self.q, self.k, self.scale, self.is_causal, self.attn_mask)[2]
        padding = padding_of(visibility, self.q, self.marks, is_cross=self.is_cross, is_guess=self.is_guess)
        if padding.doubt:
            warnings.warn(
                f"joma: which queries of layer {self.layer} ({self.name or 'the model'}) are padding is a guess: "
                f"{padding.doubt}; pass the batch's attention_mask, with a row of zeros and ones for each text",
                RuntimeWarning,
                stacklevel=2,
            )
        num_keys = visibility.census(self.q).num_visible + (self.sinks is not None)
        every = (num_keys > 0) & ~padding.is_padding
        return Queries(every, every & (num_keys > 1))


class LayerMetrics:
    """The metrics of each layer over the queries of all its calls.

    A module attends several times in a forward pass if it does so for each image, or if layers share it.

    Args:
        share_window: keys nearer than this count in ``attention_window_share``.
    """

    def __init__(self, share_window: int | None = None) -> None:
        self._share_window = share_window
        self.of_layers: dict[int, dict[str, OverQueries]] = {}
        self.names: dict[int, str] = {}

    def add(self, call: AttentionCall) -> None:
        """Add a call.

        Raises:
            BadInput: a module that attends with different numbers of heads.
        """
        found, earlier = call.metrics(self._share_window), self.of_layers.get(call.layer)
        if earlier is not None:
            heads = {len(part.total) for metrics in (earlier, found) for part in metrics.values()}
            if len(heads) > 1:
                raise BadInput(
                    f"{call.name or 'the model'} attends with {' and with '.join(map(str, sorted(heads)))} heads in "
                    "one forward pass, so that its calls are not those of one layer",
                    expected="a module per layer",
                    remedy="give each layer a module of its own, or use joma.attention_statistics yourself",
                )
            found = {name: part.joined(earlier[name]) for name, part in found.items()}
        self.of_layers[call.layer], self.names[call.layer] = found, call.name


class CallCollector:
    """Passes the attention calls of a model to a callback.

    Args:
        model: the observed model.
        on_call: called with each call, except those that gradient checkpointing repeats.
        with_outputs: whether calls have outputs.
        takes_any: whether calls of kernels count whose masks cannot be observed; they have no masks.
    """

    def __init__(
        self,
        model: nn.Module,
        on_call: Callable[[AttentionCall], None],
        *,
        with_outputs: bool = False,
        takes_any: bool = False,
    ) -> None:
        self.with_outputs, self.takes_any = with_outputs, takes_any
        self._model, self._on_call = model, on_call
        self._layers, self._marks, self._is_sharded = Layers(model), Marks(), is_sharded(model)
        self.num_running = 0  # forward passes of the model in progress; kernels called outside of them are ignored
        self.across: set[int] = set()  # ids of the modules that attend to another sequence
        self.is_inside = False  # whether the hook of transformers already collects this kernel call

    def knows(self, module: nn.Module) -> bool:
        """Whether a module belongs to the model."""
        return id(module) in self._layers.names

    def start_pass(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Enter a forward pass."""
        self.num_running += 1
        self._marks = Marks.by(model, args, kwargs)

    def start_inner_pass(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Enter the forward pass of a transformers model within the model, which may have marks if that has none."""
        if not self._marks.by_argument:
            self._marks = Marks.by(model, args, kwargs)

    def end_pass(self, *_: Any) -> None:
        """Leave a forward pass."""
        self.num_running -= 1

    def collect(self, module: nn.Module | None, q: Tensor, k: Tensor, **settings: Any) -> None:
        """Pass a kernel call to the callback; without a module, as one of the innermost module that runs."""
        if torch._C._current_graph_task_id() != -1:
            return  # the backward pass: checkpointing runs a layer again
        if module is None or not _has_parameters(module):
            module = self._running()
        name = self._layers.names[id(module)]
        settings = {"marks": self._marks, **settings, "layer": self._layers.number(name), "name": name}
        if self._is_sharded:
            settings["heads_over"] = split_heads(module, q)
        with torch.no_grad():
            self._on_call(AttentionCall(q=q.detach(), k=k.detach(), **settings))

    def _running(self) -> nn.Module:
        """Return the innermost module that runs and has parameters: the first argument of a function in progress."""
        frame = sys._getframe(1)
        while frame is not None:
            first = frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount else None
            if isinstance(first, nn.Module) and self.knows(first) and _has_parameters(first):
                return first
            frame = frame.f_back
        return self._model


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def rounding_of_kernels(tensor: Tensor) -> float:
    """Return the relative rounding error of products in kernels, larger than the dtype's if tf32 is allowed."""
    shortened = tensor.device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    return max(torch.finfo(tensor.dtype).eps, 2.0**-11 if shortened else 0.0)
