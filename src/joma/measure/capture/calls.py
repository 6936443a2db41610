"""Records of attention kernel calls, and the class that collects them from all hooks.

Axes: B sequences, H heads, G key heads, L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from joma.measure.attention.statistics import AttentionStatistics, attention_statistics, census_of_keys
from joma.metrics import METRICS


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


def mean_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of each head over sequences and queries, (H,) in float64; NaN if no query counts.

    Args:
        values: (B, H, L).
        counted: (B or 1, H or 1, L) bool, from ``Queries``.
    """
    counted = counted.expand(values.shape)
    total = values.double().where(counted, 0).sum(dim=(0, 2))
    return total / counted.sum(dim=(0, 2))


def largest_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Return the largest value of each head over sequences and queries, (H,) in float64; NaN if no query counts."""
    counted = counted.expand(values.shape)
    largest = values.double().masked_fill(~counted, -math.inf).amax(dim=(0, 2))
    return largest.where(counted.any(2).any(0), math.nan)


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one attention kernel call.

    Its tensors share memory with the model: clone what you keep, and change nothing in place.

    Args:
        layer: 0-based, by the model's own numbering if there is one, otherwise in the order of calls.
        name: of the attention module in the model; empty if it is not known.
        q: (B, H, L, E), after rotary embedding.
        k: (B, G, S, E).
        scale: factor on q·k; 1/√E if ``None``.
        is_causal: query i sees keys 0 … i.
        attn_mask: bool (True = attend) or additive, broadcastable to (B, H, L, S); it includes sliding windows, padding
            and position biases.
        softcap: scores become c·tanh(score / c).
        sinks: (H,) logits that join the softmax without a value.
        is_cross: whether the keys are known to belong to another sequence than the queries.
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

    def statistics(self, share_window: int | None = None) -> AttentionStatistics:
        """Return the statistics of each query's attention, (B, H, L) each."""
        names = ("scale", "is_causal", "attn_mask", "softcap", "sinks")
        settings = {name: getattr(self, name) for name in names}
        return attention_statistics(self.q, self.k, **settings, share_window=share_window)

    def metrics(self, share_window: int | None = None) -> dict[str, Tensor]:
        """Return each metric over sequences and queries, (H,) in float64, by name; NaN if no query counts."""
        queries, found = self.queries(), {}
        for field, values in self.statistics(share_window)._asdict().items():
            if values is not None:
                name = f"attention_{field}"
                over = largest_over_queries if METRICS[name].queries == "largest" else mean_over_queries
                found[name] = over(values, queries.of(name))
        return found

    def queries(self) -> Queries:
        """Return the queries over which metrics are averaged.

        In self-attention, a query whose key is hidden from all queries is padding and is left out. Attention counts as
        self-attention if there are as many queries as keys and ``is_cross`` is not set.
        """
        census = census_of_keys(self.q, self.k, is_causal=self.is_causal, attn_mask=self.attn_mask)
        num_keys = census.num_visible + (self.sinks is not None)
        every = (num_keys > 0).expand(*num_keys.shape[:2], self.q.shape[-2])
        if self.q.shape[-2] == self.k.shape[-2] and not self.is_cross:
            every = every & census.seen.any(1, keepdim=True)
        return Queries(every, every & (num_keys > 1))


class CallCollector:
    """Numbers the attention calls of each forward pass and passes them to a callback.

    Args:
        model: the observed model.
        on_call: called with each call, except those that gradient checkpointing repeats.
    """

    def __init__(self, model: nn.Module, on_call: Callable[[AttentionCall], None]) -> None:
        self._on_call = on_call
        self._names = {id(module): name for name, module in model.named_modules()}
        self._layers: set[int] = set()
        self.num_running = 0  # forward passes of the model in progress; kernels called outside of them are ignored
        self.across: set[int] = set()  # ids of the modules that attend to another sequence
        self.is_inside = False  # whether the hook of transformers already collects this kernel call

    def knows(self, module: nn.Module) -> bool:
        """Whether a module belongs to the model."""
        return id(module) in self._names

    def start_pass(self, *_: Any) -> None:
        """Enter a forward pass, whose layers count from 0."""
        self._layers.clear()
        self.num_running += 1

    def end_pass(self, *_: Any) -> None:
        """Leave a forward pass."""
        self.num_running -= 1

    def collect(self, module: nn.Module | None, q: Tensor, k: Tensor, **settings: Any) -> None:
        """Pass a kernel call to the callback."""
        if torch._C._current_graph_task_id() != -1:
            return  # the backward pass: checkpointing runs a layer again
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or layer in self._layers:
            layer = max(self._layers, default=-1) + 1
        self._layers.add(layer)
        name = "" if module is None else self._names[id(module)]
        with torch.no_grad():
            self._on_call(AttentionCall(layer, name, q.detach(), k.detach(), **settings))


def rounding_of_kernels(tensor: Tensor) -> float:
    """Return the relative rounding error of products in kernels, larger than the dtype's if tf32 is allowed."""
    shortened = tensor.device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    return max(torch.finfo(tensor.dtype).eps, 2.0**-11 if shortened else 0.0)
