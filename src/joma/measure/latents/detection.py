"""How well single units detect parts: the best unit of each part is chosen on some samples and scored on others.

A part is present (1), absent (0) or does not count (−1) in a sample. The score is the area under the ROC curve (AUC):
the probability that the unit ranks a sample with the part above one without it, 0.5 by chance.

What is chosen is the unit with the largest absolute correlation, or with the largest area. Samples can be pictures, or
items that have attributes.

Axes: N samples, K units, P parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL
from joma.domains import check_seed
from joma.errors import InvalidArgument
from joma.roc import auc, of_one

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Detection:
    """The unit of each part that was chosen on some samples, with its score on others.

    Args:
        units: the units chosen, (P,).
        areas: their AUC, (P,); a unit that is lower where the part is present counts with its sign reversed, if it was
            so where it was chosen. NaN where the part is present, or absent, in none of the samples.
    """

    units: Int[np.ndarray, " P"]
    areas: Float[np.ndarray, " P"]


def detection(
    chosen_on: tuple[Float[Tensor, "N K"], Int[Tensor, "N P"]],
    scored_on: tuple[Float[Tensor, "M K"], Int[Tensor, "M P"]],
    *,
    by: Literal["correlation", "area"] = "correlation",
) -> Detection:
    """Choose the best unit for each part, and score it on other samples.

    Args:
        chosen_on: units and the presence of parts (1, 0 or −1) in the samples on which units are chosen.
        scored_on: the same of the others.
        by: what is largest for the best unit: its absolute ``correlation`` with the part, so that its sign may be
            reversed, or its ``area``, so that it must be higher where the part is present.

    Raises:
        InvalidArgument: numbers of samples, units or parts that differ, or no unit or sample.
    """
    for name, (units, presence) in (("chosen_on", chosen_on), ("scored_on", scored_on)):
        sizes = (len(units), *units.shape[1:], *presence.shape[1:])
        needed = (len(presence), *chosen_on[0].shape[1:], *chosen_on[1].shape[1:])
        if sizes != needed or 0 in sizes[:2]:
            received, remedy = f"of shapes {tuple(units.shape)} and {tuple(presence.shape)}", "check the axes"
            required = "units (N, K) and presence (N, P), with the same units and parts in both"
            raise InvalidArgument("detection", name, required=required, received=received, remedy=remedy)
    if by == "area":
        units = torch.from_numpy(_areas(*chosen_on).argmax(0))
        signs = torch.ones(len(units), dtype=REAL)
    else:
        found = masked_correlations(*chosen_on)
        units = found.abs().argmax(0)
        signs = found.gather(0, units[None])[0].sign()
    chosen = (scored_on[0].to(REAL)[:, units] * signs).T.numpy()
    areas = [area(values, here) for values, here in zip(chosen, scored_on[1].T.numpy(), strict=True)]
    return Detection(units.numpy(), np.array(areas))


def best_units(
    units: Float[np.ndarray, "N K"], attributes: Bool[np.ndarray, "N P"], seed: int
) -> Float[np.ndarray, " P"]:
    """Return the AUC of the best unit for each attribute, chosen by its AUC on one half of the samples.

    Args:
        units: (N, K), finite.
        attributes: (N, P); in both halves, some samples have an attribute and some do not.
        seed: of the halves.

    Returns:
        (P,) the mean over both ways to use the halves.

    Raises:
        InvalidArgument: units that are not finite, or an attribute that all samples of a half have, or none.
    """
    check_seed(seed, "best_units")
    if units.ndim != 2 or len(units) != len(attributes) or not np.isfinite(units).all():
        required, remedy = f"finite numbers of shape ({len(attributes)}, units)", "pass one row for each sample"
        received = f"of shape {units.shape}, finite or not"
        raise InvalidArgument("best_units", "units", required=required, received=received, remedy=remedy)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(units)), 2)
    one, other = ((torch.from_numpy(units[half]), torch.from_numpy(attributes[half]).int()) for half in halves)
    areas = (detection(one, other, by="area").areas + detection(other, one, by="area").areas) / 2
    if np.isnan(areas).any() or not areas.size:
        required, remedy = "had by some samples of each half, and not by all", "leave out rare attributes"
        raise InvalidArgument("best_units", "attributes", required=required, received="rarer ones", remedy=remedy)
    return areas


def masked_correlations(units: Float[Tensor, "N K"], presence: Int[Tensor, "N P"]) -> Float[Tensor, "K P"]:
    """Return the correlation of every unit with every part over the samples that count for it; 0 if one is constant."""
    units = units.to(REAL)
    units = units - units.mean(0)  # so that squares lose no digits
    counts, here = (presence >= 0).to(REAL), (presence == 1).to(REAL)
    nums = counts.sum(0).clamp_min(1)
    mean, share = units.T @ counts / nums, here.sum(0) / nums
    variance = (units.square().T @ counts / nums - mean.square()) * (share - share.square())
    found = (units.T @ here / nums - mean * share) / variance.clamp_min(_TINY**2).sqrt()
    return found.where(variance > _TINY * units.square().mean(0)[:, None], 0.0)


def area(values: Float[np.ndarray, " N"], presence: Int[np.ndarray, " N"]) -> float:
    """Return the AUC of one unit for one part; ties count half, NaN if the part is present or absent in no sample."""
    counts = presence >= 0
    return of_one(values[counts], presence[counts] == 1)


def _areas(units: Float[Tensor, "N K"], presence: Int[Tensor, "N P"]) -> Float[np.ndarray, "K P"]:
    """The AUC of every unit for every part."""
    values, here = units.numpy(), presence.numpy()
    if (here >= 0).all():
        return auc(values, here == 1)
    return np.concatenate([auc(values[one >= 0], one[one >= 0, None] == 1) for one in here.T], axis=1)


def within_classes(presence: Int[Tensor, "N P"], labels: Int[Tensor, " N"]) -> Int[Tensor, "N P"]:
    """Return the presence of parts in samples of those classes only that have each part at least once; −1 elsewhere.

    Where every sample of such classes has a part, the label determines it, and no sample without it is left.
    """
    num = int(labels.max()) + 1
    has = torch.zeros(num, presence.shape[1], dtype=torch.bool).index_put_((labels,), presence == 1, accumulate=True)
    return presence.where(has[labels], -1)
