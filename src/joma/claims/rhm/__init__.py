"""Claims on the Random Hierarchy Model, the field's standard law of hierarchical data."""

from joma.claims.claim import PAPER, Claim, Reference

CAGNETTA = "Cagnetta et al., PRX 2024, arXiv 2307.02129"

CLAIMS = (
    Claim(
        Reference(
            "rhm.samples",
            "A deep network learns a Random Hierarchy Model from a number of samples that grows with the number of "
            "classes and as a power of the number of synonyms, the number of levels being its exponent.",
            CAGNETTA,
            (
                "as many layers as levels, and patches as large as tuples",
                "rules drawn at random, so that single tuples correlate with the label",
            ),
            "P* ≈ c n_c mᴸ",
        ),
        test="Tree-shaped networks learn laws with several numbers of synonyms, levels and classes from ¼ to 4 n_c mᴸ "
        "different inputs. P* is the number with which the error on other inputs falls to half of that of guessing. "
        "The deciding number is the largest deviation of ln P* from ln n_c mᴸ over the laws, after one common factor.",
        control="Rules with which no single tuple says anything about the label, compared by the same factor; "
        "n_c m^((d−1)/(s−1)) of shallow networks, and n_c mᴸ of the laws in reverse order, as predictions.",
        evaluate="joma.claims.rhm.samples:evaluate",
        by_default=False,
        short="the number of samples that a hierarchy takes",
    ),
)
