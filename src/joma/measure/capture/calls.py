"""What one attention kernel got: a record, and the one place where the doors that see it meet.

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
    """Over which queries a mean of attention is taken, the same wherever joma takes one; (B or 1, H or 1, L) bool.

    A statistic is averaged over all queries for which it is defined. The first query of a causal sequence sees itself
    alone: its entropy is 0 and counts, but the logarithm that would normalise it is 0 too, and there is nothing left
    without the first key. A query that sees no key has no attention.

    Args:
        every: all that see a key and are no padding: for entropy, Σp² and shares.
        spreading: those of them that see two keys or more: for normalised entropy and for that without the first key.
    """

    every: Tensor
    spreading: Tensor

    def of(self, metric: str) -> Tensor:
        """Those that count for a metric."""
        return self.spreading if METRICS[metric].queries == "spreading" else self.every


def mean_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of each head over sequences and queries, (H,) in float64; NaN where none counts.

    Args:
        values: (B, H, L).
        counted: (B or 1, H or 1, L) bool, from ``Queries``.
    """
    counted = counted.expand(values.shape)
    total = values.double().where(counted, 0).sum(dim=(0, 2))
    return total / counted.sum(dim=(0, 2))


def largest_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Largest value of each head over sequences and queries, (H,) in float64; NaN where none counts."""
    counted = counted.expand(values.shape)
    largest = values.double().masked_fill(~counted, -math.inf).amax(dim=(0, 2))
    return largest.where(counted.any(2).any(0), math.nan)


@dataclass(frozen=True)
class AttentionCall:
    """What one attention kernel got in one forward pass.

    Its tensors are the model's own memory: clone what is to outlast the call, and change nothing in place.

    Args:
        layer: 0-based, as the model numbers its attention, otherwise in the order of calls.
        name: of the module that attends, in the model; empty where the kernel does not say.
        q: (B, H, L, E), after rotary embedding.
        k: (B, G, S, E).
        scale: factor on q·k; 1/√E where ``None``.
        is_causal: query i sees keys 0 … i.
        attn_mask: bool (True = attend) or additive, broadcastable to (B, H, L, S); sliding windows, padding and
            position biases are part of it.
        softcap: scores become c·tanh(score / c).
        sinks: (H,) logits that join the softmax without a value.
        is_cross: the keys are known to be of another sequence than the queries.
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
        """How each query spreads its attention, (B, H, L) each."""
        return attention_statistics(
            self.q,
            self.k,
            scale=self.scale,
            is_causal=self.is_causal,
            attn_mask=self.attn_mask,
            softcap=self.softcap,
            sinks=self.sinks,
            share_window=share_window,
        )

    def metrics(self, share_window: int | None = None) -> dict[str, Tensor]:
        """Each statistic over sequences and queries, (H,) in float64, by its metric; NaN where no query counts."""
        statistics, queries = self.statistics(share_window)._asdict(), self.queries()
        found = {f"attention_{name}": values for name, values in statistics.items() if values is not None}
        return {
            name: (largest_over_queries if METRICS[name].queries == "largest" else mean_over_queries)(
                values, queries.of(name)
            )
            for name, values in found.items()
        }

    def queries(self) -> Queries:
        """Over which queries means are taken.

        Padding is told by its key, which is hidden from all queries, where queries and keys are of one sequence: as
        many of each, and nobody says otherwise (``is_cross``).
        """
        census = census_of_keys(self.q, self.k, is_causal=self.is_causal, attn_mask=self.attn_mask)
        num_keys = census.num_visible + (self.sinks is not None)
        every = (num_keys > 0).expand(*num_keys.shape[:2], self.q.shape[-2])
        if self.q.shape[-2] == self.k.shape[-2] and not self.is_cross:
            every = every & census.seen.any(1, keepdim=True)
        return Queries(every, every & (num_keys > 1))


class Told:
    """Gathers the calls of one forward pass after the other and passes them on.

    Args:
        model: that is watched.
        on_call: told each call; never of what gradient checkpointing computes a second time.
    """

    def __init__(self, model: nn.Module, on_call: Callable[[AttentionCall], None]) -> None:
        self._on_call = on_call
        self._names = {id(module): name for name, module in model.named_modules()}
        self._layers: set[int] = set()
        self.num_running = 0  # passes through the model that are under way: kernels called elsewhere are not its own
        self.across: set[int] = set()  # modules, by id, that attend to another sequence
        self.is_inside = False  # another door is telling of this kernel

    def knows(self, module: nn.Module) -> bool:
        """Whether a module belongs to the model."""
        return id(module) in self._names

    def start_pass(self, *_: Any) -> None:
        """Count layers from the first again."""
        self._layers.clear()
        self.num_running += 1

    def end_pass(self, *_: Any) -> None:
        """Leave the model."""
        self.num_running -= 1

    def tell(self, module: nn.Module | None, q: Tensor, k: Tensor, **settings: Any) -> None:
        """Pass on what a kernel got."""
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
    """Relative rounding of a product as kernels may take it, which is coarser than the dtype where tf32 is allowed."""
    shortened = tensor.device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    return max(torch.finfo(tensor.dtype).eps, 2.0**-11 if shortened else 0.0)
