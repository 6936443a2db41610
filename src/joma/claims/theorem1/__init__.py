"""Claims on Theorem 1, the invariant that links attention logits and MLP weights."""

from joma.claims.claim import PAPER, Claim, Reference

TEMPERATURE, LEARNT = 0.5, 0.9
N_QUERIES = 3
SGD_RATES, ADAM_RATES = (0.1, 0.0316, 0.01, 0.00316, 0.001), (0.01, 0.00316, 0.001)
PERTURBATIONS = (0.005, 0.015, 0.05, 0.15)

INVARIANT_TEST = (
    "Integrate the gradient flow of a classifier with softmax cross-entropy loss and a trained upper layer "
    "(DOP853, tolerance 1e-10) for four smooth activations; take the largest drift of the invariant over tokens and "
    "times, relative to the change of its attention term."
)
INVARIANT_CONTROL = (
    "The same with embeddings that are not orthonormal (random unit vectors), which the theorem excludes."
)

CLAIMS = (
    Claim(
        Reference(
            "theorem1.linear",
            "With linear attention, each token's squared attention logit minus the squared norm of its MLP weights "
            "never changes during training.",
            f"Theorem 1, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow"),
            "z² − Σₖ vₖ² = const, per token",
        ),
        test=INVARIANT_TEST,
        control=INVARIANT_CONTROL,
        evaluate="joma.claims.theorem1.flow:linear",
        short="the invariant of linear attention",
    ),
    Claim(
        Reference(
            "theorem1.exp",
            "With exponential attention, each token's attention logit minus half the squared norm of its MLP weights "
            "never changes during training.",
            f"Theorem 1, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow"),
            "z − (1/2T) Σₖ vₖ² = const, per token",
        ),
        test=INVARIANT_TEST,
        control=INVARIANT_CONTROL,
        evaluate="joma.claims.theorem1.flow:exponential",
        short="the invariant of exponential attention",
    ),
    Claim(
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
        test="The paper's Figure 2 setting: classes with Gaussian-shaped token distributions, softmax attention with "
        f"temperature {TEMPERATURE:g}, SGD. Correlation over tokens (means removed) between the change of the "
        "simulated logits and the change that the formula predicts from the weights with b̄ at its initial value, "
        f"averaged over training until {LEARNT:.0%} of the decrease of the loss.",
        control="Each of the formula's two terms alone, and the whole formula with its tokens permuted.",
        evaluate="joma.claims.theorem1.softmax:softmax",
        short="the formula for the logits of softmax attention",
    ),
    Claim(
        Reference(
            "theorem1.several_queries",
            "Several queries that share the MLP have one common invariant, in which their logits (squared for linear "
            "attention) are summed; no query has an invariant of its own.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "gradient flow of the whole loss", "linear or exp attention"),
            "Σₘ z⁽ᵐ⁾ − (1/2T) Σₖ vₖ² = const (exp),  Σₘ (z⁽ᵐ⁾)² − Σₖ vₖ² = const (linear)",
        ),
        test=f"The gradient flow of theorem1.linear and theorem1.exp (tanh) with {N_QUERIES} queries that share the "
        "MLP; drift of the invariant whose logits are summed over queries.",
        control="The invariant of one query with the same weights, without the other queries.",
        evaluate="joma.claims.theorem1.queries:several_queries",
        short="the common invariant of several queries",
    ),
    Claim(
        Reference(
            "reduced_equals_full",
            "Training the MLP alone, with the attention logits computed from it by Theorem 1, gives the same weights "
            "as training both.",
            f"Sections 3 and 4, {PAPER}",
            ("orthonormal token and query embeddings", "one query", "gradient flow", "linear or exp attention"),
            "v̇ₖ = E[gₖ φ′ₖ b(z(V))]",
        ),
        test="Gradient flow of weights and logits together, and of the weights alone with the logits from Theorem 1, "
        "for linear and exp attention (tanh, softmax cross-entropy, trained upper layer).",
        control="The same with softmax attention, for which Theorem 1 is an approximation.",
        evaluate="joma.claims.theorem1.reduced:reduced_equals_full",
        short="training without the attention logits",
    ),
    Claim(
        Reference(
            "discretisation.sgd",
            "Finite steps of gradient descent break the invariant at first order in the step.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "full-batch gradient descent", "fixed training time"),
            "z − (1/2T) Σₖ vₖ² = const − (1/2T) Σ_steps Σₖ (Δvₖ)²  (exp)",
        ),
        test=f"Gradient descent over one training time with learning rates from {SGD_RATES[-1]:g} to "
        f"{SGD_RATES[0]:g}; slope of ln(drift of the invariant) against ln(learning rate).",
        control="The same slope for Adam, at equal learning rate × steps.",
        evaluate="joma.claims.theorem1.discretisation:sgd",
        short="the first-order error of gradient descent",
    ),
    Claim(
        Reference(
            "discretisation.adam",
            "Adam breaks the invariant, however small its steps are: it rescales every coordinate of the gradient, so "
            "that logits and weights no longer follow the same gradient.",
            "derived, docs/theory section 2",
            ("orthonormal token and query embeddings", "exp attention"),
            "(z − (1/2T) Σₖ vₖ²) drifts by as much as z moves",
        ),
        test="Drift of the invariant under Adam, relative to the motion of the logits, at the smallest of "
        f"{len(ADAM_RATES)} learning rates ({ADAM_RATES[-1]:g}).",
        control="Plain gradient descent, and descent with momentum, when the logits have moved as far.",
        evaluate="joma.claims.theorem1.discretisation:adam",
        short="the failure of the invariant under Adam",
    ),
    Claim(
        Reference(
            "embeddings.almost_orthogonal",
            "With embeddings that are not orthonormal, Theorem 1 has an error of first order in their coherence, and "
            "an exact correction is known.",
            "derived, docs/theory section 4",
            ("one query", "gradient flow", "exp attention", "linearly independent token embeddings"),
            "z(t) − z(0) = (1/T) Σₖ {½ Δvₖ² − ∫ vₖ∘[(I − M⁻¹) v̇ₖ] dt − ∫ vₖ∘[M⁻¹ r] γₖ dt}",
        ),
        test=f"Gradient flow with exp attention and orthonormal embeddings perturbed by {len(PERTURBATIONS)} sizes; "
        "error of the logits that Theorem 1 with the correction predicts from the weights.",
        control="Theorem 1 without the correction, at the largest and at the smallest coherence.",
        evaluate="joma.claims.theorem1.embeddings:almost_orthogonal",
        short="the correction for embeddings that are not orthonormal",
    ),
)
