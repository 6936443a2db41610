"""The upper part of a tree of items: clusters, what they share, and how they join, on planted tastes."""

import numpy as np
import pandas
import pytest
from planted_tastes import GROUPS, planted_likes

from joma.errors import BadInput, InvalidArgument
from joma.measure.items.outline import outline
from joma.tables.ratings import read_ratings


@pytest.fixture(scope="module")
def ratings():
    likes = planted_likes(1000)
    rows = [(user, item, 5, f"{item:02}", f"group {GROUPS[item]}") for user, item in zip(*likes.nonzero(), strict=True)]
    return read_ratings(pandas.DataFrame(rows, columns=["user", "item", "value", "title", "genres"]))


def test_clusters_are_the_planted_groups_and_pairs_join_first(ratings):
    found = outline(ratings, 8)
    groups = [{GROUPS[int(title)] for title in cluster.titles} for cluster in found.clusters]
    assert sorted(map(len, groups)) == [1] * 8
    order = [group for (group,) in groups]
    assert sorted({tuple(sorted(map(int, order[place : place + 2]))) for place in (0, 2, 4, 6)}) == [
        (0, 1), (2, 3), (4, 5), (6, 7)
    ]  # fmt: skip
    first = [{join.one, join.other} for join in found.joins[:4]]
    assert sorted(map(min, first)) == [0, 2, 4, 6]
    assert found.joins[-1].distance == max(join.distance for join in found.joins)
    assert len(found.joins) == 7


def test_a_cluster_has_its_genre_its_likes_and_its_mean_cosine(ratings):
    found, likes = outline(ratings, 8), ratings.likes()
    for cluster in found.clusters:
        items = [int(title) for title in cluster.titles]
        (shared,) = cluster.shared
        assert (shared.genre, shared.share, shared.share_of_all) == (f"group {GROUPS[items[0]]}", 1, 1 / 8)
        assert cluster.num_likes == likes[:, items].sum()
        assert (np.diff(likes[:, items].sum(0)) <= 0).all()
        units = likes[:, items] / np.linalg.norm(likes[:, items], axis=0)
        cosines = (units.T @ units)[np.triu_indices(10, 1)]
        assert cluster.similarity == pytest.approx(cosines.mean())
        assert cluster.similarity > 2 * found.similarity


def test_every_item_is_in_one_cluster_however_many_there_are(ratings):
    for num in (2, 31, 80):
        found = outline(ratings, num)
        assert len(found.clusters) == num
        assert sorted(int(title) for cluster in found.clusters for title in cluster.titles) == list(range(80))
    assert all(cluster.similarity is None and not cluster.shared for cluster in found.clusters)


def test_more_clusters_than_items_and_no_likes_are_refused(ratings):
    with pytest.raises(InvalidArgument, match="`num_clusters` is 81"):
        outline(ratings, 81)
    with pytest.raises(BadInput, match="no user likes two"):
        outline(ratings, 8, least=6)
