"""Held-out likes and their ranking, on matrices whose numbers can be counted by hand."""

import numpy as np
import pytest

from joma.errors import InvalidArgument
from joma.measure.items.protocol import Split, best_setting, hold_out, ndcg

LIKES = (np.random.default_rng(0).random((40, 30)) < 0.4).astype(float)
ONE_USER = Split(np.array([[1.0, 0, 0, 0, 0]]), np.array([[0, 0, 1.0, 0, 1.0]]))


def test_a_fifth_of_each_users_likes_is_held_out_and_the_rest_stays():
    split = hold_out(LIKES, seed=1)
    np.testing.assert_array_equal(split.train + split.held_out, LIKES)
    np.testing.assert_array_equal(split.held_out.sum(1), LIKES.sum(1) // 5)


def test_another_seed_holds_out_other_likes_and_the_same_seed_the_same():
    one, same, other = (hold_out(LIKES, seed).held_out for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_ndcg_is_1_if_held_out_items_come_first_and_0_if_they_come_last():
    split = hold_out(LIKES, seed=1)
    assert ndcg(split.held_out, split, at=5) == pytest.approx(1)
    assert ndcg(-split.held_out, split, at=5) == 0


def test_ndcg_of_one_user_is_the_sum_of_discounts_over_that_of_the_ideal_ranking():
    scores = np.array([[9.0, 5, 4, 3, 2]])  # the liked item 0 is not ranked: held-out items are at ranks 2 and 4
    expected = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert ndcg(scores, ONE_USER, at=4) == pytest.approx(expected)
    assert ndcg(scores, ONE_USER, at=1) == 0


def test_of_equal_scores_the_item_with_the_smaller_index_comes_first():
    assert ndcg(np.zeros((1, 5)), ONE_USER, at=2) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def test_a_user_without_held_out_likes_does_not_count():
    split = Split(np.vstack([ONE_USER.train, LIKES[:1, :5]]), np.vstack([ONE_USER.held_out, np.zeros((1, 5))]))
    scores = np.vstack([ONE_USER.held_out, np.zeros((1, 5))])
    assert ndcg(scores, split, at=2) == pytest.approx(1)


def test_the_best_setting_is_chosen_on_training_likes_alone():
    given = []

    def recommender(likes):
        given.append(likes)
        return {"bad": lambda: -LIKES, "good": lambda: LIKES}

    assert best_setting(recommender, LIKES, seed=0) == "good"
    assert (given[0] <= LIKES).all()
    assert given[0].sum() < LIKES.sum()


@pytest.mark.parametrize(
    ("likes", "match"),
    [(np.full((2, 3), 2.0), "of other numbers"), (np.ones(3), "of shape"), (np.eye(3), "no user has more than 1")],
)
def test_likes_that_cannot_be_split_are_refused(likes, match):
    with pytest.raises(InvalidArgument, match=match):
        hold_out(likes, seed=0)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InvalidArgument, match="not finite"):
        ndcg(np.full((1, 5), np.nan), ONE_USER, at=2)
