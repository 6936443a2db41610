"""Claims on vision Transformers that are trained on pictures with known parts."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "image.parts",
            "A vision Transformer that learns labels of pictures finds, in single hidden units, the parts that lie "
            "between label and pixels, and not the pictures' other parts.",
            f"Section 5, {PAPER}, carried over to pictures",
            (
                "the theory's dynamics carry over to a trained vision Transformer",
                "the parts that people name are latents of the pictures",
            ),
            "gain = (AUC trained − AUC untrained) / (1 − AUC untrained), best unit of each part",
        ),
        test="Networks learn the radical of drawn characters, whose parts people have put into trees (or the labels of "
        "a user's images). For each part the best hidden unit (largest over patches) is chosen on characters seen in "
        "training and scored on a fifth that never was. The deciding number is the gain over the same network before "
        "training, mean over the parts that make the label: the radical and what is within it.",
        control="Parts of the same characters that make no label; parts shuffled across characters; the same network "
        "trained for as long on permuted labels.",
        evaluate="joma.claims.image.parts:evaluate",
        short="the finding of the label's parts by single units",
        by_default=False,
        extra="images",
    ),
    Claim(
        Reference(
            "image.sparse_then_dense",
            "In a vision Transformer, attention entropy falls early in training and rises again.",
            f"Figure 6, {PAPER}, carried over to pictures",
            ("the theory's dynamics carry over to a trained vision Transformer",),
            "H(step) = −Σⱼ pⱼ ln pⱼ, mean over layers and queries on unseen pictures",
        ),
        test="Attention entropy on unseen pictures is probed during training of the networks of image.parts, and on "
        "Fashion-MNIST if its folder is named (`--data fashion=FOLDER`), at a constant learning rate. Fall and rise of "
        "each seed are read as in text.sparse_then_dense; the smaller of the two sets of pictures counts.",
        control="The same curves with their probes in random order, and the same network on permuted labels; the "
        "larger of the two sets of pictures.",
        evaluate="joma.claims.image.sparse_then_dense:evaluate",
        short="the dip of attention entropy in a vision Transformer and the rise after it",
        by_default=False,
        extra="images",
    ),
    Claim(
        Reference(
            "image.mechanism",
            "In a vision Transformer, attention becomes dense again because of the MLP's nonlinearity: without it, "
            "attention would only become sparser.",
            f"Sections 4.1 and 4.2, {PAPER}, carried over to pictures",
            (
                "constant upstream gradient",
                "frozen value path",
                "no LayerNorm",
                "gradient flow",
                "attention integrated out (Theorem 1)",
            ),
            "linear: v̇ = Δ∘exp(v²/2), no recovery;  nonlinear: v̇ = (μ − v)∘exp(v²/2), recovery",
        ),
        test="The networks of image.sparse_then_dense are trained again from the same initial weights, with a linear "
        "MLP. If the nonlinearity is the reason, entropy falls but does not rise again.",
        control="The same comparison with nothing removed: the full network's recovery on one half of the unseen "
        "pictures against that on the other half.",
        evaluate="joma.claims.image.mechanism:evaluate",
        short="the nonlinearity of the MLP as the cause of a rise of attention entropy in a vision Transformer",
        by_default=False,
        extra="images",
    ),
)
