"""recommendation.units: its networks, controls and charts on planted tastes."""

import numpy as np
import pandas
import pytest
from planted_tastes import GROUPS, planted_likes

from conclusions import faults
from joma.claims.recommendation import units
from joma.claims.recommendation.units import Sizes, evaluate
from joma.claims.workspace import Profile, Workspace
from joma.errors import BadInput

SMALL = Sizes(16, 32, num_layers=2, num_steps=4, num_seeds=3, num_shuffles=2)


@pytest.fixture
def ratings():
    likes = planted_likes(1500)
    rows = [
        (user, item, 5, np.sin(7 * user + 3 * item), f"genre {GROUPS[item] // 2}")
        for user, item in zip(*likes.nonzero(), strict=True)
    ]
    return pandas.DataFrame(rows, columns=["user", "item", "value", "time", "genres"])


def test_planted_genres_are_in_co_likes_and_untrained_units_have_less(tmp_path, monkeypatch, ratings):
    monkeypatch.setitem(units.SIZES, Profile.QUICK, SMALL)
    ratings.to_parquet(tmp_path / "ratings.parquet")
    agreement = evaluate(Workspace(tmp_path, num_workers=1, data={"ratings": str(tmp_path / "ratings.parquet")}))
    found = {finding.name: finding.estimate.mean for finding in agreement.findings}
    assert found["AUC, co-likes"] > 0.8
    assert abs(found["AUC, trained, genres shuffled"] - 0.5) < 0.1
    assert agreement.measured.mean == pytest.approx(
        found["AUC, trained"] - max(found["AUC, untrained"], found["AUC, co-likes"])
    )
    assert not faults(agreement.conclusion)
    assert [len(chart.curves) for chart in agreement.charts] == [3, 3]


@pytest.mark.parametrize(("left_out", "match"), [("genres", "no genre has 20 items"), ("time", "no times")])
def test_ratings_without_genres_or_times_are_refused(tmp_path, ratings, left_out, match):
    ratings.drop(columns=left_out).to_csv(tmp_path / "ratings.csv", index=False)
    with pytest.raises(BadInput, match=match):
        evaluate(Workspace(tmp_path, data={"ratings": str(tmp_path / "ratings.csv")}))
