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
        test="A GPT-NeoX (laid out as Pythia) and an OPT model learn real text; their saved steps are read from the "
        "files as any series is. Every layer's fall and rise of attention entropy on held-out text are read off, from "
        "the step on at which the model beats word frequencies, where the other seeds say the bottom is. With "
        "--profile full: series published on the hub; skipped where there is no network.",
        control="The same curves with their saved steps in random order.",
        evaluate="joma.claims.series.sparse_then_dense:evaluate",
        needs_text=True,
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
        "on; every layer's fall and rise are read off where the other seeds say the bottom is.",
        control="The same curves with their saved steps in random order, and the same weights with the entries of "
        "every matrix shuffled: as strong, but without structure.",
        evaluate="joma.claims.series.rank_drop_and_rebound:evaluate",
        needs_text=True,
    ),
)
