"""Recommenders without clusters, against their definitions."""

import numpy as np
import pytest
from planted_tastes import planted_likes

from joma.errors import InvalidArgument
from joma.measure.items.protocol import best_setting, hold_out, ndcg
from joma.measure.items.rivals import ease, item_knn, item_similarity, linear_autoencoder, nearest_items, popularity

LIKES = planted_likes()


def test_ease_is_the_ridge_regression_of_each_item_on_all_others():
    scores, penalty = ease(LIKES, 3.0), 3.0
    for item in (0, 17):
        others = np.delete(np.arange(80), item)
        x = LIKES[:, others]
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(79), x.T @ LIKES[:, item])
        np.testing.assert_allclose(scores[:, item], x @ weights, atol=1e-10)


def test_similarity_is_the_cosine_and_is_halved_at_as_many_likes_as_the_shrinkage():
    likes = np.array([[1.0, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]])
    assert item_similarity(likes)[0, 2] == pytest.approx(1 / 2)
    assert item_similarity(likes, 4.0)[0, 1] == pytest.approx(1 / 2)
    assert (item_similarity(likes).diagonal() == 0).all()


def test_only_the_nearest_items_count():
    likes = np.array([[1.0, 1, 1, 0], [1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
    similarity = item_similarity(likes)
    np.testing.assert_allclose(item_knn(likes, 1)[:, 0], likes[:, 1] * similarity[1, 0])
    np.testing.assert_allclose(item_knn(likes, 4), likes @ similarity)


@pytest.mark.parametrize("recommender", [nearest_items, linear_autoencoder])
def test_both_recommend_better_than_popularity(recommender):
    split = hold_out(LIKES, seed=0)
    scores = recommender(split.train)[best_setting(recommender, split.train, 0)]()
    assert ndcg(scores, split) > 1.5 * ndcg(popularity(split.train), split)


def test_settings_out_of_range_are_refused():
    for wrong in (lambda: ease(LIKES, 0.0), lambda: item_knn(LIKES, 81), lambda: item_similarity(LIKES, -1.0)):
        with pytest.raises(InvalidArgument):
            wrong()
