"""Choose a unit for each latent on some samples and score it on others, for many permutations of the latents at once.

Permutations do not change the units, so these are prepared once: standardised in each half of the samples and summed
over groups of samples that share their latents. Each permutation of the latents over the groups then takes two matrix
products. Axes are those of ``joma.measure.latents.alignment``, which uses this module.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from joma.arrays import REAL

_ROUNDINGS = 4  # a range of up to 4 rounding errors of the largest value, as from reordered sums, counts as constant


class Columns(NamedTuple):
    """Values in float64, each column divided by its largest absolute value, and the epsilon of their original dtype."""

    values: Tensor
    rounding: float


class Standard(NamedTuple):
    """Rows of mean 0 and norm 1 (0 if constant), with the original means and norms."""

    values: Tensor
    mean: Tensor
    norm: Tensor
    varies: Tensor


class Half(NamedTuple):
    """One half of the samples: the groups in it, the number of samples of each, and the units.

    ``units`` is (groups, K): sums of the standardised units over the samples of each group, divided by the square root
    of their number.
    """

    rows: Tensor
    counts: Tensor
    units: Tensor
    mean: Tensor
    norm: Tensor


class Study(NamedTuple):
    """Everything that scoring needs except the latents: units, halves and groups.

    ``columns`` are the indices of the units that vary; the first ``num_usable`` of them vary in both halves.
    """

    halves: tuple[Half, Half]
    counts: Tensor
    columns: Tensor
    num_usable: int
    rounding: float


class Scores(NamedTuple):
    """(n, R) scores, NaN if undefined, and (n, R, folds) chosen units."""

    scores: Tensor
    units: Tensor


def standardised(values: Tensor, counts: Tensor, rounding: float) -> Standard:
    """Standardise along the last axis in place; each entry represents ``counts`` samples."""
    low, high = torch.aminmax(values, dim=-1)
    varies = high - low > _ROUNDINGS * rounding * torch.maximum(low.abs(), high.abs())
    mean = values @ counts / counts.sum()
    values.sub_(mean[..., None]).mul_(counts.sqrt())
    norm = torch.linalg.vector_norm(values, dim=-1).where(varies, 0)
    values.mul_((1 / norm).where(varies, 0)[..., None])
    return Standard(values, mean, norm, varies)


def prepared(columns: Columns, rounding: float, member: Tensor, first: Tensor) -> Study:
    """Standardise the units in each half of the samples and sum them over groups."""
    values = columns.values
    low, high = torch.aminmax(values, dim=0)
    varies = high - low > _ROUNDINGS * columns.rounding * torch.maximum(low.abs(), high.abs())
    halves, usable = [], varies
    for chosen in (first, ~first):
        here = values[chosen].T
        part = standardised(here, values.new_ones(here.shape[1]), columns.rounding)
        rows, place, counts = member[chosen].unique(return_inverse=True, return_counts=True)
        sums = values.new_zeros(len(rows), len(here)).index_add_(0, place, part.values.T)
        counts = counts.to(REAL)
        halves.append(Half(rows, counts, sums / counts.sqrt()[:, None], part.mean, part.norm))
        usable = usable & part.varies
    kept = torch.cat([usable.nonzero()[:, 0], (varies & ~usable).nonzero()[:, 0]])
    narrowed = [half._replace(units=half.units[:, kept], mean=half.mean[kept], norm=half.norm[kept]) for half in halves]
    counts = torch.bincount(member).to(REAL)
    return Study((narrowed[0], narrowed[1]), counts, kept, int(usable.sum()), rounding)


def scored(study: Study, latents: Float[Tensor, "n R G"]) -> dict[str, Scores]:
    """Score permutations of the latents over the groups in all three ways."""
    sides, crosses = [], []
    for half in study.halves:
        side = standardised(latents[..., half.rows], half.counts, study.rounding)
        sides.append(side)
        crosses.append((side.values.flatten(0, 1) @ half.units).unflatten(0, latents.shape[:2]))
    held_out = [cross[..., : study.num_usable] for cross in crosses]
    exists = sides[0].varies & sides[1].varies
    if study.num_usable:
        choices = [cross.argmax(-1) for cross in held_out]
        best = _across(held_out, choices, exists, study)
        one_to_one = _across(held_out, *_assigned(held_out, exists), study)
    else:
        best = one_to_one = _none_found(exists, folds=2)
    return {"best": best, "one_to_one": one_to_one, "in_sample": _in_sample(study, latents, sides, crosses)}


def _across(held_out: list[Tensor], choices: list[Tensor], exists: Tensor, study: Study) -> Scores:
    """Score the choices of each half on the other half, and average."""
    scores = [
        cross.gather(-1, choice[..., None])[..., 0] for cross, choice in zip(held_out[::-1], choices, strict=True)
    ]
    mean = torch.stack(scores).mean(0).clamp(-1, 1)
    return Scores(mean.where(exists, torch.nan), study.columns[torch.stack(choices, dim=-1)])


def _assigned(held_out: list[Tensor], exists: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return a one-to-one choice of units on each half, and the latents for which one exists."""
    wanted = exists.cpu()
    possible = wanted & (wanted.sum(0) <= held_out[0].shape[-1])
    choices = []
    for cross in held_out:
        on_cpu, choice = cross.cpu(), torch.zeros(exists.shape, dtype=torch.int64)
        for arrangement, rows in enumerate(possible.T):
            choice[rows, arrangement] = torch.from_numpy(
                linear_sum_assignment(on_cpu[rows, arrangement].numpy(), maximize=True)[1]
            )
        choices.append(choice.to(cross.device))
    return choices, possible.to(exists.device)


def _in_sample(study: Study, latents: Tensor, sides: list[Standard], crosses: list[Tensor]) -> Scores:
    """Choose and score on all samples; the covariance is that within the halves plus that between their means."""
    whole = standardised(latents.clone(), study.counts, study.rounding)
    if not len(study.columns):
        return _none_found(whole.varies, folds=1)
    first, second = study.halves
    sizes = first.counts.sum(), second.counts.sum()
    between = (sizes[0] * sizes[1] / (sizes[0] + sizes[1])).sqrt()
    gap = between * (first.mean - second.mean)
    # Never 0, so that a unit that varies by little more than rounding errors scores 0 instead of NaN.
    unit_norm = torch.stack([first.norm, second.norm, gap]).norm(dim=0).clamp_min(torch.finfo(REAL).tiny)
    latent_norm = whole.norm.where(whole.varies, 1)
    total = ((between * (sides[0].mean - sides[1].mean) / latent_norm)[..., None]) * (gap / unit_norm)
    for half, side, cross in zip(study.halves, sides, crosses, strict=True):
        total.addcmul_(cross * (half.norm / unit_norm), (side.norm / latent_norm)[..., None])
    scores, choice = total.max(-1)
    return Scores(scores.clamp(-1, 1).where(whole.varies, torch.nan), study.columns[choice][..., None])


def _none_found(exists: Tensor, folds: int) -> Scores:
    return Scores(
        exists.new_full(exists.shape, torch.nan, dtype=REAL),
        exists.new_zeros((*exists.shape, folds), dtype=torch.int64),
    )


def random_half(member: Int[Tensor, " N"], generator: torch.Generator) -> Bool[Tensor, " N"]:
    """Draw the first half of the samples at random, splitting every group as evenly as possible."""
    order = torch.randperm(len(member), generator=generator)
    rank = torch.randperm(int(member.max()) + 1, generator=generator)[member]
    order = order[rank[order].argsort(stable=True)]
    first = torch.zeros(len(member), dtype=torch.bool)
    first[order[::2]] = True
    return first
