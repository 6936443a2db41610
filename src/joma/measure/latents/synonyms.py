"""How much representations change when parts of the input are exchanged for synonyms.

A representation that has found a latent does not depend on how the latent is written. Its sensitivity is 0 if it does
not change at all, and 1 if it changes as much as between two unrelated samples.

Axes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL, as_float_tensor, wrong_shape
from joma.errors import InvalidArgument


def synonym_sensitivity(units: Float[Tensor, "N ..."], exchanged: Float[Tensor, "N ..."]) -> float | None:
    """Return the mean squared distance of samples from their exchanged twins, over that of different samples.

    >>> import torch, joma
    >>> units = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    >>> joma.synonym_sensitivity(units, units), round(joma.synonym_sensitivity(units, units.roll(1, 0)), 1)
    (0.0, 1.0)

    Args:
        units: activations of samples, with any axes after the first.
        exchanged: those of the same samples after an exchange, in the same order.

    Returns:
        0 for an invariant representation, about 1 for one in which nothing is left of a sample, and ``None`` if the
        representation is the same for all samples. The distance of different samples is the mean over all pairs.

    Source: Cagnetta et al., arXiv 2307.02129, section IV (there for layers before the activation).
    """
    units, exchanged = (
        as_float_tensor(part, "synonym_sensitivity", name)
        for part, name in ((units, "units"), (exchanged, "exchanged"))
    )
    if units.dim() < 2 or len(units) < 2 or not units.numel():
        raise wrong_shape("synonym_sensitivity", "units", "(samples, ...), with at least two samples", units)
    if exchanged.shape != units.shape:
        raise wrong_shape("synonym_sensitivity", "exchanged", f"{tuple(units.shape)}, that of units", exchanged)
    before, after = (part.detach().flatten(1).to(REAL) for part in (units, exchanged))
    for name, part in (("units", before), ("exchanged", after)):
        if not part.isfinite().all():
            received, remedy = "NaN or infinite numbers", "check whether the network diverged"
            raise InvalidArgument(
                "synonym_sensitivity", name, required="finite numbers", received=received, remedy=remedy
            )
    spread = 2 * before.var(0).sum()  # the mean squared distance over all pairs of different samples
    rounding = torch.finfo(units.dtype).eps * before.abs().amax()
    if spread <= before.shape[1] * rounding**2:
        return None
    return float((before - after).square().sum(1).mean() / spread)


def sensitivities(layers: Sequence[Tensor], exchanged: Sequence[Sequence[Tensor]]) -> list[list[float | None]]:
    """Return the sensitivity of every layer to every exchange.

    Args:
        layers: per layer (N, ...) activations.
        exchanged: for each exchange, such as that of each level, the activations of the same layers after it.

    Returns:
        One row per layer, with one number for each exchange.
    """
    if any(len(part) != len(layers) for part in exchanged):
        required, received = f"{len(layers)} layers for each exchange", f"{[len(part) for part in exchanged]}"
        remedy = "pass the same layers before and after each exchange"
        raise InvalidArgument("sensitivities", "exchanged", required=required, received=received, remedy=remedy)
    return [[synonym_sensitivity(units, part[layer]) for part in exchanged] for layer, units in enumerate(layers)]
