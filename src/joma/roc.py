"""The area under the ROC curve (AUC): how well numbers separate entries that have something from those that do not."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def auc(values: Float[np.ndarray, "N K"], present: Bool[np.ndarray, "N G"]) -> Float[np.ndarray, "K G"]:
    """Return the probability that an entry with an attribute has a higher value than one without it; ties count half.

    Args:
        values: (N, K), K numbers for each entry.
        present: (N, G), which of G attributes each entry has.

    Returns:
        (K, G) in [0, 1], 1/2 by chance; NaN for an attribute that all entries have, or none.
    """
    from scipy.stats import rankdata

    num_with = present.sum(0)
    pairs = num_with * (len(present) - num_with)
    above = rankdata(values, axis=0).T @ present - num_with * (num_with + 1) / 2
    return np.divide(above, pairs, out=np.full(above.shape, np.nan), where=pairs > 0)


def of_one(values: Float[np.ndarray, " N"], present: Bool[np.ndarray, " N"]) -> float:
    """Return the AUC of one number for one attribute."""
    return float(auc(values[:, None], present[:, None])[0, 0])
