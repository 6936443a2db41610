"""A tree of items from likes alone, flat clusters of items, and recommendation with either by back-off.

A user's preference for a cluster is how many of its items the user likes, relative to the number that popularity would
give. A user has few likes in a small cluster, so the preference is drawn towards that for the cluster around it, which
is known better: back-off. Flat clusters have a single level of it, a tree has one at each of its nodes.

Axes as in ``joma.measure.items.protocol``; nodes of a tree are numbered as SciPy does: the items, then the clusters in
the order in which they were joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.cluster.vq import kmeans2

from joma.domains import POSITIVE, check_whole, choose
from joma.errors import InvalidArgument
from joma.measure.items.protocol import Candidates, Likes, Scores

Method = Literal["average", "ward"]
"""How the distance of two clusters follows from those of their items (SciPy's names)."""

Tree = Float[np.ndarray, "I-1 4"]
"""SciPy's linkage matrix."""

MOST_ITEMS = 10_000
"""Items above which a matrix with 8 bytes for each two of them takes more than 0.8 GB, of which there are several."""

STRENGTHS = (0.5, 1.0, 2.0, 5.0)
NUMS_OF_CLUSTERS = (5, 10, 20, 40, 80, 160, 320)


def item_tree(likes: Likes, method: Method = "ward") -> Tree:
    """Return the hierarchical clustering of the items by who likes them.

    Items are the columns of the likes, scaled to length 1; their squared distance is 2 − 2 cos, and 1 between an item
    and one that nobody likes.

    Args:
        likes: (U, I) with at least two items.
        method: of joining clusters.

    Raises:
        InvalidArgument: fewer than two items, more than ``MOST_ITEMS``, or no user likes two of them.
    """
    choose(method, dict.fromkeys(get_args(Method)), "item_tree", "method")
    num_items = likes.shape[1]
    if not 2 <= num_items <= MOST_ITEMS or not (likes.sum(1) > 1).any():
        received = f"of {num_items:,} items" if not 2 <= num_items <= MOST_ITEMS else "in which no user likes two items"
        required, remedy = f"2 to {MOST_ITEMS:,} items that are liked together", "keep the items with the most likes"
        raise InvalidArgument("item_tree", "likes", required=required, received=received, remedy=remedy)
    items = unit_items(likes)
    squares = np.square(items).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * items @ items.T, 0)[np.triu_indices(num_items, 1)]
    return linkage(np.sqrt(distances) if method == "ward" else distances, method)


def unit_items(likes: Likes) -> Float[np.ndarray, "I U"]:
    """Return the columns of the likes as rows of length 1 (0 for items that nobody likes)."""
    lengths = np.sqrt(likes.sum(0))[:, None]
    return np.divide(likes.T, lengths, out=np.zeros(likes.T.shape), where=lengths > 0)


def flat_clusters(tree: Tree, num: int) -> Int[np.ndarray, " I"]:
    """Return the cluster of each item, from 0, if the tree is cut into at most ``num`` clusters."""
    check_whole(num, "flat_clusters", "num", high=len(tree) + 1, remedy="take fewer clusters than items")
    return fcluster(tree, num, "maxclust") - 1


def tree_scores(likes: Likes, tree: Tree, strength: float) -> Scores:
    """Return popularity times the user's preference for an item, learned down the tree by back-off.

    The preference is 1 at the root. From a cluster with preference f to the part c of it, with s the other part:

        f(c) = (n(s) + strength · f) / (e(s) + strength)

    n(s) is the number of the user's likes in s, and e(s) the number that popularity gives: the user's number of likes
    times the share of all likes in s. An item's preference is learned from other items only, and no like is used twice.
    This is the mean of a Gamma posterior whose prior, of weight ``strength``, comes from the cluster around it.

    Args:
        likes: (U, I).
        tree: of these items, or of other items in the same number.
        strength: above 0; the larger, the more likes it takes to differ from the cluster around.
    """
    POSITIVE.check(strength, "tree_scores", "strength")
    num_items = likes.shape[1]
    parts = tree[:, :2].astype(int)
    if len(parts) != num_items - 1:
        required, remedy = f"of {num_items} items", "make it with `item_tree`"
        raise InvalidArgument("tree_scores", "tree", required=required, received=f"of {len(parts) + 1}", remedy=remedy)
    shares = likes.sum(0) / likes.sum()
    liked, share = np.empty((2 * num_items - 1, len(likes))), np.empty(2 * num_items - 1)
    liked[:num_items], share[:num_items] = likes.T, shares
    for node, (one, other) in enumerate(parts, num_items):
        liked[node], share[node] = liked[one] + liked[other], share[one] + share[other]
    expected = share[:, None] * likes.sum(1)
    preference = np.ones_like(liked)
    for node, (one, other) in reversed(list(enumerate(parts, num_items))):
        for part, rest in ((one, other), (other, one)):
            preference[part] = (liked[rest] + strength * preference[node]) / (expected[rest] + strength)
    return preference[:num_items].T * shares


def cluster_scores(likes: Likes, clusters: Int[np.ndarray, " I"], strength: float) -> Scores:
    """Return popularity times the user's preference for the item's cluster: ``tree_scores`` with one level.

    Args:
        likes: (U, I).
        clusters: (I,) the cluster of each item, numbered from 0.
        strength: as for ``tree_scores``; the preference around all clusters is 1.
    """
    POSITIVE.check(strength, "cluster_scores", "strength")
    member = np.eye(clusters.max() + 1)[clusters]
    shares = likes.sum(0) / likes.sum()
    others = (likes @ member)[:, clusters] - likes
    expected = likes.sum(1, keepdims=True) * ((shares @ member)[clusters] - shares)
    return (others + strength) / (expected + strength) * shares


def trees(likes: Likes, order: Int[np.ndarray, " I"] | None = None) -> Candidates:
    """Return ``tree_scores`` with several trees and strengths.

    Args:
        likes: (U, I).
        order: (I,) a permutation that puts the items in other places of the tree, as a control.
    """
    back = slice(None) if order is None else np.argsort(order)
    placed = likes if order is None else likes[:, order]
    found = {method: item_tree(likes, method) for method in get_args(Method)}
    return {
        f"{method} linkage, strength {strength:g}": lambda tree=tree, strength=strength: tree_scores(
            placed, tree, strength
        )[:, back]
        for method, tree in found.items()
        for strength in STRENGTHS
    }


def clusterings(likes: Likes) -> Iterator[tuple[str, Int[np.ndarray, " I"]]]:
    """Yield flat clusterings of the items with their names.

    They are the cuts of both trees, and k-means that starts from the centres of Ward's clusters.
    """
    items, nums = unit_items(likes), [num for num in NUMS_OF_CLUSTERS if num < likes.shape[1]] or [2]
    for method in get_args(Method):
        tree = item_tree(likes, method)
        for num in nums:
            clusters = flat_clusters(tree, num)
            yield f"{num} clusters of {method} linkage", clusters
            if method == "ward":
                member = np.eye(clusters.max() + 1)[clusters]
                centres = (member.T @ items) / member.sum(0)[:, None]
                yield f"{num} clusters of k-means", kmeans2(items, centres, minit="matrix", missing="warn")[1]


def flat(likes: Likes) -> Candidates:
    """Return ``cluster_scores`` with several clusterings and strengths."""
    return {
        f"{name}, strength {strength:g}": partial(cluster_scores, likes, clusters, strength)
        for name, clusters in clusterings(likes)
        for strength in STRENGTHS
    }


def overlap_within(attributes: Bool[np.ndarray, "I G"], clusters: Int[np.ndarray, " I"]) -> float:
    """Return how much the attributes of two items of one cluster overlap, mean over all such pairs.

    The overlap of two sets is their intersection over their union. Items without attributes do not count.

    Args:
        attributes: (I, G) which item has which.
        clusters: (I,) the cluster of each item.

    Returns:
        a number in [0, 1]; NaN if no cluster has two items with attributes.
    """
    known = attributes.any(1)
    sets, labels = attributes[known].astype(float), clusters[known]
    both = sets @ sets.T
    sizes = sets.sum(1)
    overlap = both / (sizes[:, None] + sizes - both)
    pairs = np.triu(labels[:, None] == labels, 1)
    return float(overlap[pairs].mean()) if pairs.any() else float("nan")
