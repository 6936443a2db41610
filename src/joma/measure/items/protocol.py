"""Held-out likes: how well scores rank the items that a user likes, of which the scores have not seen these.

A like is 0 or 1. A recommender makes scores from likes; where it has settings, they are chosen on a part of the likes
that it is given, never on those on which it is evaluated in the end.

Axes: U users, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from joma.domains import FRACTION, check_seed, check_whole
from joma.errors import InvalidArgument

Likes = Float[np.ndarray, "U I"]
"""1 where a user likes an item, 0 elsewhere."""

Scores = Float[np.ndarray, "U I"]
"""Of every item for every user; the higher, the better. Only their order within a user counts."""

Candidates = Mapping[str, Callable[[], Scores]]
"""Scores by the settings with which a recommender makes them."""

Recommender = Callable[[Likes], Candidates]


class Split(NamedTuple):
    """Likes in two parts: those that a recommender is given, and those on which it is evaluated."""

    train: Likes
    held_out: Likes


def hold_out(likes: Likes, seed: int, share: float = 0.2) -> Split:
    """Hold out a share of each user's likes, rounded down.

    Args:
        likes: (U, I) of 0 and 1.
        seed: of the choice.
        share: in [0, 1).

    Raises:
        InvalidArgument: the matrix holds other numbers, or no user has enough likes that one is held out.
    """
    check_seed(seed, "hold_out")
    FRACTION.check(share, "hold_out", "share")
    _require_likes(likes, "hold_out")
    keys = np.where(likes > 0, np.random.default_rng(seed).random(likes.shape), np.inf)
    ranks = keys.argsort(axis=1).argsort(axis=1)
    held_out = (ranks < np.floor(share * likes.sum(1, keepdims=True))).astype(likes.dtype)
    if not held_out.any():
        raise InvalidArgument(
            "hold_out",
            "likes",
            required=f"a user with so many likes that {share:g} of them are at least one",
            received=f"likes of which no user has more than {int(likes.sum(1).max(initial=0))}",
            remedy="give users with more likes, or hold out a larger share",
        )
    return Split(likes - held_out, held_out)


def ndcg(scores: Scores, split: Split, at: int = 20) -> float:
    """Return the normalised discounted cumulative gain of the best-scored items, mean over users.

    DCG@k = Σᵣ₌₁ᵏ [the item at rank r is held out] / log₂(r + 1); it is divided by that of a ranking with all held-out
    items first. Items that a user likes in the training part are not ranked, users without held-out likes do not count,
    and of items with equal scores the one with the smaller index comes first.

    Args:
        scores: (U, I), finite.
        split: the likes that the scores were made from, and those held out.
        at: k, the number of ranks.

    Raises:
        InvalidArgument: scores of another shape or not finite, or no like is held out.
    """
    check_whole(at, "ndcg", "at", high=split.train.shape[1], remedy="take 20, or fewer than there are items")
    if scores.shape != split.train.shape or not np.isfinite(scores).all():
        required, remedy = f"finite numbers of shape {split.train.shape}", "score every item for every user"
        received = "not finite" if scores.shape == split.train.shape else f"of shape {scores.shape}"
        raise InvalidArgument("ndcg", "scores", required=required, received=received, remedy=remedy)
    counted = split.held_out.any(1)
    if not counted.any():
        required, remedy = "with held-out likes", "hold out a larger share"
        raise InvalidArgument("ndcg", "split", required=required, received="without any", remedy=remedy)
    held_out = split.held_out[counted]
    first = _first(np.where(split.train > 0, -np.inf, scores)[counted], at)
    discounts = 1 / np.log2(np.arange(at) + 2)
    gains = np.take_along_axis(held_out, first, 1) @ discounts
    ideal = np.cumsum(discounts)[np.minimum(held_out.sum(1).astype(int), at) - 1]
    return float((gains / ideal).mean())


def best_setting(recommender: Recommender, train: Likes, seed: int) -> str:
    """Return the settings of a recommender with the highest NDCG@20 on a fifth of the training likes.

    Args:
        recommender: given the other likes.
        train: (U, I) the likes that may be used.
        seed: of the fifth.
    """
    inner, at = hold_out(train, seed), min(20, train.shape[1])
    found = {setting: ndcg(scores(), inner, at) for setting, scores in recommender(inner.train).items()}
    return max(found, key=found.__getitem__)


def _first(scores: Scores, num: int) -> Int[np.ndarray, "U num"]:
    """The items with the highest scores, in descending order."""
    lowest = -np.partition(-scores, num - 1, axis=1)[:, num - 1 : num]
    above = np.where(scores >= lowest, scores, -np.inf)  # all that tie with the last one stay
    return np.argsort(-above, axis=1, kind="stable")[:, :num]


def _require_likes(likes: Likes, function: str) -> None:
    if likes.ndim != 2 or not likes.size or not np.isin(likes, (0, 1)).all():
        required, remedy = "0 and 1 of shape (users, items)", "make them with `Ratings.likes`"
        received = f"of shape {likes.shape}" if likes.ndim != 2 or not likes.size else "of other numbers"
        raise InvalidArgument(function, "likes", required=required, received=received, remedy=remedy)
