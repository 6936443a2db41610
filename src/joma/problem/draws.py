"""What the laws of hierarchies share: random bits, labels, and sequences padded in front."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from joma.errors import InvalidArgument

RESOLUTION = 2**32
"""Probabilities of single events are met to a multiple of 1/RESOLUTION."""


def random_words(num: int, width: int, generator: torch.Generator) -> Int[Tensor, "B n"]:
    """Evenly distributed int32, two out of each draw of the generator: half the time of one draw for each."""
    draws = torch.empty((num * width + 1) // 2, dtype=torch.int64, device=generator.device)
    draws.random_(-(2**63), None, generator=generator)
    return draws.view(torch.int32)[: num * width].view(num, width)


def threshold_of(probability: float) -> int:
    """Below which of the numbers −2³¹ … 2³¹ − 1 a random word lies with this probability, in [0, 1)."""
    return min(round(probability * RESOLUTION), RESOLUTION - 1) - RESOLUTION // 2


def draw_labels(
    num: int, num_labels: int, probabilities: Sequence[float] | None, generator: torch.Generator
) -> Int[Tensor, " B"]:
    """Draw labels, evenly where there are no probabilities."""
    if probabilities is None:
        return torch.randint(num_labels, (num,), generator=generator, device=generator.device)
    places = torch.rand(num, dtype=torch.float64, generator=generator, device=generator.device)
    ends = torch.tensor(probabilities[:-1], dtype=torch.float64).cumsum(0).to(generator.device)
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


def left_padded(present: Bool[Tensor, "B n"], ids: Int[Tensor, "..."], length: int, padding: int) -> Int[Tensor, "B L"]:
    """Return the ids of what is present, in the order of the columns, with padding in front.

    Args:
        present: at most ``length`` of each row.
        ids: what the columns stand for; one for each, or one for each of each row.
        length: L.
        padding: what stands where nothing is left.
    """
    counts = present.sum(1, dtype=torch.int32)
    kept = torch.arange(length, 0, -1, device=present.device, dtype=torch.int32) <= counts[:, None]
    tokens = torch.full(kept.shape, padding, dtype=torch.int64, device=present.device)
    return tokens.masked_scatter_(kept, ids.expand(present.shape).masked_select(present))


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
