"""The upper part of a tree of items: its clusters, what the items of each have in common, and how clusters join."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from joma.domains import check_whole
from joma.measure.items.clusters import item_tree
from joma.measure.items.rivals import item_similarity
from joma.tables.ratings import Ratings

LEAST_SHARING, LEAST_SHARE, LEAST_RATIO = 3, 0.1, 1.5
"""What it takes to name a genre of a cluster: items that have it, their share, and its ratio to that of all items."""


@dataclass(frozen=True)
class Shared:
    """A genre that is more frequent in a cluster than among all items, with its share in both."""

    genre: str
    share: float
    share_of_all: float


@dataclass(frozen=True)
class Cluster:
    """A cluster of items.

    Args:
        titles: of its items, those with the most likes first.
        num_likes: of all its items together.
        similarity: cosine of two items' users, mean over the pairs of its items; ``None`` for a single item.
        shared: genres, those first that exceed their share of all items by most.
    """

    titles: tuple[str, ...]
    num_likes: int
    similarity: float | None
    shared: tuple[Shared, ...]


@dataclass(frozen=True)
class Join:
    """Two nodes that become one: clusters by their index, earlier joins after them, at Ward's distance."""

    one: int
    other: int
    distance: float


@dataclass(frozen=True)
class Outline:
    """The upper part of a tree of items.

    Args:
        clusters: in the order of the tree.
        joins: one fewer than clusters; join j is node ``len(clusters) + j``.
        similarity: cosine of two items' users, mean over all pairs of items.
        num_users, num_items, num_likes: that the tree was learned from.
        num_replaced: ratings that a later one of the same user and item replaced.
    """

    clusters: tuple[Cluster, ...]
    joins: tuple[Join, ...]
    similarity: float
    num_users: int
    num_items: int
    num_likes: int
    num_replaced: int

    def to_json(self) -> dict[str, Any]:
        """Return the outline as plain data."""
        return asdict(self)


def outline(ratings: Ratings, num_clusters: int = 24, least: float | None = None) -> Outline:
    """Learn the tree of all items (Ward's linkage, ``item_tree``), and describe its upper part.

    Args:
        ratings: of the items.
        num_clusters: into which the tree is cut; at most as many as items.
        least: value from which on a rating is a like; by default four fifths of the highest.

    Raises:
        BadInput: no user likes two items.
        InvalidArgument: more clusters than items, or too many items.
    """
    remedy = "ask for fewer clusters than there are items"
    check_whole(num_clusters, "outline", "num_clusters", low=2, high=ratings.num_items, remedy=remedy)
    likes = ratings.likes(least)
    tree, similarity = item_tree(likes), item_similarity(likes)
    num_items = ratings.num_items
    first = 2 * num_items - num_clusters  # the first node above the cut
    parts, order = tree[:, :2].astype(int), []
    stack = [2 * num_items - 2]
    while stack:
        node = stack.pop()
        if node < first:
            order.append(node)
        else:
            stack += reversed(parts[node - num_items].tolist())
    place = {node: index for index, node in enumerate(order)}
    place |= {node: num_clusters + index for index, node in enumerate(range(first, 2 * num_items - 1))}
    joins = tuple(
        Join(place[one], place[other], float(tree[node - num_items, 2]))
        for node in range(first, 2 * num_items - 1)
        for one, other in [parts[node - num_items].tolist()]
    )
    return Outline(
        tuple(_cluster(ratings, likes, similarity, _items(parts, node, num_items)) for node in order),
        joins,
        _mean_of_pairs(similarity) or 0.0,
        ratings.num_users,
        num_items,
        int(likes.sum()),
        ratings.num_replaced,
    )


def _items(parts: Int[np.ndarray, "I-1 2"], node: int, num_items: int) -> list[int]:
    found, stack = [], [node]
    while stack:
        here = stack.pop()
        if here < num_items:
            found.append(here)
        else:
            stack += parts[here - num_items].tolist()
    return found


def _cluster(
    ratings: Ratings, likes: Float[np.ndarray, "U I"], similarity: Float[np.ndarray, "I I"], items: list[int]
) -> Cluster:
    counts = likes[:, items].sum(0)
    by_likes = np.asarray(items)[np.argsort(-counts, kind="stable")]
    num_sharing = ratings.genres[items].sum(0)
    here, of_all = num_sharing / len(items), ratings.genres.mean(0)
    named = (num_sharing >= LEAST_SHARING) & (here >= np.maximum(LEAST_SHARE, LEAST_RATIO * of_all))
    shared = [
        Shared(ratings.genre_names[genre], float(here[genre]), float(of_all[genre]))
        for genre in np.argsort(of_all - here, kind="stable")
        if named[genre]
    ]
    return Cluster(
        tuple(ratings.titles[item] for item in by_likes),
        int(counts.sum()),
        _mean_of_pairs(similarity[np.ix_(items, items)]),
        tuple(shared),
    )


def _mean_of_pairs(similarity: Float[np.ndarray, "n n"]) -> float | None:
    """The mean off the diagonal, which is 0."""
    num = len(similarity)
    return float(similarity.sum() / (num * (num - 1))) if num > 1 else None
