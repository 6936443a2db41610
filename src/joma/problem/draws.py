"""What the laws of hierarchies share: random bits, labels, and sequences padded in front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from joma.arrays import REAL
from joma.errors import InvalidArgument

RESOLUTION = 2**16
"""A draw of 16 bits decides an event."""


def random_events(
    probabilities: Float[Tensor, "..."], shape: Sequence[int], generator: torch.Generator
) -> UInt8[Tensor, "..."]:
    """Draw independent events, 1 where one happens: a quarter of the time of one uniform number for each.

    Four events share one 64-bit draw. Probabilities that are no multiple of 1/65,536 are rounded up or down to one at
    random, anew in each call, so that they are met exactly on average over calls.

    Args:
        probabilities: float64 in [0, 1], broadcasting against ``shape``.
        shape: of what is returned.
        generator: where randomness comes from, and on which device.
    """
    rounding = torch.rand(probabilities.shape, dtype=REAL, generator=generator, device=generator.device)
    rarer = torch.minimum(probabilities, 1 - probabilities)  # at most ½, whose bound fits in 16 bits
    bounds = rounding.add_(rarer * RESOLUTION - RESOLUTION // 2).floor_().to(torch.int16)
    draws = torch.empty((math.prod(shape) + 3) // 4, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    words = draws.view(torch.int16)[: math.prod(shape)].view(shape)
    return (words < bounds).view(torch.uint8) ^ (probabilities > 0.5).view(torch.uint8)


def random_places(counts: Int[Tensor, "..."], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Draw a whole number below each count, evenly (to 2⁻³² times the count), two out of each 64-bit draw."""
    draws = torch.empty((counts.numel() + 1) // 2, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    words = draws.view(torch.int32)[: counts.numel()].view(counts.shape).long()
    return words.add_(2**31).mul_(counts).bitwise_right_shift_(32)


def draw_labels(
    num: int, num_labels: int, probabilities: Sequence[float] | None, generator: torch.Generator
) -> Int[Tensor, " B"]:
    """Draw labels, evenly where there are no probabilities."""
    if probabilities is None:
        return torch.randint(num_labels, (num,), generator=generator, device=generator.device)
    places = torch.rand(num, dtype=REAL, generator=generator, device=generator.device)
    ends = torch.tensor(probabilities[:-1], dtype=REAL).cumsum(0).to(generator.device)
    return torch.bucketize(places, ends, right=True)


def labels_of(
    law_name: str,
    num: int,
    num_labels: int,
    probabilities: Sequence[float] | None,
    generator: torch.Generator,
    labels: Tensor | None,
) -> Int[Tensor, " B"]:
    """Return the labels of ``num`` samples: those given, when they fit, or random ones."""
    check_count(num, f"{law_name}.sample", "num")
    if labels is None:
        return draw_labels(num, num_labels, probabilities, generator)
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != (num,) or not whole or not 0 <= int(labels.min()) <= int(labels.max()) < num_labels:
        raise InvalidArgument(
            f"{law_name}.sample",
            "labels",
            required=f"a tensor of {num} whole numbers, each from 0 to {num_labels - 1}",
            received=f"of shape {tuple(labels.shape)} and dtype {str(labels.dtype).removeprefix('torch.')}"
            + (f", from {int(labels.min())} to {int(labels.max())}" if whole and labels.numel() else ""),
            remedy="leave labels out to draw them",
        )
    return labels.to(generator.device, torch.int64)


def left_padded(present: Int[Tensor, "B n"], ids: Int[Tensor, "..."], length: int, padding: int) -> Int[Tensor, "B L"]:
    """Return the ids of what is present, in the order of the columns, with padding in front.

    Args:
        present: 1 where an id is there, at most ``length`` times in each row.
        ids: what the columns stand for; one for each, or one for each of each row.
        length: L.
        padding: what stands where nothing is left.
    """
    small = torch.int16 if max(length, present.shape[1], padding) < 2**15 else torch.int64  # less memory to move
    there = present.to(small)
    through = there.cumsum(1, dtype=small)
    # Each id's column, counted from 1; what is absent goes to column 0, which is dropped. On a CPU this takes a fifth
    # of the time of selecting and scattering by masks, and a tenth of sorting.
    target = (through + (length - through[:, -1:])).mul_(there).long()
    tokens = torch.full((len(present), length + 1), padding, dtype=small, device=present.device)
    tokens.scatter_(1, target, ids.to(small).expand(present.shape))
    return tokens[:, 1:].to(torch.int64, memory_format=torch.contiguous_format, copy=True)


def shuffled_tokens(tokens: Int[Tensor, "B L"], padding: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
    """Bring the tokens of every sequence into random order; padding stays in front."""
    places = torch.rand(tokens.shape, generator=generator, device=generator.device)
    return tokens.gather(1, (places + (tokens != padding)).argsort(1))


def check_count(value: int, function: str, parameter: str) -> None:
    """Raise ``InvalidArgument`` unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(
            function, parameter, required="a whole number of at least 1", received=repr(value), remedy="pass a count"
        )


def checked_probabilities(
    probabilities: Sequence[float] | None, num_labels: int, function: str
) -> tuple[float, ...] | None:
    """Return label probabilities as a tuple, when there is one for each label, each above 0, and they sum to 1."""
    if probabilities is None:
        return None
    values = tuple(float(value) for value in probabilities)
    problem = ""
    if len(values) != num_labels:
        problem = f"of length {len(values)}"
    elif not all(value > 0 for value in values):
        idx = next(idx for idx, value in enumerate(values) if not value > 0)
        problem = f"{values[idx]:g} for label {idx}, which would never be sampled"
    elif abs(sum(values) - 1) > 1e-9:
        problem = f"of sum {sum(values):.12g}"
    if problem:
        raise InvalidArgument(
            function,
            "label_probabilities",
            required=f"{num_labels} numbers above 0 that sum to 1",
            received=problem,
            remedy="leave out the label that is never drawn, divide by the sum, or pass None for even ones",
        )
    return values
