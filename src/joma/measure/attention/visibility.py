"""Which keys each query sees: causality, windows, masks and biases, evaluated block by block.

Query i has position i + lead and key j has position j; all rules except masks depend on positions.
Axes: B sequences, H heads, L queries, S keys.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.bias import CausalBias

FAR = 64.0
"""A gap between the numbers of a mask that graded biases do not have."""

_MOST_ROWS = 512
_ENTRIES = 2**22  # of a block's bias: 16 MB in float32
_FARTHEST = 2**30
_HIDES = -9e3  # above −1e4 plus a position's bias, and above −1e4 rounded to bfloat16
_HIDES_ANYWAY = -1e6
_NEGLIGIBLE = 40.0  # nats below all other scores: together 2e6 such keys change entropy by less than 1e-9


def is_causal_bias(mask: Any) -> TypeGuard[CausalBias]:
    """Whether a mask is torch's ``CausalBias``; its module is not imported here, since it loads torch's compiler."""
    module = sys.modules.get("torch.nn.attention.bias")
    return module is not None and isinstance(mask, module.CausalBias)


class Census(NamedTuple):
    """Which keys are visible to which queries.

    Args:
        num_visible: number of keys each query sees; integers, (B or 1, H or 1, L or 1).
        first: index of the first key each query sees, S if it sees none; of the same shape.
        seen: keys that some query sees; bool, (B or 1, H or 1, S).
    """

    num_visible: Tensor
    first: Tensor
    seen: Tensor

    @property
    def first_of_sequence(self) -> Tensor:
        """Index of the first key of each query's sequence, S if the query does not see it; broadcastable to (B, H, L).

        The first key that a query sees begins its sequence, unless the query at that key's position sees an earlier
        key, as at the edge of a sliding window. Padding begins no sequence, because no query sees it. Sequences may be
        packed only if there are as many queries as keys; otherwise all queries belong to one sequence.
        """
        num_queries, num_keys = self.first.shape[-1], self.seen.shape[-1]
        if num_queries == 1:
            return self.first
        if num_queries == num_keys:
            begins = self.first.gather(-1, self.first.clamp_max(num_keys - 1)) >= self.first
        else:
            begins = self.first == self.first.amin(-1, keepdim=True)
        return self.first.where(begins, num_keys)


class Visibility(NamedTuple):
    """The rules that hide keys from queries, and the bias that is added to scores.

    Args:
        num_queries, num_keys: L and S.
        is_causal: keys after the query are hidden.
        window: keys at this distance or farther are hidden.
        mask: four axes, broadcastable to (B, H, L, S); bool (True = attend) or an additive bias, which hides keys as
            in ``hides``.
        keys: (B or 1, 1, 1, S) bool; keys marked False are hidden.
        without: index of one key that is hidden from each query; integers, (B or 1, H or 1, L or 1).
        at: indices of the queries, ascending, if only some are selected; (L,).
        lead: position of query 0.
    """

    num_queries: int
    num_keys: int
    is_causal: bool = False
    window: int | None = None
    mask: Tensor | None = None
    keys: Tensor | None = None
    without: Tensor | None = None
    at: Tensor | None = None
    lead: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether fused kernels support it: all queries have the same rule, or differ only by causality."""
        one_row = self.mask is None or self.mask.shape[-2] == 1
        one_row &= self.without is None or self.without.shape[-1] == 1
        return one_row and self.window is None and not (self.is_causal and (self.lead or self.at is not None))

    @property
    def hides_only(self) -> bool:
        """Whether all rules only hide keys; False if there is an additive bias, whose values are not read."""
        return self.mask is None or self.mask.dtype == torch.bool

    @property
    def _reach(self) -> int:
        """The largest distance at which a query sees keys; without a window, larger than any distance."""
        return _FARTHEST if self.window is None else min(self.window - 1, _FARTHEST)

    def of_queries(self, head: int, rows: Tensor) -> Visibility:
        """Select some queries of one head, in ascending order."""
        mask, without = (None if part is None else of_queries(part, head, rows) for part in (self.mask, self.without))
        return self._replace(num_queries=len(rows), mask=mask, without=without, at=rows)

    def of_group_member(self, member: int, group: int) -> Visibility:
        """Select the heads member, member + group, …: one query head of each key head."""
        mask, without = (
            part if part is None or part.shape[1] == 1 else part[:, member::group] for part in (self.mask, self.without)
        )
        return self._replace(mask=mask, without=without)

    def of_other_keys(self) -> Visibility:
        """Leave out the first key, and also the first query if it sees no other key, so that the rest is causal."""
        mask, keys = (_part(part, 3, slice(1, None)) for part in (self.mask, self.keys))
        others = self._replace(mask=mask, keys=keys, num_keys=self.num_keys - 1)
        if not self.is_causal or self.lead or self.at is not None:
            return others._replace(lead=self.lead - 1)
        return others._replace(num_queries=self.num_queries - 1, mask=_part(mask, 2, slice(1, None)))

    def within(self, distance: int) -> Visibility:
        """Also hide all keys at this distance (in positions) or farther."""
        return self._replace(window=distance if self.window is None else min(distance, self.window))

    def row_blocks(self) -> Iterator[slice]:
        """Split the queries into blocks whose biases are small and not much longer than a window."""
        batch = 1 if self.mask is None else self.mask.shape[0] * self.mask.shape[1]
        few = self.at is not None and self.at.device.type == "cpu"
        most = 64 if few else _MOST_ROWS  # repeated queries are scored in float64, for which the cache has room
        size = min(most, max(32, _ENTRIES // (batch * self.num_keys)), max(64, self.window or _MOST_ROWS))
        return (slice(start, min(start + size, self.num_queries)) for start in range(0, self.num_queries, size))

    def columns(self, rows: slice) -> slice:
        """Return the range of keys that some of these queries may see, by their positions."""
        first, last = rows.start, rows.stop - 1
        if self.at is not None:
            first, last = int(self.at[first]), int(self.at[last])
        first, last = first + self.lead, last + self.lead
        stop = (last if self.is_causal else last + self._reach) + 1
        stop = max(0, min(self.num_keys, stop))
        return slice(min(max(0, first - self._reach), stop), stop)

    def bias(self, rows: slice, columns: slice, like: Tensor) -> Tensor | None:
        """Return the bias of a block of scores, −inf for hidden keys.

        Args:
            rows, columns: queries and keys.
            like: a tensor with the requested dtype and device.

        Returns:
            Broadcastable to (B, H, rows, columns); ``None`` if nothing is added or hidden.
        """
        bias = _bias_of_mask(_part(_part(self.mask, 2, rows), 3, columns), like)
        for seen in (
            _part(self.keys, 3, columns),
            self._in_reach(rows, columns, like.device),
            self._kept(rows, columns),
        ):
            if seen is not None:
                bias = like.new_zeros(1, 1, 1, 1) if bias is None else bias
                bias = bias.where(seen, -math.inf)
        return bias

    def bias_of_one(self, keys: Tensor, like: Tensor) -> Tensor | None:
        """Return the bias of the score of one visible key per query.

        Args:
            keys: their indices; (B or 1, H or 1, L or 1).
            like: a tensor with the requested dtype and device.

        Returns:
            Broadcastable to (B, H, L); ``None`` if nothing is added.
        """
        if self.mask is None or self.hides_only:
            return None
        shape = torch.broadcast_shapes(self.mask.shape[:-1], keys.shape)
        keys = keys.expand(shape) if self.mask.shape[-1] > 1 else keys.new_zeros(1).expand(shape)
        return self.mask.expand(*shape, -1).gather(-1, keys[..., None])[..., 0].to(like.dtype)

    def census(self, like: Tensor) -> Census:
        """Return which keys are visible to which queries."""
        if self.mask is None and self.keys is None and self.without is None:
            return self._census_by_position(like.device)
        one_row = not self.is_causal and self.is_whole
        blocks = [self._census_of_rows(rows, like) for rows in ([slice(0, 1)] if one_row else self.row_blocks())]
        num_visible, first = (torch.cat(parts, dim=-1) for parts in list(zip(*blocks, strict=True))[:2])
        return Census(num_visible, first, torch.stack([block.seen for block in blocks]).any(0))

    def _census_by_position(self, device: torch.device) -> Census:
        positions = torch.arange(self.num_queries, device=device) + self.lead
        stop = (positions if self.is_causal else positions + self._reach).clamp_max(self.num_keys - 1) + 1
        first = (positions - self._reach).clamp_min(0)
        num_visible, keys = (stop - first).clamp_min(0), torch.arange(self.num_keys, device=device)
        all_rows = self.columns(slice(0, self.num_queries))
        return Census(
            num_visible[None, None],
            first.where(num_visible > 0, self.num_keys)[None, None],
            ((keys >= all_rows.start) & (keys < all_rows.stop))[None, None],
        )

    def _census_of_rows(self, rows: slice, like: Tensor) -> Census:
        bias = self.bias(rows, slice(0, self.num_keys), like)
        assert bias is not None  # this is only called if there is a mask, ``keys`` or ``without``
        visible = bias > -math.inf
        visible = visible.expand(*visible.shape[:2], rows.stop - rows.start, self.num_keys)
        num_visible = visible.sum(-1)
        first = visible.view(torch.uint8).argmax(-1)
        return Census(num_visible, first.where(num_visible > 0, self.num_keys), visible.any(-2))

    def _in_reach(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        if not self.is_causal and self.window is None:
            return None
        queries = torch.arange(rows.start, rows.stop, device=device) if self.at is None else self.at[rows]
        keys = torch.arange(columns.start, columns.stop, device=device, dtype=torch.int32)
        back = (queries.int() + self.lead)[:, None] - keys
        seen = back >= (0 if self.is_causal else -self._reach)
        if self.window is not None:
            seen &= back <= self._reach
        return seen[None, None]

    def _kept(self, rows: slice, columns: slice) -> Tensor | None:
        if (without := _part(self.without, 2, rows)) is None:
            return None
        return without[..., None] != torch.arange(columns.start, columns.stop, device=without.device)


def of_queries(values: Tensor, head: int, rows: Tensor) -> Tensor:
    """Select one head and some queries of values (B, H or 1, L or 1, ...)."""
    values = values if values.shape[1] == 1 else values[:, head : head + 1]
    return values if values.shape[2] == 1 else values[:, :, rows]


def _part(mask: Tensor | None, axis: int, part: slice) -> Tensor | None:
    if mask is None or mask.shape[axis] == 1:
        return mask
    return mask[:, :, part] if axis == 2 else mask[..., part]


def hides(mask: Tensor) -> Tensor:
    """Return where a mask hides its key; bool, of the same shape.

    A bool mask hides by False. A bias hides by −inf, by the lowest number of its dtype, as model libraries do, and by
    any number below −9,000, as masks written by hand do (−1e4, −1e9). Only graded biases that themselves reach −9,000,
    such as ALiBi's over 12,000 tokens and more, are taken literally there; they hide below −1e6.
    """
    if mask.dtype == torch.bool:
        return ~mask
    graded = ((mask > _HIDES) & (mask < _HIDES / 2)).any(-1, keepdim=True)
    return (mask <= max(_HIDES_ANYWAY, torch.finfo(mask.dtype).min / 2)) | ((mask <= _HIDES) & ~graded)


def settled(mask: Tensor, largest_score: float) -> Tensor:
    """Replace the numbers of a bias that hide keys from these scores, such as −100 or −1,000, by −inf.

    They lie far below all other numbers of their sequence and head: by so much that no score makes up for them. If some
    score might, there is a warning, and they count as written.

    Args:
        mask: four axes, broadcastable to (B, H, L, S); a bias.
        largest_score: no product of a query and a key is larger in size.
    """
    blocks = mask.split(max(1, _ENTRIES // mask[:, :, :1].numel()), dim=2)
    lowest, highest = _range(blocks, hides)
    is_wide = lowest <= highest - FAR
    if not is_wide.any():
        return mask
    middle = (lowest + highest) / 2
    upper = _range(blocks, lambda block: block <= middle)[0]
    lower = _range(blocks, lambda block: hides(block) | (block > middle))[1]
    gap = (upper - lower).where(is_wide, 0)
    is_sure = gap >= 2 * largest_score + _NEGLIGIBLE
    if ((gap >= FAR) & ~is_sure).any():
        warnings.warn(
            f"joma: a mask adds {lower[gap >= FAR].min():.4g} to scores that may be as large as {largest_score:.3g}, "
            "which may not hide keys; they count as seen: hide them by False or -inf",
            RuntimeWarning,
            stacklevel=2,
        )
    return mask.masked_fill((mask <= middle) & is_sure, -math.inf) if is_sure.any() else mask


def _range(blocks: Sequence[Tensor], left_out: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest number of each sequence and head, (B or 1, H or 1, 1, 1), of blocks of rows."""
    axes, lowest, highest = (-2, -1), list[Tensor](), list[Tensor]()
    for block in blocks:
        out = left_out(block)
        lowest.append(block.masked_fill(out, math.inf).amin(axes, keepdim=True))
        highest.append(block.masked_fill(out, -math.inf).amax(axes, keepdim=True))
    return torch.stack(lowest).amin(0), torch.stack(highest).amax(0)


def _bias_of_mask(mask: Tensor | None, like: Tensor) -> Tensor | None:
    if mask is None:
        return None
    bias = like.new_zeros(mask.shape) if mask.dtype == torch.bool else mask.to(like.dtype)
    return bias.masked_fill(hides(mask), -math.inf)
