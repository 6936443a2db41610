"""Whether single columns of numbers about items (hidden units, raw counts) stand for attributes of the items.

The unit for an attribute is chosen on one half of the items and scored on the other, and the halves are exchanged. The
score is the AUC: the probability that an item with the attribute has a higher value than one without it; 1/2 is chance.

Axes: I items, K units, G attributes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from joma.domains import check_seed
from joma.errors import InvalidArgument
from joma.roc import auc

Attributes = Bool[np.ndarray, "I G"]


def best_units(units: Float[np.ndarray, "I K"], attributes: Attributes, seed: int) -> Float[np.ndarray, " G"]:
    """Return the held-out AUC of the unit that is best for each attribute on the other half of the items.

    Args:
        units: (I, K), finite.
        attributes: (I, G); in both halves, some items have an attribute and some do not.
        seed: of the halves.

    Returns:
        (G,) the mean over both ways to use the halves.

    Raises:
        InvalidArgument: units that are not finite, or an attribute that all items of a half have, or none.
    """
    check_seed(seed, "best_units")
    if units.ndim != 2 or len(units) != len(attributes) or not np.isfinite(units).all():
        required, remedy = f"finite numbers of shape ({len(attributes)}, units)", "pass one row for each item"
        received = f"of shape {units.shape}, finite or not"
        raise InvalidArgument("best_units", "units", required=required, received=received, remedy=remedy)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(units)), 2)
    one, other = (auc(units[half], attributes[half]) for half in halves)
    if np.isnan(one + other).any() or not one.size:
        required, remedy = "had by some items of each half, and not by all", "leave out rare attributes"
        raise InvalidArgument("best_units", "attributes", required=required, received="rarer ones", remedy=remedy)
    return (_scored(one, other) + _scored(other, one)) / 2


def _scored(chosen_on: Float[np.ndarray, "K G"], scored_on: Float[np.ndarray, "K G"]) -> Float[np.ndarray, " G"]:
    """The second score of the unit with the best first score, for each attribute."""
    return np.take_along_axis(scored_on, chosen_on.argmax(0)[None], 0)[0]
