"""One attention call, and the repetition in float64 of queries for which float32 is not accurate enough.

Keys are taken relative to their centre, which shifts all scores of a query by the same amount and reduces cancellation.
The first key of a sequence, often a sink that lies far from all others, is left out of the centre and handled alone.

Axes: B sequences, H heads, G key heads (H a multiple of G), L queries, S keys, E dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from joma.measure.attention.spread import (
    Spread,
    combined,
    joined,
    largest_score,
    spread_over_keys,
    spread_over_none,
    spread_over_one,
    spread_over_one_each,
)
from joma.measure.attention.visibility import Visibility, of_queries

_MOST_ROUNDING = 2e-6
"""Largest ``Spread.rounding`` that is accepted, in nats: below it errors were at most 9e-6, for random queries and keys
and for those of pretrained models."""

_MILD = 24.0  # a typical |q| |k| of scores with a standard deviation of 1
_MOST_ROWS = 512


class Attention(NamedTuple):
    """An attention call, or some of its queries.

    Args:
        q: (B, H, L, E) in float32 or float64.
        k: (B, G, S, E) in the same dtype; zeros for keys that no query sees.
        centre: mean of the visible keys except the first, (B, G, 1, E); 0 if scores are not affine in keys.
        visibility: which keys each query sees.
        seen: keys that some query sees; (B or 1, 1, S, 1) bool.
        num_visible: number of keys each query sees; (B or 1, H or 1, L or 1).
        first_keys: index of the first key of each query's sequence, S if there is none; of the same shape.
        from_zero: whether all ``first_keys`` are 0 or S.
        scale, softcap: as in ``attention_statistics``.
        sinks: (B, H, L) logits without a key.
    """

    q: Tensor
    k: Tensor
    centre: Tensor
    visibility: Visibility
    seen: Tensor
    num_visible: Tensor
    first_keys: Tensor
    from_zero: bool
    scale: float
    softcap: float | None
    sinks: Tensor | None = None

    @property
    def num_keys(self) -> Tensor:
        """The number of keys each query sees, including a sink; broadcastable to (B, H, L)."""
        return self.num_visible + (self.sinks is not None)

    @property
    def is_repeated(self) -> bool:
        """Whether these are queries that are repeated in float64, block by block, where large scores do not cancel."""
        return self.visibility.at is not None

    @property
    def is_mild(self) -> bool:
        """Whether all scores are so small that the first key need not be handled alone."""
        q, k, centre = (torch.linalg.vector_norm(part, dim=-1).amax() for part in (self.q, self.k, self.centre))
        return bool(abs(self.scale) * q * (k + centre) <= _MILD)

    def of_key_head(self, key_head: int) -> Attention:
        """Select one key head, in float64; queries stay as they are."""
        k, centre = (part[:, key_head : key_head + 1].double() for part in (self.k, self.centre))
        if not bool(centre.isfinite().all()):  # its sum exceeded float32
            centre = _centre_of(k, self.seen, self.softcap)
        return self._replace(k=k, centre=centre)

    def of_queries(self, head: int, rows: Tensor) -> Attention:
        """Select some queries of one head, in float64, of a record that has its key head alone."""
        return self._replace(
            q=of_queries(self.q, head, rows).double(),
            visibility=self.visibility.of_queries(head, rows),
            num_visible=of_queries(self.num_visible, head, rows),
            first_keys=of_queries(self.first_keys, head, rows),
            sinks=None if self.sinks is None else of_queries(self.sinks, head, rows).double(),
        )

    def spread(self) -> Spread:
        """Return the spread over all keys except sinks."""
        k = self.k - self.centre
        return spread_over_keys(self.q, k, self.visibility, scale=self.scale, softcap=self.softcap)

    def largest_score(self) -> Tensor:
        """Return each query's largest score over all keys except sinks, (B, H, L)."""
        return largest_score(self.q, self.k, self.visibility, scale=self.scale, softcap=self.softcap)

    def first_and_others(self, *, squares: bool = False) -> tuple[Spread, Spread]:
        """Return the spreads over the first key of each query's sequence and over all other keys and sinks."""
        q, k, visibility = self.q, self.k - self.centre, self.visibility
        spread = partial(spread_over_keys, scale=self.scale, softcap=self.softcap, squares=squares)
        first = self._first(k)
        if self.from_zero:
            rest = visibility.of_other_keys()
            skipped = visibility.num_queries - rest.num_queries  # 1 if the first query sees only the first key
            parts = [spread_over_none(q[:, :, :skipped]), spread(q[:, :, skipped:], k[:, :, 1:], rest)]
            others = combined(parts, partial(torch.cat, dim=2))
        else:
            others = spread(q, k, visibility._replace(without=self.first_keys))
        if self.sinks is not None:
            offset = self.scale * (q * self.centre.repeat_interleave(q.shape[1] // k.shape[1], dim=1)).sum(-1)
            others = joined(others, spread_over_one(self.sinks - offset))
        return first, others

    def _first(self, k: Tensor) -> Spread:
        """Return the spread of each query over the first key of its sequence."""
        q, seen = self.q, self.first_keys < k.shape[-2]
        keys = self.first_keys.where(seen, 0)
        bias = self.visibility.bias_of_one(keys, q)
        group = q.shape[1] // k.shape[1]
        if self.from_zero:
            k = k[:, :, :1].repeat_interleave(group, dim=1)
        else:
            k = k.repeat_interleave(group, dim=1).gather(2, keys.expand(q.shape[:-1])[..., None].expand(q.shape))
        return spread_over_one_each(q, k, seen, bias, scale=self.scale, softcap=self.softcap)


def attention_of(
    q: Tensor, k: Tensor, visibility: Visibility, *, scale: float, softcap: float | None = None
) -> Attention:
    """Return the record of an attention call; keys that no query sees, such as padding, become 0."""
    census = visibility.census(q)
    seen = census.seen.any(1, keepdim=True)[..., None]
    if not bool(seen.all()):
        k = k.where(seen, 0)
    if visibility.mask is None:
        first_keys, from_zero = census.first.where(census.first == 0, visibility.num_keys), True
    else:
        first_keys = census.first_of_sequence
        from_zero = not bool(((first_keys > 0) & (first_keys < visibility.num_keys)).any())
    centre = _centre_of(k, seen, softcap)
    return Attention(q, k, centre, visibility, seen, census.num_visible, first_keys, from_zero, scale, softcap)


def refined(attention: Attention, measure: Callable[[Attention], tuple[list[Tensor], Tensor]]) -> list[Tensor]:
    """Measure an attention call, and repeat queries with too large rounding errors in float64.

    Args:
        attention: the call.
        measure: returns values and their rounding, all (B, H, L).

    Returns:
        The values.
    """
    values, rounding = measure(attention)
    if attention.q.dtype == torch.float64:
        return values
    uncertain = ~(rounding <= _MOST_ROUNDING)  # also where sums overflowed
    group, alone = attention.q.shape[1] // attention.k.shape[1], (-1, attention)
    for head in uncertain.any(2).any(0).nonzero().flatten().tolist():
        if alone[0] != head // group:
            alone = head // group, attention.of_key_head(head // group)
        for rows in uncertain[:, head].any(0).nonzero().flatten().split(_MOST_ROWS):
            again, _ = measure(alone[1].of_queries(head, rows))
            for value, better in zip(values, again, strict=True):
                value[:, head, rows] = better[:, 0].to(value.dtype)
    return values


def _centre_of(k: Tensor, seen: Tensor, softcap: float | None) -> Tensor:
    if softcap is not None:
        return torch.zeros_like(k[:, :, :1])
    first = seen.view(torch.uint8).argmax(-2, keepdim=True).expand(*k.shape[:2], 1, k.shape[-1])
    total = k.sum(dim=-2, keepdim=True) - k.gather(-2, first)
    return total / (seen.sum(dim=-2, keepdim=True) - 1).clamp_min(1)
