"""PyOD's detectors score rows of checked tables."""

import numpy as np
import pandas
import pytest

from joma.claims.anomaly.rivals import DETECTORS, pyod_scores
from joma.claims.anomaly.tables import Case
from joma.tables.columns import read_table


def test_every_detector_scores_a_row_far_outside_higher_than_the_others():
    pytest.importorskip("pyod", reason="pip install 'joma[anomalies]'")
    drawn = np.random.default_rng(0).normal(size=(220, 3))
    drawn[-1] = 30
    train, test = (read_table(pandas.DataFrame(rows, columns=list("abc"))) for rows in (drawn[:200], drawn[200:]))
    scores = pyod_scores(Case(train, test, np.arange(20) == 19), seed=0)
    assert scores.keys() == DETECTORS.keys()
    assert all(found.argmax() == 19 for found in scores.values())
