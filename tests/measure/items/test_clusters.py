"""Trees and flat clusters of items: the formula by hand, and tastes that were planted."""

import numpy as np
import pytest
from planted_tastes import GROUPS, planted_likes

from joma.errors import InvalidArgument
from joma.measure.items.clusters import (
    cluster_scores,
    flat,
    flat_clusters,
    item_tree,
    overlap_within,
    tree_scores,
    trees,
    unit_items,
)
from joma.measure.items.protocol import best_setting, hold_out, ndcg
from joma.measure.items.rivals import popularity

LIKES = planted_likes()


def preference(likes, tree, user, item, strength):
    """The formula of ``tree_scores`` for one user and one item, from the root down in plain Python."""
    num, shares = likes.shape[1], likes.sum(0) / likes.sum()
    members = {node: [node] for node in range(num)}
    for node, (one, other) in enumerate(tree[:, :2].astype(int), num):
        members[node] = members[one] + members[other]
    node, found = 2 * num - 2, 1.0
    while node >= num:
        one, other = tree[node - num, :2].astype(int)
        node, rest = (one, other) if item in members[one] else (other, one)
        liked, expected = likes[user, members[rest]].sum(), likes[user].sum() * shares[members[rest]].sum()
        found = (liked + strength * found) / (expected + strength)
    return found


@pytest.mark.parametrize("method", ["average", "ward"])
def test_scores_of_a_tree_are_popularity_times_the_preference_down_the_tree(method):
    tree, shares = item_tree(LIKES, method), LIKES.sum(0) / LIKES.sum()
    scores = tree_scores(LIKES, tree, 0.7)
    for user, item in ((0, 0), (3, 41), (199, 79)):
        assert scores[user, item] == pytest.approx(shares[item] * preference(LIKES, tree, user, item, 0.7))


@pytest.mark.parametrize("method", ["average", "ward"])
def test_the_tree_has_the_planted_groups_and_their_pairs_as_clusters(method):
    many = planted_likes(2000)
    for groups, num in ((GROUPS, 8), (GROUPS // 2, 4)):
        clusters = flat_clusters(item_tree(many, method), num)
        assert len(set(zip(groups, clusters, strict=True))) == num == len(set(clusters))


def test_a_tree_recommends_better_than_popularity_and_its_permutation_does_not():
    split = hold_out(LIKES, seed=0)
    order = np.random.default_rng(0).permutation(LIKES.shape[1])
    found = {}
    for name, recommender in (("tree", trees), ("permuted", lambda likes: trees(likes, order)), ("flat", flat)):
        found[name] = ndcg(recommender(split.train)[best_setting(recommender, split.train, 0)](), split)
    by_popularity = ndcg(popularity(split.train), split)
    assert min(found["tree"], found["flat"]) > 1.5 * by_popularity > found["permuted"]


def test_items_in_their_own_places_are_the_tree_itself():
    setting = "ward linkage, strength 1"
    np.testing.assert_array_equal(trees(LIKES, np.arange(80))[setting](), trees(LIKES)[setting]())


def test_very_strong_back_off_is_popularity():
    for scores in (tree_scores(LIKES, item_tree(LIKES), 1e12), cluster_scores(LIKES, GROUPS, 1e12)):
        np.testing.assert_allclose(scores, np.broadcast_to(LIKES.sum(0) / LIKES.sum(), LIKES.shape), rtol=1e-9)


def test_scores_of_flat_clusters_leave_the_item_itself_out():
    likes, clusters = np.array([[1.0, 1, 0, 0], [0, 1, 1, 1]]), np.array([0, 0, 1, 1])
    scores = cluster_scores(likes, clusters, 1.0)
    assert scores[1, 0] == pytest.approx((1 + 1) / (3 * 2 / 5 + 1) / 5)  # it likes item 1; popularity gives 3 · 2/5


def test_items_have_length_1_and_items_that_nobody_likes_0():
    likes = LIKES.copy()
    likes[:, 5] = 0
    np.testing.assert_allclose(np.linalg.norm(unit_items(likes), axis=1), np.arange(80) != 5)
    assert np.isfinite(tree_scores(likes, item_tree(likes, "average"), 1.0)).all()


def test_overlap_is_the_mean_of_intersection_over_union_within_clusters():
    attributes = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]], bool)
    assert overlap_within(attributes, np.array([0, 0, 1, 1, 1])) == pytest.approx(0.5)
    assert overlap_within(attributes, np.zeros(5, int)) == pytest.approx((0.5 + 0 + 1 / 3 + 0 + 0 + 0.5) / 6)
    assert np.isnan(overlap_within(attributes, np.arange(5)))


def test_likes_without_a_pair_and_trees_of_other_items_are_refused():
    with pytest.raises(InvalidArgument, match="no user likes two items"):
        item_tree(np.eye(4))
    with pytest.raises(InvalidArgument, match="of 79"):
        tree_scores(LIKES, item_tree(LIKES[:, :79]), 1.0)
