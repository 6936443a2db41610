"""Recommenders from likes without clusters: popularity, nearest items, and a linear autoencoder.

Each takes a matrix of likes (0 or 1) and returns scores of every item for every user; axes as in
``joma.measure.items.protocol``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from joma.domains import NON_NEGATIVE, POSITIVE, check_whole
from joma.measure.items.protocol import Candidates, Likes, Scores


def popularity(likes: Likes) -> Scores:
    """Return how many users like each item, the same for every user."""
    return np.broadcast_to(likes.sum(0), likes.shape)


def item_similarity(likes: Likes, shrinkage: float = 0.0) -> Float[np.ndarray, "I I"]:
    """Return how similar two items are by who likes both; 0 between an item and itself.

    It is cos · n/(n + shrinkage): the cosine of their columns of likes, which is smaller for items with few likes (n is
    the geometric mean of their numbers).

    Args:
        likes: (U, I).
        shrinkage: number of likes at which the cosine is halved.
    """
    NON_NEGATIVE.check(shrinkage, "item_similarity", "shrinkage")
    together = likes.T @ likes
    sizes = np.sqrt(np.outer(together.diagonal(), together.diagonal())) + shrinkage
    similarity = np.divide(together, sizes, out=np.zeros_like(together), where=sizes > 0)
    np.fill_diagonal(similarity, 0)
    return similarity


def item_knn(likes: Likes, num_neighbours: int, shrinkage: float = 0.0) -> Scores:
    """Return the sum of the similarities between an item and those that the user likes.

    Args:
        likes: (U, I).
        num_neighbours: nearest items of each item, the only ones that count.
        shrinkage: of ``item_similarity``.
    """
    num_items = likes.shape[1]
    check_whole(num_neighbours, "item_knn", "num_neighbours", high=num_items, remedy="take 50, or fewer than the items")
    similarity = item_similarity(likes, shrinkage)
    nearest = np.partition(similarity, num_items - num_neighbours, axis=0)[num_items - num_neighbours]
    return likes @ np.where(similarity >= nearest, similarity, 0)


def ease(likes: Likes, penalty: float) -> Scores:
    """Return the scores of the linear autoencoder without self-similarity (EASE).

    B minimises ‖X − XB‖² + penalty · ‖B‖² with a zero diagonal: Bᵢⱼ = −Pᵢⱼ/Pⱼⱼ off the diagonal, with
    P = (XᵀX + penalty · 1)⁻¹; the scores are XB.

    Args:
        likes: X, (U, I).
        penalty: above 0.

    Source: Steck, WWW 2019, arXiv 1905.03375, equations 3 and 8.
    """
    POSITIVE.check(penalty, "ease", "penalty")
    identity = np.eye(likes.shape[1])
    inverse = cho_solve(cho_factor(likes.T @ likes + penalty * identity), identity)
    weights = -inverse / inverse.diagonal()
    np.fill_diagonal(weights, 0)
    return likes @ weights


def nearest_items(likes: Likes) -> Candidates:
    """Return ``item_knn`` with several settings."""
    num_items = likes.shape[1]
    return {
        f"{num} neighbours, shrinkage {shrinkage}": lambda num=num, shrinkage=shrinkage: item_knn(likes, num, shrinkage)
        for num in (20, 50, 100)
        for shrinkage in (0, 10, 20)
        if num <= num_items
    } or {"all neighbours": lambda: item_knn(likes, num_items)}


def linear_autoencoder(likes: Likes) -> Candidates:
    """Return ``ease`` with several penalties."""
    return {f"penalty {penalty}": lambda penalty=penalty: ease(likes, penalty) for penalty in (50, 100, 200, 400, 800)}
