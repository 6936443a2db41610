"""Claims on recommendation: the hierarchy of items in what users like, and whether networks find it."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "recommendation.tree",
            "What users like has a hierarchy: a tree of items, learned from likes alone, recommends better than the "
            "best flat clustering of the items.",
            f"latent hierarchies (section 5, {PAPER}) in recommendation; the test is joma's",
            (
                "a like is a value of at least four fifths of the highest, 4 of 5 stars",
                "items with at least 20 ratings",
                "a user's preference for a cluster is drawn towards that for the cluster around it",
            ),
            "NDCG@20(tree) − NDCG@20(best flat clustering) > 0 on held-out likes",
        ),
        test="Hold out a fifth of each user's likes, five times; of the others, learn trees of the items (average "
        "linkage and Ward's) and flat clusterings (cuts of both at seven numbers of clusters, and k-means), rank the "
        "items for each user with either, and take the difference of NDCG@20 on the held-out likes, paired by split. "
        "Linkage, number of clusters and strength of back-off are chosen on a fifth of the other likes. Popularity, "
        "item-kNN and EASE, with settings chosen in the same way, stand next to it.",
        control="The tree with its items permuted, everything else learned and chosen as before.",
        evaluate="joma.claims.recommendation.tree:evaluate",
        by_default=False,
        extra="ratings",
        short="the hierarchy in what users like",
    ),
    Claim(
        Reference(
            "recommendation.units",
            "A Transformer that learns which item a user likes next has hidden units for genres that it was never "
            "shown: better ones than before training, and than the items' co-likes contain.",
            f"latents as hidden units (section 5, {PAPER}) in recommendation; the test is joma's",
            (
                "a like is a value of at least four fifths of the highest, 4 of 5 stars",
                "items with at least 20 ratings, genres with at least 20 items",
                "a single unit is to stand for a genre: combinations of units are not considered",
            ),
            "AUC(best unit of a genre) − max(AUC of the untrained network's, AUC of the best column of co-likes)",
        ),
        test="Decoders learn the next item in the likes of four fifths of the users, in the order of time. The value "
        "of a hidden unit for an item is its activation at the item, mean over all its places. The unit with the "
        "highest AUC for a genre on half of the items is scored on the others, and the halves are exchanged; mean over "
        "genres, minus the larger of two other numbers found in the same way: with the units of the network before "
        "training, and with the columns of the matrix of co-likes (cosine of two items' users).",
        control="Genres shuffled across items, and the same network trained for as long on the same likes in random "
        "order, which no longer says which items are liked together.",
        evaluate="joma.claims.recommendation.units:evaluate",
        by_default=False,
        extra="ratings",
        short="the lead of hidden units in representing genres",
    ),
)
