"""Sampling from a combinatorial hierarchy: from the classes down to the tokens, for a batch of samples at once.

The present latents of a level are kept in slots: a tensor with one column per sample, whose entries are latent numbers
counted from 1, and 0 for an empty slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from joma.arrays import REAL
from joma.problem.draws import random_events, random_places

Members = tuple[int, ...]
"""A set of members of the level below, in increasing order."""

Level = tuple[tuple[Members, ...], ...]
"""The alternative sets of each latent of a level."""


class Step(NamedTuple):
    """The tables for one step down; latent 0 stands for an empty slot and has no members.

    Args:
        children: the first, second, ... member of each alternative of each latent, counted from 1, or 0; (rows,) each.
        first_rows: (n + 1,) the row of each latent's first alternative; ``None`` if every latent has one alternative.
        num_alternatives: (n + 1,); ``None`` if every latent has one alternative.
        size: number of latents, or tokens, of the level below.
        width: number of slots of the level above.
    """

    children: tuple[Tensor, ...]
    first_rows: Tensor | None
    num_alternatives: Tensor | None
    size: int
    width: int


@lru_cache(maxsize=32)
def steps_down(members: tuple[Level, ...], num_tokens: int, device: torch.device) -> tuple[Step, ...]:
    """Return the steps from the classes down to the tokens, with their tables on ``device``."""
    sizes = [num_tokens, *map(len, members)]
    small = torch.int16 if max(sizes) < 2**15 - 1 else torch.int64  # the smaller dtype moves less memory
    steps, width = [], 1
    for level, size in zip(reversed(members), reversed(sizes[:-1]), strict=True):
        counts = [1, *map(len, level)]
        rows = [(), *itertools.chain.from_iterable(level)]
        most = max(map(len, rows))
        columns = [[row[idx] + 1 if idx < len(row) else 0 for row in rows] for idx in range(most)]
        children = tuple(torch.tensor(column, dtype=small, device=device) for column in columns)
        firsts = list(itertools.accumulate(counts[:-1], initial=0))
        starts = [None, None] if max(counts) == 1 else [torch.tensor(part, device=device) for part in (firsts, counts)]
        steps.append(Step(children, *starts, size, width))
        width = min(width * most, size)
    return tuple(steps)


def walk(
    steps: Sequence[Step], labels: Int[Tensor, " B"], length: int, show_probability: float, generator: torch.Generator
) -> list[Shaped[Tensor, "B ..."]]:
    """Sample from the classes down; return (B, L) tokens, and (B, n) presence of each level, the lowest first."""
    slots = (labels + 1)[None]
    presence: list[Tensor] = []
    for step, events in zip(steps, _events(steps, len(labels), show_probability, generator), strict=True):
        slots = _members(step, slots, generator)
        if events is not None:
            slots.mul_(events)
        if step.width > 1:
            slots = _once(slots)
        if step is steps[-1] or len(slots) > step.size:
            slots = _rising(slots)[-step.size :]
        if step is not steps[-1]:
            presence.append(_presence(slots, step.size))
    return [_sequences(slots[-length:], length, steps[-1].size), *reversed(presence)]


def _events(
    steps: Sequence[Step], num: int, show_probability: float, generator: torch.Generator
) -> Sequence[Tensor | None]:
    """For each step, 1 for each member of each slot that a present latent shows; ``None`` if all members are shown."""
    if show_probability == 1:
        return [None] * len(steps)
    probability = torch.tensor(show_probability, dtype=REAL, device=generator.device)
    counts = [step.width * len(step.children) for step in steps]
    return random_events(probability, (sum(counts), num), generator).split(counts)


def _members(step: Step, slots: Int[Tensor, "w B"], generator: torch.Generator) -> Int[Tensor, "cw B"]:
    """All members of the set that the latent of each slot draws."""
    rows = slots.flatten().long()
    if step.num_alternatives is not None and step.first_rows is not None:
        chosen = random_places(step.num_alternatives.index_select(0, rows), generator)
        rows = chosen.add_(step.first_rows.index_select(0, rows))
    return torch.cat([column.index_select(0, rows) for column in step.children]).view(-1, slots.shape[1])


def _once(slots: Int[Tensor, "w B"]) -> Int[Tensor, "w B"]:
    """Remove duplicates within each column: a latent draws once per sample, even if several parents show it."""
    slots = _rising(slots)
    slots[1:].mul_((slots[1:] - slots[:-1]).clamp_(max=1))
    return slots


def _rising(values: Int[Tensor, "w B"]) -> Int[Tensor, "w B"]:
    """Sort each column with a sorting network over whole rows, far faster than ``torch.sort``."""
    if len(values) == 1:
        return values
    orders = _network(len(values), values.device)
    num_more = len(orders[0]) - len(values)
    rows = torch.cat([values, values.new_zeros(num_more, values.shape[1])]).index_select(0, orders[0])
    ordered = torch.empty_like(rows)
    (first, second), (lower, higher) = rows.chunk(2), ordered.chunk(2)
    for order in orders[1:]:
        torch.minimum(first, second, out=lower)
        torch.maximum(first, second, out=higher)
        torch.index_select(ordered, 0, order, out=rows)
    return rows[num_more:]


@lru_cache(maxsize=32)
def _network(num: int, device: torch.device) -> tuple[Tensor, ...]:
    """The bitonic sorting network for at least ``num`` rows (a power of two): the order of rows in each round.

    In each round, row i of the first half is compared with row i of the second half. The last order is the result's.
    """
    size = 1 << (num - 1).bit_length()
    rounds = []
    for block in (2**k for k in range(1, size.bit_length())):
        starts = range(0, size, block)
        rounds.append([(start + idx, start + block - 1 - idx) for start in starts for idx in range(block // 2)])
        for half in (2**k for k in reversed(range(block.bit_length() - 2))):
            starts = range(0, size, 2 * half)
            rounds.append([(start + idx, start + half + idx) for start in starts for idx in range(half)])
    orders, now = [], list(range(size))
    halves = [[place for half in zip(*pairs, strict=True) for place in half] for pairs in rounds]
    for wanted in [*halves, list(range(size))]:
        orders.append(torch.tensor([now.index(place) for place in wanted], device=device))
        now = wanted
    return tuple(orders)


def _sequences(ids: Int[Tensor, "w B"], length: int, padding: int) -> Int[Tensor, "B L"]:
    """Turn columns of increasing ids, counted from 1 with zeros in front, into sequences; overwrites ``ids``."""
    ids.add_(ids.clone().eq_(0).mul_(padding + 1)).sub_(1)
    tokens = torch.full((ids.shape[1], length), padding, device=ids.device)
    tokens[:, length - len(ids) :] = ids.t()
    return tokens


def _presence(slots: Int[Tensor, "w B"], size: int) -> Bool[Tensor, "B n"]:
    """Which latents are in the slots of each sample."""
    num = slots.shape[1]
    everywhere = torch.zeros((num + 1) * size, dtype=torch.bool, device=slots.device)
    ends = torch.arange(size - 1, num * size + size - 1, size, device=slots.device)
    places = (slots + ends).mul_(slots.clamp(max=1))  # empty slots write to the first row, which is dropped
    everywhere.index_fill_(0, places.flatten(), True)
    return everywhere.view(num + 1, size)[1:]
