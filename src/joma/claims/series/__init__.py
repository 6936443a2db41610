"""Claims on series of checkpoints of models of known families."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "series.sparse_then_dense",
            "In models of known families, attention entropy falls early in a series of saved steps and rises again.",
            f"Experiments on Pythia and OPT, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step) / ln(visible keys), mean over held-out queries, by layer",
        ),
        test="A GPT-NeoX model (with Pythia's layout) and an OPT model are trained on text and measured from the files "
        "of their saved steps. For every layer, fall and rise of attention entropy on held-out text are read from the "
        "step on at which the model beats word frequencies, with the bottom where the other seeds have it. With "
        "--profile full, series published on the hub are measured; without a network the claim is skipped.",
        control="The same curves with their saved steps in random order.",
        evaluate="joma.claims.series.sparse_then_dense:evaluate",
        short="the dip of attention entropy and the rise after it",
        needs_text=True,
        by_default=False,
    ),
    Claim(
        Reference(
            "series.rank_drop_and_rebound",
            "In models of known families, the MLP's lower layers lose rank early in a series of saved steps and regain "
            "it.",
            f"Experiments on Pythia and OPT, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "stable rank = ‖W‖²_F / σ₁², by layer",
        ),
        test="Stable rank of the MLP's lower layer over the series of series.sparse_then_dense, from the first step "
        "on; every layer's fall and rise are read with the bottom where the other seeds have it.",
        control="The same curves with their saved steps in random order, and the same weights with the entries of "
        "every matrix shuffled, which have the same norm but no structure.",
        evaluate="joma.claims.series.rank_drop_and_rebound:evaluate",
        short="the loss and return of the MLP's rank",
        needs_text=True,
        by_default=False,
    ),
)
