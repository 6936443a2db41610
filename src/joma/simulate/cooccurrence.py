"""Co-occurrence of two tokens by the height of their nearest common ancestor: counted in samples, and predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from joma.problem.laws import Hierarchy, common_heights, token_presence
from joma.progress import Progress, part_of, silent
from joma.theory.hierarchy import exact_cooccurrence, symmetric_cooccurrence

_BATCH = 20_000


@dataclass(frozen=True)
class Cooccurrence:
    """Ordered pairs of different tokens (l, m) with the same height of the nearest common ancestor, under one label.

    Args:
        label: the label conditioned on; ``None`` for the average over labels.
        height: of the ancestor, in levels above the tokens; 0 without a common ancestor.
        num_pairs: number of pairs in which m has a positive probability.
        exact: mean over the pairs of P(l present | m present); ``None`` if it can only be estimated from samples.
        lowest, highest: over the pairs.
        closed: Theorem 5's formula; ``None`` if it does not apply.
        simulated: the same mean, counted in samples; ``None`` if m was never present.
        standard_error: of ``simulated``.
    """

    label: int | None
    height: int
    num_pairs: int
    exact: float | None
    lowest: float | None
    highest: float | None
    closed: float | None
    simulated: float | None
    standard_error: float | None


def cooccurrences(
    law: Hierarchy, labels: Sequence[int | None], num_samples: int, seed: int, progress: Progress = silent
) -> list[Cooccurrence]:
    """Return the co-occurrence of pairs by label and height: exact where feasible, and counted in samples.

    Args:
        law: the law of the tokens.
        labels: the labels to condition on; ``None`` for the average over labels.
        num_samples: number of samples for each entry of ``labels``.
        seed: of the samples.
        progress: called with the number of samples drawn.
    """
    heights = common_heights(law)
    known = sorted(set(heights[heights >= 0].tolist()))
    found = []
    for place, label in enumerate(labels):
        part = part_of(progress, "samples", place * num_samples, num_samples, len(labels) * num_samples)
        present = presence_in_draws(law, label, num_samples, torch.Generator().manual_seed(seed), progress=part).float()
        exact = exact_cooccurrence(law, label)
        found += [_cooccurrence(law, label, height, heights == height, exact, present) for height in known]
    return found


def presence_in_draws(
    law: Hierarchy,
    label: int | None,
    num: int,
    generator: torch.Generator,
    *,
    batch: int = _BATCH,
    progress: Progress = silent,
) -> Bool[torch.Tensor, "num V"]:
    """Return which tokens are present in ``num`` samples of a label (``None``: any), drawn ``batch`` at a time."""
    parts = []
    for start in range(0, num, batch):
        size = min(batch, num - start)
        labels = None if label is None else torch.full((size,), label)
        parts.append(token_presence(law, law.sample(size, generator, labels).tokens))
        progress("samples", start + size, num)
    return torch.cat(parts)


def _cooccurrence(
    law: Hierarchy,
    label: int | None,
    height: int,
    chosen: torch.Tensor,
    exact: torch.Tensor | None,
    present: torch.Tensor,
) -> Cooccurrence:
    counts = present.sum(0).double()
    chosen = chosen & (counts > 0 if exact is None else exact.diagonal() > 0)
    values = None if exact is None or not chosen.any() else exact[chosen]
    return Cooccurrence(
        label,
        height,
        int(chosen.sum()),
        *(None, None, None) if values is None else (float(values.mean()), float(values.min()), float(values.max())),
        symmetric_cooccurrence(law, label, height),
        *_counted(present, chosen & (counts > 0)),
    )


def _counted(present: Float[torch.Tensor, "B V"], chosen: torch.Tensor) -> tuple[float | None, float | None]:
    """The mean over pairs of N(l, m)/N(m), with its standard error to first order in the counts."""
    num_pairs = int(chosen.sum())
    if not num_pairs:
        return None, None
    counts = present.sum(0).double()
    share = (present.T @ present).double() / counts.clamp_min(1)  # (l, m)
    pairs = chosen.double()
    # Each sample changes the mean by Σ (x_l x_m − share x_m)/N(m) over the pairs: the sum of squares is the variance.
    per_token = ((present @ pairs.float()).double() - (pairs * share).sum(0)) * present / counts.clamp_min(1)
    moved = per_token.sum(-1) / num_pairs
    return float((pairs * share).sum()) / num_pairs, math.sqrt(float(moved.square().sum()))
