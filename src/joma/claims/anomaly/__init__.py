"""Claims on anomalies: rows of tables whose values do not go together."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "anomaly.relations",
            "A tree of a table's columns, and a Transformer trained on its rows, find rows whose values are usual one "
            "by one and do not go together.",
            f"Section 5 of {PAPER} names anomaly detection; the test and its controls are joma's own",
            (
                "columns that are related: in pairs, as a tree has them",
                "rows to learn from that are normal",
                "anomalies that break relations: rare values alone are not tested",
            ),
            "surprise(x) = −Σᵢ ln p(xᵢ | x of the column that i hangs from), p of a Chow–Liu tree; "
            "surprise(x) = −Σᵢ ln p(xᵢ | xⱼ, j < i), the Transformer's loss per column",
        ),
        test="Six tables of six fields, or the user's own. One half of the rows is learned from; the other half is "
        "scored together with planted rows, each value of which comes from another row of that half, so that every "
        "column by itself is as usual. AUROC of the surprise under a Chow–Liu tree, and of the loss per column, summed "
        "over columns, of a Transformer that was trained to predict each column from those before it; mean over "
        "tables, the lower one of the two. Next to them PyOD's detectors, and all of them on the usual labels of three "
        "more tables.",
        control="Both models without edges: independent columns, and a Transformer that sees no other column. Both "
        "models learned after every column was permuted over the rows.",
        evaluate="joma.claims.anomaly.relations:evaluate",
        by_default=False,
        extra="ratings",
        short="the finding of broken relations by a tree and a Transformer",
    ),
)
