"""PyOD's detectors on checked tables, for comparison with a tree of the columns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module

import numpy as np

from joma.claims.anomaly.tables import Case
from joma.extras import extra
from joma.tables.columns import Column

DETECTORS: Mapping[str, tuple[str, bool]] = {
    "kNN": ("knn.KNN", False),
    "IForest": ("iforest.IForest", True),
    "HBOS": ("hbos.HBOS", False),
    "ECOD": ("ecod.ECOD", False),
    "COPOD": ("copod.COPOD", False),
}
"""By name: the class below ``pyod.models``, and whether it takes a seed."""


def pyod_scores(case: Case, seed: int) -> dict[str, np.ndarray]:
    """Return the scores of the rows to score by each of PyOD's detectors with its default settings.

    Numbers are standardised, missing ones replaced by the median; each category is a column of zeros and ones.

    Raises:
        NotInstalled: PyOD is missing.
    """
    extra("pyod", "kNN, IForest, HBOS, ECOD and COPOD are PyOD's", name="anomalies")
    pairs = zip(case.train.columns, case.test.columns, strict=True)
    both = [_features(train, test) for train, test in pairs]
    train, test = (np.concatenate([pair[side] for pair in both], axis=1) for side in (0, 1))
    found = {}
    for name, (path, takes_seed) in DETECTORS.items():
        module, kind = path.split(".")
        detector = getattr(import_module(f"pyod.models.{module}"), kind)(
            **({"random_state": seed} if takes_seed else {})
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = np.asarray(detector.fit(train).decision_function(test))
    return found


def _features(train: Column, test: Column) -> tuple[np.ndarray, np.ndarray]:
    if train.categories:
        codes = np.arange(len(train.categories))
        return (train.values[:, None] == codes).astype(float), (test.values[:, None] == codes).astype(float)
    middle, spread = np.nanmedian(train.values), np.nanstd(train.values) or 1.0
    one, other = (np.where(np.isnan(side.values), middle, side.values) for side in (train, test))
    return ((one - middle) / spread)[:, None], ((other - middle) / spread)[:, None]
