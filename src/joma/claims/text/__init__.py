"""Claims on decoders that are trained on text."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "text.sparse_then_dense",
            "In a Transformer trained on text, attention entropy falls early in training and rises again.",
            f"Figure 6, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step) = −Σⱼ pⱼ ln pⱼ, mean over held-out queries",
        ),
        test="Attention entropy on held-out text is probed during training of the decoder of the paper's Figure 6. "
        "Fall and rise of each seed are read with the bottom where the best fall-then-rise fit of the other seeds has "
        "it, so that no probe is chosen by hand and noise that differs between seeds cancels.",
        control="The same curves with their probes in random order, and the same network on words in random order.",
        evaluate="joma.claims.text.sparse_then_dense:evaluate",
        short="the dip of attention entropy and the rise after it",
        needs_text=True,
    ),
    Claim(
        Reference(
            "text.first_dip",
            "In the first steps of training, before the lasting fall, attention entropy dips because word frequencies "
            "are learned.",
            f"observed here (docs/log.md), explained by the constant upstream gradient of Section 3, {PAPER}",
            ("while only word frequencies are learned, the same gradient arrives at every position",),
            "dip = max over steps s of [min(max H before s, max H after s) − H(s)]",
        ),
        test="The network of text.sparse_then_dense is trained for its first steps on shuffled words, which have "
        "frequencies but no order, and on random words that are equally frequent. If the dip comes from learning "
        "frequencies, it is less deep on the latter. On real text, the output bias starts at 0 or at the log "
        "frequencies.",
        control="Word order removed instead of frequencies: the dip on shuffled words may not be less deep than on "
        "real text.",
        evaluate="joma.claims.text.first_dip:evaluate",
        short="the learning of word frequencies as the cause of the first dip",
        needs_text=True,
        by_default=False,
    ),
    Claim(
        Reference(
            "text.mechanism",
            "Attention becomes dense again because of the MLP's nonlinearity: without it, attention would only become "
            "sparser.",
            f"Sections 4.1 and 4.2, {PAPER}",
            (
                "constant upstream gradient",
                "frozen value path",
                "no LayerNorm",
                "gradient flow",
                "attention integrated out (Theorem 1)",
            ),
            "linear: v̇ = Δ∘exp(v²/2), no recovery;  nonlinear: v̇ = (μ − v)∘exp(v²/2), recovery",
        ),
        test="The network of text.sparse_then_dense is trained again from the same initial weights, with a linear MLP. "
        "If the nonlinearity is the reason, as the theory says, entropy falls but does not rise again. With --profile "
        "full, other parts are removed and assumptions of the theory put in one by one, at two learning rates and "
        "lengths.",
        control="The same comparison with nothing removed: the full network's recovery on one half of the held-out "
        "sequences against that on the other half.",
        evaluate="joma.claims.text.mechanism:evaluate",
        short="the nonlinearity of the MLP as the cause of a rise of attention entropy",
        needs_text=True,
    ),
    Claim(
        Reference(
            "text.rank_drop",
            "While attention becomes sparse, the MLP's lower layer loses rank; when attention becomes dense again, the "
            "rank rises again.",
            f"Section 4.2 and Figure 7, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "stable rank = ‖W‖²_F / σ₁²",
        ),
        test="Stable rank of the MLP's lower layer in the runs of text.sparse_then_dense; fall and rise are read in "
        "the same way.",
        control="The same curves with their probes in random order.",
        evaluate="joma.claims.text.rank_drop:evaluate",
        short="the loss and return of the MLP's rank",
        needs_text=True,
    ),
    Claim(
        Reference(
            "text.theorem1",
            "In a Transformer trained on text, the attention logits of words move as Theorem 1 predicts from the MLP's "
            "lower weights.",
            f"Theorem 1, {PAPER}, carried over to a decoder (derived, docs/theory section 4)",
            (
                "nearly orthogonal word vectors",
                "logits that are parameters of their own, here products of queries and keys",
                "no residual connection around the MLP",
                "LayerNorm replaced by its mean derivative",
                "frozen embeddings and value path",
                "gradient flow",
                "mean attention b̄ constant in time, which factors out of the gradient",
            ),
            "Δz = ½ Σₖ (Δvₖ² − Δ‖wₖ‖² b̄) + const,  vₖ(word) = wₖ · WₒWᵥu / ‖WₒWᵥu‖",
        ),
        test="Snapshots of the network of text.sparse_then_dense during training. A word's logit is the mean over "
        "queries of a held-out probe, its weights vₖ are the MLP's lower weights seen from its embedding through the "
        "value path. Correlation over words, weighted by frequency, between the predicted and the measured change "
        "since the start; the logarithm of the frequency is partialled out, because much grows with frequency.",
        control="The prediction with its words permuted, from the weights of another seed, and from each of the "
        "formula's two terms alone; word frequency and the growth of the embeddings as predictions.",
        evaluate="joma.claims.text.theorem1:evaluate",
        short="the prediction of attention logits from MLP weights in a decoder",
        needs_text=True,
    ),
    Claim(
        Reference(
            "text.learning_rate",
            "The validation loss is lowest at the learning rates at which attention becomes sparse and then dense.",
            f"Figure 8 and Section 7, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "Spearman correlation over learning rates of last loss and rise of H(step) after its fall",
        ),
        test="The network of text.sparse_then_dense is trained at several learning rates, from the same initial "
        "weights. For each seed, the last validation loss is compared with how far entropy rises after its fall.",
        control="The same rises, assigned to the learning rates in random order.",
        evaluate="joma.claims.text.learning_rate:evaluate",
        short="the best loss where attention comes back",
        needs_text=True,
        by_default=False,
    ),
    Claim(
        Reference(
            "text.depth",
            "In Transformers of every depth, attention entropy falls early in training on text and rises again.",
            f"Figures 6 and 7, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step), mean over the layers and held-out queries",
        ),
        test="The network of text.sparse_then_dense is trained with more and more layers; fall and rise are read in "
        "the same way at each depth, and the smallest counts.",
        control="The same curves with their probes in random order.",
        evaluate="joma.claims.text.depth:evaluate",
        short="the dip and the return of attention at every depth",
        needs_text=True,
        by_default=False,
    ),
)
