"""Claims on the Random Hierarchy Model, the field's standard law of hierarchical data."""

from joma.claims.claim import PAPER, Claim, Reference

CAGNETTA = "Cagnetta et al., PRX 2024, arXiv 2307.02129"

CLAIMS = (
    Claim(
        Reference(
            "rhm.samples",
            "A deep network learns a Random Hierarchy Model from a number of samples that grows in proportion to the "
            "number of classes times the number of synonyms to the power of the number of levels.",
            CAGNETTA,
            (
                "as many layers as levels, and patches as large as tuples",
                "rules drawn at random, so that single tuples correlate with the label",
                "as many classes as symbols, n_c = v, and m^(L − 1) ≥ v, without which correlations differ from those "
                "behind n_c mᴸ",
                "far fewer synonyms than tuples for each symbol, m ≪ v^(s − 1)",
            ),
            "P* ≈ c n_c mᴸ",
        ),
        test="Tree-shaped networks learn laws with several numbers of synonyms, levels and classes from ¼ to 8 n_c mᴸ "
        "different inputs. P* is the number with which the error on other inputs falls to half of that of guessing. "
        "The deciding number is the largest deviation of log₂ P* from log₂ n_c mᴸ over the laws, after one common "
        "factor; the claim is undecided if a law is not half learned, or is so with the smallest number.",
        control="Rules with which no single tuple says anything about the label, compared by the same factor; "
        "n_c m^((d−1)/(s−1)) of shallow networks, and the same number for all laws, as predictions.",
        evaluate="joma.claims.rhm.samples:evaluate",
        by_default=False,
        short="the number of samples that a hierarchy takes",
    ),
    Claim(
        Reference(
            "rhm.levels",
            "Levels are learned from the tokens up: a network in training predicts first as if only the lowest "
            "correlations existed, then like exact inference with one level more after the other.",
            "Garnier-Brun et al., ICML 2025, arXiv 2408.15138",
            ("new samples at every step", "a decoder that predicts the label of a Random Hierarchy Model"),
            "argmin over steps of KL(p(label | tokens) of the law filtered above level k ‖ network) rises with k",
        ),
        test="Decoders learn the label. At every snapshot their predictions on new samples are compared with belief "
        "propagation on the law whose correlations are cut above each level, and on the law itself. The deciding "
        "number is how much nearer they come to each cut law than the nearest mixture of guessing and the last "
        "prediction, smallest over cuts, and at most 0 if they do not come nearest to these laws in order.",
        control="Mixtures of guessing and the exact posterior of the label, which know no level; the same snapshots in "
        "random order; decoders that learn the law with tokens that depend on the label alone.",
        evaluate="joma.claims.rhm.levels:evaluate",
        by_default=False,
        short="the learning of levels one after the other",
    ),
    Claim(
        Reference(
            "rhm.synonyms",
            "A network ceases to distinguish synonyms at the number of samples with which it learns the law.",
            CAGNETTA,
            ("as many layers as levels, and patches as large as tuples",),
            "S = E‖f(x) − f(x with synonyms exchanged)‖² / E‖f(x) − f(y)‖² falls from 1 to 0 at P*",
        ),
        test="Tree-shaped networks learn laws from ¼ to 8 n_c mᴸ inputs. The sensitivity of the layer above the one "
        "that reads single tuples to an exchange of all tuples of tokens for synonyms is measured for every number; "
        "the deciding number is the distance between the numbers that halve it and that halve the error, largest "
        "over laws.",
        control="Tuples of other symbols in place of synonyms.",
        evaluate="joma.claims.rhm.synonyms:evaluate",
        by_default=False,
        short="the invariance to synonyms where a law is learned",
    ),
    Claim(
        Reference(
            "rhm.attention",
            "While a decoder learns a Random Hierarchy Model, its attention becomes sparse and then dense.",
            f"Sections 4 and 5, {PAPER}; on the law of {CAGNETTA}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step) = −Σⱼ pⱼ ln pⱼ of the position that predicts the label, mean over layers",
        ),
        test="The decoders of rhm.levels; fall and rise of attention entropy are read as in text.sparse_then_dense. "
        "The stable rank of the lower MLP layers, and the order in which tokens are associated against their "
        "co-occurrence, are further findings.",
        control="The same curves with their probes in random order, and the same decoders on labels that are unrelated "
        "to the tokens.",
        evaluate="joma.claims.rhm.attention:evaluate",
        by_default=False,
        short="the dip of attention entropy on a hierarchy and the rise after it",
    ),
    Claim(
        Reference(
            "rhm.cnn_over_transformer",
            "A Transformer needs more samples of a Random Hierarchy Model than a convolutional network whose patches "
            "are the tuples of the law.",
            "Cagnetta et al., arXiv 2505.07070, there for the prediction of the next token",
            ("as many layers as levels", "the same optimiser, trained until training samples are known"),
            "P*(Transformer) ≥ 2 P*(convolutional network)",
        ),
        test="Convolutional networks and decoders learn the same law from the same inputs, for several numbers of "
        "them. The deciding number is the logarithm of the ratio of the numbers with which their errors on other "
        "inputs fall to half of that of guessing. With --profile quick one small law, with full a larger one.",
        control="The same ratio with a convolutional network whose places are permuted, so that its patches are not "
        "the tuples of the law.",
        evaluate="joma.claims.rhm.architectures:evaluate",
        by_default=False,
        short="the smaller need for samples of convolutional networks",
    ),
)
