"""How long item trees and their rivals take, and the scores of a tree against a plain loop over users.

    python benchmarks/item_trees.py

Likes are random, of the size of MovieLens' (671 users, 1,303 items) and larger. The loop is the formula of
``tree_scores`` for one user and one item after the other, for as many users as take some seconds; its time is
scaled up to all users, and its scores must agree to ten digits.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from joma.measure.items.clusters import item_tree, tree_scores
from joma.measure.items.rivals import ease, item_knn
from table import machine, print_json, show

SIZES = ((671, 1303), (5000, 3000))
NUM_LOOPED = 2


def likes_of(num_users: int, num_items: int) -> np.ndarray:
    """Draw likes in which some items are liked much more often than others."""
    generator = np.random.default_rng(0)
    rates = 0.3 / np.sqrt(1 + np.arange(num_items) / 10)
    return (generator.random((num_users, num_items)) < rates).astype(float)


def looped(likes: np.ndarray, tree: np.ndarray, strength: float, users: range) -> np.ndarray:
    """Return ``tree_scores`` of some users, in plain Python."""
    num_items, total = likes.shape[1], likes.sum()
    shares, parts = likes.sum(0) / total, tree[:, :2].astype(int).tolist()
    scores = np.empty((len(users), num_items))
    for row, user in enumerate(users):
        liked, share = likes[user].tolist(), shares.tolist()
        for one, other in parts:
            liked.append(liked[one] + liked[other])
            share.append(share[one] + share[other])
        preference = [1.0] * len(liked)
        for node in range(len(liked) - 1, num_items - 1, -1):
            one, other = parts[node - num_items]
            for part, rest in ((one, other), (other, one)):
                expected = share[rest] * likes[user].sum()
                preference[part] = (liked[rest] + strength * preference[node]) / (expected + strength)
        scores[row] = np.array(preference[:num_items]) * shares
    return scores


def seconds(compute: Callable[[], object]) -> float:
    """Return the shorter time of two calls."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(num_users: int, num_items: int) -> dict[str, float]:
    """Return seconds of each method on likes of a size."""
    likes = likes_of(num_users, num_items)
    tree, users = item_tree(likes), range(NUM_LOOPED)
    np.testing.assert_allclose(tree_scores(likes, tree, 1.0)[:NUM_LOOPED], looped(likes, tree, 1.0, users), rtol=1e-10)
    return {
        "tree": seconds(lambda: item_tree(likes)),
        "scores of the tree": seconds(lambda: tree_scores(likes, tree, 1.0)),
        "the same in a loop": seconds(lambda: looped(likes, tree, 1.0, users)) * num_users / NUM_LOOPED,
        "item-kNN": seconds(lambda: item_knn(likes, 50)),
        "EASE": seconds(lambda: ease(likes, 200.0)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    place = machine()
    found = {size: measured(*size) for size in SIZES}
    if parser.parse_args().json:
        return print_json(place | {"seconds": {f"{users}x{items}": entry for (users, items), entry in found.items()}})
    names = list(found[SIZES[0]])
    rows = [[name, *(f"{found[size][name]:.2f} s" for size in SIZES)] for name in names]
    show("Item trees and rivals", ["", *(f"{u:,} users, {i:,} items" for u, i in SIZES)], rows, place)
    return None


if __name__ == "__main__":
    main()
