"""Claims on latent hierarchies: Theorem 5 and what networks find."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "theorem5",
            "In a latent tree, how often two tokens occur together follows from the height of their common ancestor: "
            "the lower it is, the more often.",
            f"Theorem 5, {PAPER}",
            (
                "a hierarchical binary latent tree",
                "one polarity for all edges below the top latents",
                "all leaves equally deep",
                "the label's value is given",
            ),
            "P(yₗ = 1 | yₘ = 1) = ½ (1 + ρ²ᴴ + 2s ρᴸ⁻¹ρ₀) / (1 + s ρᴸ⁻¹ρ₀),  s = ±1 the label's sign",
        ),
        test="Draw samples of binary trees for four settings of (ρ, ρ₀, L), one of them with negative ρ, and both "
        "signs of the label; compare how often a token is present, given another one, with the formula, for every "
        "height of their common ancestor, in standard errors; take the largest deviation.",
        control="The formula with the common ancestor one level too high, and with the label's sign flipped.",
        evaluate="joma.claims.hierarchy.theorem5:evaluate",
        short="the formula for how often tokens occur together",
    ),
    Claim(
        Reference(
            "hierarchy.order",
            "A hierarchy is learned bottom up: of all tokens, a query associates those with a near common ancestor "
            "first, because they occur together with it most often.",
            f"Section 5 and Theorem 5, {PAPER}",
            (
                "the theory's dynamics carry over to a trained decoder",
                "constant upstream gradient",
                "orthonormal token and query embeddings",
            ),
            "z(l | m) rises in the order of P(yₗ = 1 | yₘ = 1), given the query m",
        ),
        test="Decoders learn the label of latent trees whose polarities differ from edge to edge, with tokens in "
        "random order, so that each token can be the last one, the query. For each query the other tokens are ranked "
        "by the change of its attention logits in the first layer when the held-out loss has made half of its fall; "
        "Spearman correlation with co-occurrence by sum–product, averaged over queries. For comparison, the one-layer "
        "flow on the same trees, one query at a time: for the label, and with the constant gradient that the theory "
        "assumes.",
        control="The prediction of a tree with its leaves in random places, and the logits of the untrained network.",
        evaluate="joma.claims.hierarchy.order:evaluate",
        short="learning from the bottom up",
        by_default=False,
    ),
    Claim(
        Reference(
            "hierarchy.alignment",
            "A Transformer that learns to predict labels finds the latents behind them: each level of the hierarchy in "
            "hidden units of its own layer.",
            f"Section 5 and Table 1, {PAPER}; laws with many inputs, held-out scores and controls added",
            ("the theory's dynamics carry over to a trained decoder", "as many layers as levels of latents"),
            "corr(hidden unit of layer s, latent of level s), against the untrained network",
        ),
        test="Decoders with as many layers as there are levels of latents learn the label of a latent tree, and of a "
        "random hierarchy with alternative member sets. On fresh samples the hidden units of layer s (largest over "
        "positions) are matched one-to-one with the latents of level s on one half and scored on the other. The "
        "deciding number is the gain over the same network before training, mean over levels, smaller of the two laws.",
        control="The same network trained for as long on labels that are unrelated to the tokens; latents shuffled "
        "across samples; for each of these the larger of the two laws.",
        evaluate="joma.claims.hierarchy.alignment:evaluate",
        short="the learning of the latents by hidden units",
        by_default=False,
    ),
    Claim(
        Reference(
            "hierarchy.table1",
            "In trained Transformers the best hidden unit of each latent correlates with it highly, in its own layer: "
            "evidence that training finds the hierarchy.",
            f"Table 1, {PAPER}",
            ("one input for each class", "units chosen and scored on the same inputs", "no control in the paper"),
            "mean over latents of max over units of corr(max-pooled unit of layer s, latent of level s)",
        ),
        test="The paper's setting: decoders learn the class of a combinatorial hierarchy, one input for each class; "
        "in each layer the best hidden unit (largest over positions) for every latent of its level is chosen and "
        "scored on these inputs; mean over latents and levels.",
        control="The same networks before training.",
        evaluate="joma.claims.hierarchy.table1:evaluate",
        by_default=False,
        short="the paper's correlation score as evidence",
    ),
    Claim(
        Reference(
            "hierarchy.expressible",
            "There are weights with which every latent of a hierarchy is exactly one hidden unit of its layer, and the "
            "class is always right.",
            "derived, docs/expressiveness",
            (
                "each class always shows the same tokens, and no two classes the same ones",
                "one layer for each level, and an additional first layer where level 0 needs it",
            ),
            "unit i of layer s = 1 where latent i of level s is present, 0 elsewhere",
        ),
        test="Construct the weights of a decoder for a hierarchy of hierarchy.table1's setting in which no two classes "
        "show the same tokens, apply it to every class, and match hidden units of each layer one-to-one with the "
        "latents of its level.",
        control="The same units with the latents of another hierarchy of the same sizes (shown its inputs, most units "
        "would never be active), and the untrained network of hierarchy.table1, which has many more units.",
        evaluate="joma.claims.hierarchy.expressible:evaluate",
        short="the exact representation of a hierarchy",
        by_default=False,
    ),
)
