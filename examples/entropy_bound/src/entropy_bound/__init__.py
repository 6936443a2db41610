"""A claim that is not part of joma: attention entropy has a lower bound, set by the norm of the attention logits."""

from joma.claims.claim import Claim, Reference

CLAIM = Claim(
    Reference(
        id="entropy.bound",
        statement="The entropy of softmax attention over T keys is never below a bound that follows from T and from "
        "the norm of the centred attention logits.",
        source="Zhai et al., ICML 2023, arXiv 2303.06296; here with the norm of each query",
        assumptions=("softmax attention",),
        formula="H ≥ ln(1 + (T−1) e^(−β)) + (T−1) β e^(−β) / (1 + (T−1) e^(−β)),  β = σ √(T/(T−1)),  σ = ‖z − mean z‖",
    ),
    test="Compute the attention logits of every head and query of trained networks (those of hierarchy.order) on new "
    "samples; take the smallest difference between the entropy of a query and the bound.",
    control="The bound for half the norm of each query's centred logits, which the entropies must violate.",
    evaluate="entropy_bound.heads:evaluate",
)
