"""A claim of another theory than joma's own: attention entropy has a lower bound that the size of its logits sets."""

from joma.claims.claim import Claim, Reference

CLAIM = Claim(
    Reference(
        id="entropy.bound",
        statement="The entropy of softmax attention over T keys is never below a bound that follows from T and from "
        "the norm of the centred attention logits.",
        source="Zhai et al., ICML 2023, arXiv 2303.06296; here with each query's own norm",
        assumptions=("softmax attention",),
        formula="H ≥ ln(1 + (T−1) e^(−β)) + (T−1) β e^(−β) / (1 + (T−1) e^(−β)),  β = σ √(T/(T−1)),  σ = ‖z − mean z‖",
    ),
    test="Read the attention logits of every head and query of trained networks (those of hierarchy.order) on fresh "
    "samples; the smallest difference between a query's entropy and the bound.",
    control="The bound for half the norm of each query's centred logits, which the entropies must break.",
    evaluate="entropy_bound.heads:evaluate",
)
