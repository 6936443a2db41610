"""What the laws of hierarchies share: random bits, labels, and sequences padded in front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, Int16, Shaped, UInt8
from torch import Tensor

from joma.arrays import REAL
from joma.domains import check_whole
from joma.errors import InvalidArgument

RESOLUTION = 2**16
"""A draw of 16 bits decides an event."""

IN_CACHE = 2**18
"""As many 16-bit numbers as fit a core's cache beside what is made of them."""


def random_events(
    probabilities: Float[Tensor, "..."], shape: Sequence[int], generator: torch.Generator
) -> Int16[Tensor, "..."]:
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
    # In place, because a comparison that gives another kind of number takes ten times as long on a CPU.
    return words.lt_(bounds).bitwise_xor_((probabilities > 0.5).to(torch.int16))


def random_places(counts: Int[Tensor, "..."], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Draw a whole number below each count, evenly (to 2⁻³² times the count), two out of each 64-bit draw."""
    draws = torch.empty((counts.numel() + 1) // 2, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    words = draws.view(torch.int32)[: counts.numel()].view(counts.shape).long()
    return words.add_(2**31).mul_(counts).bitwise_right_shift_(32)


def labels_of(
    law_name: str,
    num: int,
    num_labels: int,
    probabilities: Sequence[float] | None,
    generator: torch.Generator,
    labels: Tensor | None,
) -> Int[Tensor, " B"]:
    """Return the labels of ``num`` samples: those given, when they fit, or random ones."""
    check_whole(num, f"{law_name}.sample", "num")
    if labels is None:
        if probabilities is None:
            return torch.randint(num_labels, (num,), generator=generator, device=generator.device)
        places = torch.rand(num, dtype=REAL, generator=generator, device=generator.device)
        ends = torch.tensor(probabilities[:-1], dtype=REAL).cumsum(0).to(generator.device)
        return torch.bucketize(places, ends, right=True)
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


def in_parts(
    labels: Int[Tensor, " B"], numbers: int, draw: Callable[[Tensor], Sequence[Tensor]]
) -> Sequence[Shaped[Tensor, "B ..."]]:
    """Draw for so many samples at a time that the work fits a core's cache, and join; a GPU draws all at once.

    In larger pieces most of the time goes into memory that is asked for and given back again and again.

    Args:
        labels: of all samples.
        numbers: how many a sample needs while it is drawn.
        draw: from labels to what is drawn for them.
    """
    size = max(256, IN_CACHE // numbers) if labels.device.type == "cpu" else len(labels)
    parts = [draw(part) for part in labels.split(size)]
    return parts[0] if len(parts) == 1 else [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


def left_padded(present: UInt8[Tensor, "B n"], padding: int) -> Int[Tensor, "B n"]:
    """Return the numbers of the columns that are present in each row, rising, with padding in front.

    Args:
        present: 1 where a number is there, 0 elsewhere.
        padding: what stands where nothing is left.

    Returns:
        In the smallest kind that will do, because there is less memory to move.
    """
    num, length = present.shape
    largest = max(length, padding)
    small = next(kind for kind in (torch.uint8, torch.int16, torch.int64) if largest <= torch.iinfo(kind).max)
    there = present.to(small)
    through = there.cumsum(1, dtype=small)
    # Each number's column, counted from 1; what is absent goes to column 0, which is dropped. On a CPU this takes a
    # fifth of the time of selecting and scattering by masks, and a tenth of sorting.
    target = (through + (length - through[:, -1:])).mul_(there).long()
    tokens = torch.full((num, length + 1), padding, dtype=small, device=present.device)
    tokens.scatter_(1, target, torch.arange(length, dtype=small, device=present.device).expand(present.shape))
    return tokens[:, 1:]


def shuffled_tokens(tokens: Int[Tensor, "B L"], padding: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
    """Bring the tokens of every sequence into random order; padding stays in front."""
    places = torch.rand(tokens.shape, generator=generator, device=generator.device)
    return tokens.gather(1, (places + (tokens != padding)).argsort(1))


def checked_probabilities(
    probabilities: Sequence[float] | None, num_labels: int, function: str
) -> tuple[float, ...] | None:
    """Return label probabilities as a tuple, when there is one for each label, each above 0, and they sum to 1."""
    if probabilities is None:
        return None
    values = tuple(float(value) for value in probabilities)
    never = [f"{value:g} for label {label}" for label, value in enumerate(values) if not value > 0]
    if len(values) != num_labels:
        problem = f"of length {len(values)}"
    elif never:
        problem = f"{never[0]}, which would never be sampled"
    elif abs(sum(values) - 1) > 1e-9:
        problem = f"of sum {sum(values):.12g}"
    else:
        return values
    raise InvalidArgument(
        function,
        "label_probabilities",
        required=f"{num_labels} numbers above 0 that sum to 1",
        received=problem,
        remedy="leave out the label that is never drawn, divide by the sum, or pass None for even ones",
    )
