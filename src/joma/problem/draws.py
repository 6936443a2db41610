"""Random draws for the laws of hierarchies: events, labels, and left-padded sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, Int16, Shaped, UInt8
from torch import Tensor

from joma.arrays import REAL, as_tensor
from joma.domains import FINITE, as_sequence
from joma.errors import InvalidArgument

RESOLUTION = 2**16  # values of the 16 bits that decide an event
IN_CACHE = 2**18  # so many 16-bit numbers, and the intermediate results of them, fit a core's cache


def random_events(
    probabilities: Float[Tensor, "..."], shape: Sequence[int], generator: torch.Generator
) -> Int16[Tensor, "..."]:
    """Draw independent events, 1 where an event happens, in a quarter of the time of one uniform number per event.

    Four events share one 64-bit draw. A probability that is no multiple of 1/65,536 is randomly rounded up or down to
    one in each call, so that the mean over calls is exact.

    Args:
        probabilities: float64 in [0, 1], broadcasting against ``shape``.
        shape: of the result.
        generator: source of randomness; its device is that of the result.
    """
    rounding = torch.rand(probabilities.shape, dtype=REAL, generator=generator, device=generator.device)
    rarer = torch.minimum(probabilities, 1 - probabilities)  # at most ½, so that its bound fits in 16 bits
    bounds = rounding.add_(rarer * RESOLUTION - RESOLUTION // 2).floor_().to(torch.int16)
    draws = torch.empty((math.prod(shape) + 3) // 4, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    words = draws.view(torch.int16)[: math.prod(shape)].view(shape)
    # In place: a comparison with a result of another dtype takes ten times as long on a CPU.
    return words.lt_(bounds).bitwise_xor_((probabilities > 0.5).to(torch.int16))


def random_places(counts: Int[Tensor, "..."], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Draw a uniform integer below each count (uniform to 2⁻³² times the count); two share one 64-bit draw."""
    draws = torch.empty((counts.numel() + 1) // 2, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    words = draws.view(torch.int32)[: counts.numel()].view(counts.shape).long()
    return words.add_(2**31).mul_(counts).bitwise_right_shift_(32)


def random_choices(count: int, shape: Sequence[int], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Draw uniform integers below ``count``, int32; from 16 bits each, exactly uniform, for powers of 2 up to 2¹⁵."""
    if count > RESOLUTION // 2 or count & (count - 1):
        return random_places(torch.tensor(count, device=generator.device).expand(shape), generator).int()
    draws = torch.empty((math.prod(shape) + 3) // 4, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    return draws.view(torch.int16)[: math.prod(shape)].view(shape).bitwise_and_(count - 1).int()


def labels_of(
    law_name: str,
    num: int,
    num_labels: int,
    probabilities: Sequence[float] | None,
    generator: torch.Generator,
    labels: Tensor | None,
) -> Int[Tensor, " B"]:
    """Return the labels of ``num`` samples: the given ones after a check, or random ones."""
    if labels is None:
        if probabilities is None:
            return torch.randint(num_labels, (num,), generator=generator, device=generator.device)
        places = torch.rand(num, dtype=REAL, generator=generator, device=generator.device)
        ends = torch.tensor(probabilities[:-1], dtype=REAL).cumsum(0).to(generator.device)
        return torch.bucketize(places, ends, right=True)
    labels = as_tensor(labels, f"{law_name}.sample", "labels", "whole numbers")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != (num,) or not whole or not 0 <= int(labels.min()) <= int(labels.max()) < num_labels:
        raise InvalidArgument(
            f"{law_name}.sample",
            "labels",
            required=f"a tensor of {num} whole numbers, each from 0 to {num_labels - 1}",
            received=f"of shape {tuple(labels.shape)} and dtype {str(labels.dtype).removeprefix('torch.')}"
            + (f", from {int(labels.min())} to {int(labels.max())}" if whole and labels.numel() else ""),
            remedy="leave labels out to draw random ones",
        )
    return labels.to(generator.device, torch.int64)


def in_parts(
    labels: Int[Tensor, " B"], numbers: int, draw: Callable[[Tensor], Sequence[Tensor]]
) -> Sequence[Shaped[Tensor, "B ..."]]:
    """Draw samples in batches that fit a core's cache, and concatenate them; a GPU draws all at once.

    With larger batches most of the time goes into allocating and freeing memory.

    Args:
        labels: of all samples.
        numbers: count of numbers that a sample needs while it is drawn.
        draw: called with the labels of a batch.
    """
    size = max(256, IN_CACHE // numbers) if labels.device.type == "cpu" else len(labels)
    parts = [draw(part) for part in labels.split(size)]
    return parts[0] if len(parts) == 1 else [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


def left_padded(present: UInt8[Tensor, "B n"], padding: int) -> Int[Tensor, "B n"]:
    """Return the increasing indices of the columns that are 1 in each row, left-padded, in the smallest dtype."""
    num, length = present.shape
    largest = max(length, padding)
    small = next(kind for kind in (torch.uint8, torch.int16, torch.int64) if largest <= torch.iinfo(kind).max)
    ones = present.to(small)
    through = ones.cumsum(1, dtype=small)
    # The target column of each index, counted from 1; absent ones go to column 0, which is dropped. On a CPU this takes
    # a fifth of the time of selecting and scattering by masks, and a tenth of the time of sorting.
    target = (through + (length - through[:, -1:])).mul_(ones).long()
    tokens = torch.full((num, length + 1), padding, dtype=small, device=present.device)
    tokens.scatter_(1, target, torch.arange(length, dtype=small, device=present.device).expand(present.shape))
    return tokens[:, 1:]


def shuffled_tokens(tokens: Int[Tensor, "B L"], padding: int, generator: torch.Generator) -> Int[Tensor, "B L"]:
    """Shuffle the tokens of every sequence; padding stays in front."""
    places = torch.rand(tokens.shape, generator=generator, device=generator.device)
    return tokens.gather(1, (places + (tokens != padding)).argsort(1))


def checked_probabilities(
    probabilities: Sequence[float] | None, num_labels: int, function: str
) -> tuple[float, ...] | None:
    """Return label probabilities as a tuple, after checking that there is one for each label and that they sum to 1."""
    if probabilities is None:
        return None
    given = as_sequence(probabilities, function, "label_probabilities", "a list of numbers, or None")
    values = tuple(FINITE.check(value, function, "label_probabilities") for value in given)
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
        remedy="remove labels that are never drawn, divide by the sum, or pass None for equal ones",
    )
