"""Every statement that joma holds against evidence: where it stands, what it assumes, in which formula.

A reference carries words only, so that listing the claims loads no numerics. The functions that compute what a
statement says carry its id in their docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A statement with its source.

    Args:
        id: its id, ``family.name``; function docstrings, claims, tests and report lines carry it.
        statement: what is claimed, in one or two sentences.
        source: paper item, or ``derived`` with the section of docs/theory that derives it.
        assumptions: what must be true for it to follow; a verdict says which of them fails.
        formula: the equation in plain text, as the report prints it.
    """

    id: str
    statement: str
    source: str
    assumptions: tuple[str, ...]
    formula: str


PAPER = "Tian et al., ICLR 2024, arXiv 2310.00535"

REFERENCES: dict[str, Reference] = {
    reference.id: reference
    for reference in (
        Reference(
            "theorem1.linear",
            "With linear attention, each token's squared attention logit minus the squared norm of its MLP weights "
            "never changes during training.",
            f"Theorem 1, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow"),
            "z² − Σₖ vₖ² = const, per token",
        ),
        Reference(
            "theorem1.exp",
            "With exponential attention, each token's attention logit minus half the squared norm of its MLP weights "
            "never changes during training.",
            f"Theorem 1, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow"),
            "z − (1/2T) Σₖ vₖ² = const, per token",
        ),
        Reference(
            "theorem1.softmax",
            "With softmax attention, the logits follow from the MLP weights alone, as long as the mean attention stays "
            "constant and factors out of the gradient.",
            f"Theorem 1 and Figure 2, {PAPER}",
            (
                "orthonormal token and query embeddings",
                "one query",
                "gradient flow",
                "mean attention b̄ constant in time",
                "E[gₖ φ′ₖ b bᵀ] = b̄ E[gₖ φ′ₖ b]ᵀ",
            ),
            "z − (1/2T) Σₖ (vₖ² − ‖vₖ‖² b̄) = const",
        ),
        Reference(
            "theorem1.several_queries",
            "Several queries that share the MLP keep one invariant together, not each its own: their logits (squared "
            "for linear attention) are summed.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "gradient flow of the whole loss", "linear or exp attention"),
            "Σₘ z⁽ᵐ⁾ − (1/2T) Σₖ vₖ² = const (exp),  Σₘ (z⁽ᵐ⁾)² − Σₖ vₖ² = const (linear)",
        ),
        Reference(
            "reduced_equals_full",
            "Training the MLP alone, with the attention logits computed from it by Theorem 1, gives the same weights "
            "as training both.",
            f"Sections 3 and 4, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow", "linear or exp attention"),
            "v̇ₖ = E[gₖ φ′ₖ b(z(V))]",
        ),
        Reference(
            "discretisation.sgd",
            "Finite steps of gradient descent break the invariant at first order in the step.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "full-batch gradient descent", "fixed training time"),
            "z − (1/2T) Σₖ vₖ² = const − (1/2T) Σ_steps Σₖ (Δvₖ)²  (exp)",
        ),
        Reference(
            "discretisation.adam",
            "Adam breaks the invariant altogether, however small its steps: it rescales every coordinate by itself, so "
            "logits and weights no longer move by one gradient.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "exp attention"),
            "(z − (1/2T) Σₖ vₖ²) drifts by as much as z moves",
        ),
        Reference(
            "embeddings.almost_orthogonal",
            "With embeddings that are not orthonormal Theorem 1 is off at first order in their coherence, by a "
            "correction that is known exactly.",
            "derived, docs/theory section 4",
            ("one query", "gradient flow", "exp attention", "linearly independent token embeddings"),
            "z(t) − z(0) = (1/T) Σₖ {½ Δvₖ² − ∫ vₖ∘[(I − M⁻¹) v̇ₖ] dt − ∫ vₖ∘[M⁻¹ r] γₖ dt}",
        ),
        Reference(
            "theorem2",
            "With a linear MLP every component runs away: its gradient and its start fix when it becomes infinite, and "
            "the first one to do so takes all attention.",
            f"Theorem 2, {PAPER}; blow-up times derived from it",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "linear MLP"),
            "t* = √(π/2) (sign Δ − erf(v₀/√2)) / Δ",
        ),
        Reference(
            "theorem3",
            "Under uniform attention the MLP's weights follow the centres of the data, weighted by how open the "
            "nonlinearity is there, plus a term along the weights themselves.",
            f"Theorem 3, {PAPER}; Gaussian and general forms derived",
            ("uniform attention", "a mixture of isotropic distributions", "constant gradient on each of them"),
            "v̇ = Σⱼ aⱼ Δⱼ (θ₁ x̄ⱼ + θ₂ v/‖v‖),  θ₁ = E[φ′(r + ‖v‖s)],  θ₂ = E[s φ′(r + ‖v‖s)]",
        ),
        Reference(
            "theorem4",
            "With a nonlinear MLP the salient component converges exponentially faster: the ratio of convergence tends "
            "to exp((μⱼ² − μₖ²)/2), with a correction that dies like 1/t.",
            f"Theorem 4, {PAPER}; the correction derived",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "fixed point μ"),
            "ln(1/δⱼ) / ln(1/δₖ) = exp((μⱼ² − μₖ²)/2) (1 + Λⱼₖ(t))",
        ),
        Reference(
            "nonlinear.sparse_then_dense",
            "With a nonlinear activation, attention first becomes sparse and then dense again; with a linear one it "
            "only becomes sparser.",
            f"Theorem 4 and Figure 4, {PAPER}; exact solution derived",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "fixed point μ"),
            "v̇ = (μ − v)∘exp(αv²)  against  v̇ = Δ∘exp(αv²)",
        ),
        Reference(
            "text.sparse_then_dense",
            "In a Transformer that learns real text, attention entropy falls early in training and rises again.",
            f"Figure 6, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step) = −Σⱼ pⱼ ln pⱼ, mean over held-out queries",
        ),
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
        Reference(
            "text.rank_drop",
            "While attention becomes sparse, the MLP's lower layer loses rank; as it becomes dense again, the rank "
            "comes back.",
            f"Section 4.2 and Figure 7, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "stable rank = ‖W‖²_F / σ₁²",
        ),
        Reference(
            "series.sparse_then_dense",
            "In models of known families, attention entropy falls early in a series of saved steps and rises again.",
            f"Experiments on Pythia and OPT, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "H(step) / ln(visible keys), mean over held-out queries, by layer",
        ),
        Reference(
            "series.rank_drop_and_rebound",
            "In models of known families, the MLP's lower layers lose rank early in a series of saved steps and regain "
            "it.",
            f"Experiments on Pythia and OPT, {PAPER}",
            ("the theory's dynamics carry over to a trained decoder",),
            "stable rank = ‖W‖²_F / σ₁², by layer",
        ),
        Reference(
            "theorem5",
            "In a latent tree, how often two tokens come together follows from the height of their common ancestor: "
            "the nearer it is, the more often.",
            f"Theorem 5, {PAPER}",
            (
                "a hierarchical binary latent tree",
                "one polarity for all edges below the top latents",
                "all leaves equally deep",
                "the label's value is given",
            ),
            "P(yₗ = 1 | yₘ = 1) = ½ (1 + ρ²ᴴ + 2s ρᴸ⁻¹ρ₀) / (1 + s ρᴸ⁻¹ρ₀),  s = ±1 the label's sign",
        ),
        Reference(
            "hierarchy.order",
            "A hierarchy is learned bottom up: of all tokens, a query associates those with a near common ancestor "
            "first, because they come with it most often.",
            f"Section 5 and Theorem 5, {PAPER}",
            (
                "the theory's dynamics carry over to a trained decoder",
                "constant upstream gradient",
                "orthonormal token and query embeddings",
            ),
            "z(l | m) rises in the order of P(yₗ = 1 | yₘ = 1), given the query m",
        ),
        Reference(
            "hierarchy.alignment",
            "A Transformer that learns to tell labels finds the latents behind them: each level of the hierarchy in "
            "hidden units of its own layer.",
            f"Section 5 and Table 1, {PAPER}; laws with many inputs, held-out scores and controls ours",
            ("the theory's dynamics carry over to a trained decoder", "as many layers as levels of latents"),
            "corr(hidden unit of layer s, latent of level s), against the untrained network",
        ),
        Reference(
            "hierarchy.table1",
            "In trained Transformers the best hidden unit of each latent correlates with it highly, in its own layer: "
            "evidence that training finds the hierarchy.",
            f"Table 1, {PAPER}",
            ("one input for each class", "units chosen and scored on the same inputs", "no control in the paper"),
            "mean over latents of max over units of corr(max-pooled unit of layer s, latent of level s)",
        ),
        Reference(
            "hierarchy.expressible",
            "There are weights with which every latent of a hierarchy is exactly one hidden unit of its layer, and the "
            "class is always right.",
            "derived, docs/expressiveness",
            (
                "each class always shows the same tokens, and no two classes the same ones",
                "one layer for each level, and one in front where level 0 does not fit the first",
            ),
            "unit i of layer s = 1 where latent i of level s is present, 0 elsewhere",
        ),
    )
}
