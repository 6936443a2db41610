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
    ),
)
