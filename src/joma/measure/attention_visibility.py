"""Which keys each query sees: causality, windows, masks and biases, handed out block by block.

Query i stands at position i + lead and key j at position j; every rule but the masks goes by positions.
Axes: B sequences, H heads, L queries, S keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_MOST_ROWS = 512
_ENTRIES = 2**22  # of a block's bias: 16 MB in float32


class Visibility(NamedTuple):
    """What hides keys from queries, and what is added to their scores.

    Args:
        num_queries, num_keys: L and S.
        is_causal: keys after the query are hidden.
        window: keys that many positions away or more are hidden.
        mask: four axes, broadcastable to (B, H, L, S); bool (True = attend) or an additive bias. A bias of −inf
            hides its key, and so does one below half the lowest number of its dtype, as model libraries write it.
        keys: (B or 1, 1, 1, S) bool; other keys are hidden.
        lead: position of the first query.
    """

    num_queries: int
    num_keys: int
    is_causal: bool = False
    window: int | None = None
    mask: Tensor | None = None
    keys: Tensor | None = None
    lead: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether one rule serves all queries, or causality alone tells them apart, as fused kernels have it."""
        one_row = self.mask is None or self.mask.shape[-2] == 1
        return one_row and self.window is None and not (self.is_causal and self.lead)

    @property
    def _reach(self) -> int:
        """How many positions away a query sees keys; without a window farther than any are."""
        return self.num_queries + self.num_keys + abs(self.lead) if self.window is None else self.window - 1

    def of_group_member(self, member: int, group: int) -> Visibility:
        """Keep the heads member, member + group, …: one query head of each key head."""
        if self.mask is None or self.mask.shape[1] == 1:
            return self
        return self._replace(mask=self.mask[:, member::group])

    def of_first_key(self) -> Visibility:
        """Keep the first key."""
        return self._of_keys(slice(0, 1))._replace(num_keys=1)

    def of_other_keys(self) -> Visibility:
        """Leave out the first key and, under causality, the first query, so that the rest is causal again."""
        others = self._of_keys(slice(1, None))._replace(num_keys=self.num_keys - 1)
        if not self.is_causal:
            return others._replace(lead=self.lead - 1)
        mask = others.mask if others.mask is None or others.mask.shape[-2] == 1 else others.mask[:, :, 1:]
        return others._replace(num_queries=self.num_queries - 1, mask=mask)

    def within(self, distance: int) -> Visibility:
        """Hide, as well, all keys that many positions away or more."""
        return self._replace(window=distance if self.window is None else min(distance, self.window))

    def row_blocks(self) -> Iterator[slice]:
        """Cut the queries so that a block's bias stays small, and no wider than its window."""
        batch = 1 if self.mask is None else self.mask.shape[0] * self.mask.shape[1]
        size = min(_MOST_ROWS, max(32, _ENTRIES // (batch * self.num_keys)), max(64, self.window or _MOST_ROWS))
        return (slice(start, min(start + size, self.num_queries)) for start in range(0, self.num_queries, size))

    def columns(self, rows: slice) -> slice:
        """Give the keys that some of these queries may see, going by position."""
        first, last = rows.start + self.lead, rows.stop - 1 + self.lead
        stop = (last if self.is_causal else last + self._reach) + 1
        stop = max(0, min(self.num_keys, stop))
        return slice(min(max(0, first - self._reach), stop), stop)

    def bias(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """Give what is added to the scores of a block, −inf where a key is hidden.

        Args:
            rows, columns: queries and keys.
            like: a tensor of the dtype and on the device wanted.

        Returns:
            Broadcastable to (B, H, rows, columns); ``None`` where nothing is added or hidden.
        """
        bias = _bias_of_mask(_part(_part(self.mask, 2, rows), 3, columns), like)
        for seen in (_part(self.keys, 3, columns), self._in_reach(rows, columns, like.device)):
            if seen is not None:
                bias = like.new_zeros(1, 1, 1, 1) if bias is None else bias
                bias = bias.where(seen, -math.inf)
        return bias

    def num_visible(self, like: Tensor) -> Tensor:
        """Count the keys each query sees: integers, broadcastable to (B, H, L)."""
        if self.mask is None and self.keys is None:
            positions = torch.arange(self.num_queries, device=like.device) + self.lead
            last = positions if self.is_causal else positions + self._reach
            return (last.clamp_max(self.num_keys - 1) - (positions - self._reach).clamp_min(0) + 1).clamp_min(0)
        if not self.is_causal and self.is_whole:
            return self._counted(slice(0, 1), like)
        return torch.cat([self._counted(rows, like) for rows in self.row_blocks()], dim=-1)

    def _counted(self, rows: slice, like: Tensor) -> Tensor:
        bias = self.bias(rows, slice(0, self.num_keys), like)
        assert bias is not None  # only asked for where something hides keys
        seen = (bias > -math.inf).sum(-1) * (self.num_keys if bias.shape[-1] == 1 else 1)
        return seen.expand(*seen.shape[:-1], rows.stop - rows.start)

    def _in_reach(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        if not self.is_causal and self.window is None:
            return None
        queries = torch.arange(rows.start, rows.stop, device=device, dtype=torch.int32) + self.lead
        back = queries[:, None] - torch.arange(columns.start, columns.stop, device=device, dtype=torch.int32)
        seen = back <= self._reach
        seen &= back >= (0 if self.is_causal else -self._reach)
        return seen[None, None]

    def _of_keys(self, columns: slice) -> Visibility:
        return self._replace(mask=_part(self.mask, 3, columns), keys=_part(self.keys, 3, columns))


def _part(mask: Tensor | None, axis: int, part: slice) -> Tensor | None:
    if mask is None or mask.shape[axis] == 1:
        return mask
    return mask[:, :, part] if axis == 2 else mask[..., part]


def _bias_of_mask(mask: Tensor | None, like: Tensor) -> Tensor | None:
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return like.new_zeros(mask.shape).masked_fill_(~mask, -math.inf)
    return torch.threshold(mask, torch.finfo(mask.dtype).min / 2, -math.inf).to(like.dtype)
