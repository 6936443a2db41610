"""Claim recommendation.tree: whether a tree of items recommends better than the best flat clustering of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Bool

from joma.charts import Chart, Curve, Mark, Role
from joma.claims.hierarchy.levels import curve_of
from joma.claims.workspace import Profile, Workspace
from joma.measure.items.clusters import (
    NUMS_OF_CLUSTERS,
    cluster_scores,
    flat,
    flat_clusters,
    item_tree,
    overlap_within,
    trees,
)
from joma.measure.items.protocol import Split, best_setting, hold_out, ndcg
from joma.measure.items.rivals import linear_autoencoder, nearest_items, popularity
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.tables.ratings import Ratings, ratings_of

NUM_SPLITS = {Profile.QUICK: 5, Profile.FULL: 20}
LEAST_RATINGS = 20

CRITERION = Criterion(
    "NDCG@20 of the tree minus that of the best flat clustering, on held-out likes",
    ">=",
    0.0,
    "above 0, clusters within clusters add to what clusters alone say; the number has the same users and held-out "
    "likes on both sides",
)

POPULARITY, FLAT, HINDSIGHT, TREE, PERMUTED = "popularity", "flat", "flat in hindsight", "tree", "tree, items permuted"
KNN, EASE = "item-kNN", "EASE"
COMMENTS = {
    POPULARITY: "the same ranking for every user",
    FLAT: "the best flat clustering, chosen on training likes",
    HINDSIGHT: "the flat clustering that is best on the held-out likes themselves: no rule could choose better",
    TREE: "chosen on training likes",
    PERMUTED: "the control",
    KNN: "similarity of items, without clusters",
    EASE: "linear autoencoder, arXiv 1905.03375",
}


def evaluate(workspace: Workspace) -> Agreement:
    """Compare recommenders on several splits of the likes."""
    ratings = ratings_of(workspace.data.get("ratings")).of_popular(LEAST_RATINGS)
    likes = ratings.likes()
    seeds = workspace.seeds(NUM_SPLITS[workspace.profile])
    found, settings, flat_by_num, overlaps = [], [], [], []
    for done, seed in enumerate(seeds):
        workspace.progress("recommending held-out likes", done, len(seeds))
        split = hold_out(likes, seed)
        numbers, chosen_settings = _numbers(split, seed)
        found.append(numbers)
        settings.append(chosen_settings)
        flat_by_num.append(_flat_by_num(split))
        overlaps.append(_overlaps(split, ratings.genres, seed))
    of = {name: np.array([numbers[name] for numbers in found]) for name in COMMENTS}
    overlaps = overlaps if np.isfinite(overlaps).all() else []
    agreement = Agreement(
        CRITERION,
        Estimate.of(of[TREE] - of[FLAT]),
        (Control("items permuted in the tree", Estimate.of(of[PERMUTED] - of[FLAT])),),
        conclusion="",
        findings=_findings(of, overlaps, likes.shape[1]),
        charts=_charts(of, np.array(flat_by_num), np.array(overlaps), likes.shape[1]),
        notes=_notes(ratings, likes, settings),
    )
    return replace(agreement, conclusion=_conclusion(of, agreement.verdict))


def _numbers(split: Split, seed: int) -> tuple[dict[str, float], dict[str, str]]:
    """NDCG@20 of every recommender, and the settings that were chosen."""
    order = np.random.default_rng(seed).permutation(split.train.shape[1])
    recommenders = {
        FLAT: flat,
        TREE: trees,
        PERMUTED: partial(trees, order=order),
        KNN: nearest_items,
        EASE: linear_autoencoder,
    }
    settings = {name: best_setting(recommender, split.train, seed) for name, recommender in recommenders.items()}
    candidates = {name: recommender(split.train) for name, recommender in recommenders.items()}
    found = {name: ndcg(candidates[name][setting](), split) for name, setting in settings.items()}
    found[POPULARITY] = ndcg(popularity(split.train), split)
    found[HINDSIGHT] = max(ndcg(scores(), split) for scores in candidates[FLAT].values())
    return found, settings


def _flat_by_num(split: Split) -> list[float]:
    """NDCG@20 of the cuts of Ward's tree, by number of clusters."""
    tree = item_tree(split.train)
    cuts = (flat_clusters(tree, num) for num in _nums(split.train.shape[1]))
    return [ndcg(cluster_scores(split.train, clusters, 1.0), split) for clusters in cuts]


def _overlaps(split: Split, genres: Bool[np.ndarray, "I G"], seed: int) -> list[list[float]]:
    """Genre overlap within the clusters of Ward's tree by number of clusters, and with items permuted."""
    tree, order = item_tree(split.train), np.random.default_rng(seed).permutation(len(genres))
    cuts = [flat_clusters(tree, num) for num in (1, *_nums(len(genres)))]
    return [[overlap_within(attributes, cut) for cut in cuts] for attributes in (genres, genres[order])]


def _nums(num_items: int) -> list[int]:
    return [num for num in NUMS_OF_CLUSTERS if num < num_items]


def _findings(of: dict[str, np.ndarray], overlaps: Sequence, num_items: int) -> tuple[Finding, ...]:
    found = [Finding(f"NDCG@20: {name}", Estimate.of(of[name]), comment) for name, comment in COMMENTS.items()]
    found += [
        Finding(f"tree minus {name}", Estimate.of(of[TREE] - of[name]), "paired by split")
        for name in (POPULARITY, HINDSIGHT, KNN, EASE)
    ]
    if len(overlaps):
        (top, *_, deep), (*_, permuted) = np.mean(overlaps, axis=0)
        found.append(
            Finding(
                f"genre overlap of two items in one of {_nums(num_items)[-1]} clusters minus that of any two items",
                Estimate.of(in_tree[-1] - in_tree[0] for in_tree, _ in overlaps),
                f"intersection over union, {deep:.3f} and {top:.3f}; items permuted {permuted:.3f}",
            )
        )
    return tuple(found)


def _charts(
    of: dict[str, np.ndarray], flat_by_num: np.ndarray, overlaps: np.ndarray, num_items: int
) -> tuple[Chart, ...]:
    nums = tuple(map(float, _nums(num_items)))
    roles: dict[str, Role] = {TREE: "measured", PERMUTED: "control"}
    lines = [Curve(name, nums, [of[name].mean()] * len(nums), role=role) for name, role in roles.items()]
    charts = [
        Chart(
            "clusters",
            "Held-out likes ranked by flat clusters, by a tree and by other recommenders",
            "Flat: cuts of Ward's tree, strength 1; band: lowest to highest split. The others do not depend on the "
            "number of clusters; means over splits.",
            "number of flat clusters",
            "NDCG@20",
            (curve_of("flat clusters", nums, flat_by_num, "context"), *lines),
            tuple(Mark("y", of[name].mean(), name) for name in (POPULARITY, KNN, EASE)),
            x_scale="log",
        )
    ]
    if overlaps.size:
        cuts = (1.0, *nums)
        charts.append(
            Chart(
                "genres",
                "Genres that items of a cluster share, down the tree",
                "Genres were not used to learn the tree. Band: lowest to highest split.",
                "number of clusters into which the tree is cut",
                "overlap of two items' genres (intersection over union)",
                (
                    curve_of("items in the tree", cuts, overlaps[:, 0], "measured"),
                    curve_of("items permuted", cuts, overlaps[:, 1], "control"),
                ),
                x_scale="log",
            )
        )
    return tuple(charts)


def _conclusion(of: dict[str, np.ndarray], verdict: Verdict) -> str:
    opening = {
        Verdict.HOLDS: "A tree of items, learned from likes alone, ranks held-out likes better than the best flat "
        "clustering",
        Verdict.FAILS: "A tree of items, learned from likes alone, ranks held-out likes no better than the best flat "
        "clustering",
        Verdict.UNDECIDED: "Whether a tree of items ranks held-out likes better than the best flat clustering is not "
        "decided",
    }[verdict]
    mean = {name: values.mean() for name, values in of.items()}
    rivals = []
    for name in (KNN, EASE):
        low, high = Estimate.of(of[TREE] - of[name]).interval
        than = "worse than" if high < 0 else "better than" if low > 0 else "not clearly different from"
        rivals.append(f"{than} {name} ({mean[name]:.3f})")
    low, _ = Estimate.of(of[TREE] - of[HINDSIGHT]).interval
    return (
        f"{opening}: NDCG@20 is {mean[TREE]:.3f} and {mean[FLAT]:.3f}; popularity alone gives {mean[POPULARITY]:.3f}, "
        f"the tree with its items permuted {mean[PERMUTED]:.3f}. Compared with the flat clustering that is best on the "
        f"held-out likes themselves ({mean[HINDSIGHT]:.3f}), it is {'' if low > 0 else 'not '}clearly better. The tree "
        f"is {' and '.join(rivals)}, which use no clusters: it describes the items, and is not the way to recommend "
        "best."
    )


def _notes(ratings: Ratings, likes: np.ndarray, settings: Sequence[dict[str, str]]) -> tuple[str, ...]:
    picked = "; ".join(f"{name}: {', '.join(dict.fromkeys(s[name] for s in settings))}" for name in settings[0])
    return (
        f"{ratings.num_users:,} users, {ratings.num_items:,} items with at least {LEAST_RATINGS} ratings (counted "
        f"before any are held out), {int(likes.sum()):,} likes. The splits are of one data set: intervals say how the "
        "result varies with the likes that are held out, not with the users or the catalogue.",
        f"Chosen settings, of all splits: {picked}.",
    )
