"""Claims on the dynamics with attention integrated out: Theorems 2 to 4."""

from joma.claims.claim import PAPER, Claim, Reference

CLAIMS = (
    Claim(
        Reference(
            "theorem2",
            "With a linear MLP every component becomes infinite, at a time that its gradient and its start determine, "
            "and the first one to do so takes all attention.",
            f"Theorem 2, {PAPER}; blow-up times derived from it",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "linear MLP"),
            "t* = √(π/2) (sign Δ − erf(v₀/√2)) / Δ",
        ),
        test="Blow-up times from the closed form against adaptive integration of v̇ = Δ exp(v²/2) up to |v| = 6, "
        "component by component, for random Δ and starts; and whether the predicted component comes first.",
        control="The same formula without the erf of the start, as if every component started at 0.",
        evaluate="joma.claims.dynamics.theorem2:evaluate",
        short="the blow-up of the components with a linear MLP",
    ),
    Claim(
        Reference(
            "theorem3",
            "Under uniform attention the MLP's weights follow the centres of the data, weighted by the mean slope of "
            "the activation there, plus a term along the weights themselves.",
            f"Theorem 3, {PAPER}; Gaussian and general forms derived",
            ("uniform attention", "a mixture of isotropic distributions", "constant gradient on each of them"),
            "v̇ = Σⱼ aⱼ Δⱼ (θ₁ x̄ⱼ + θ₂ v/‖v‖),  θ₁ = E[φ′(r + ‖v‖s)],  θ₂ = E[s φ′(r + ‖v‖s)]",
        ),
        test="The flow from θ₁ and θ₂ against the mean gradient over 1.2 million samples of a mixture of three "
        "isotropic Gaussians in six dimensions, for four random v and for ReLU, tanh and GELU; the largest deviation "
        "of the three.",
        control="The same flow without its term along the weights (θ₂ = 0), and with the gains of a linear activation.",
        evaluate="joma.claims.dynamics.theorem3:evaluate",
        short="the flow of the MLP's weights under uniform attention",
    ),
    Claim(
        Reference(
            "theorem4",
            "With a nonlinear MLP the salient component converges exponentially faster: the ratio of convergence tends "
            "to exp((μⱼ² − μₖ²)/2), with a correction that decays like 1/t.",
            f"Theorem 4, {PAPER}; the correction derived",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "fixed point μ"),
            "ln(1/δⱼ) / ln(1/δₖ) = exp((μⱼ² − μₖ²)/2) (1 + Λⱼₖ(t))",
        ),
        test="The ratio exp((μⱼ² − μₖ²)/2)(1 + Λ) against adaptive integration of both components from 0, at 40 times "
        "from 0.1 to 100, for random pairs of targets in [2, 3] and [0.5, 1.5].",
        control="The limit alone, without the correction Λ; and the ratio of dynamics without the factor exp(v²/2), "
        "that is without feedback from attention.",
        evaluate="joma.claims.dynamics.theorem4:evaluate",
        short="the ratio of convergence with a nonlinear MLP",
    ),
    Claim(
        Reference(
            "nonlinear.sparse_then_dense",
            "With a nonlinear activation, attention first becomes sparse and then dense again; with a linear one it "
            "only becomes sparser.",
            f"Theorem 4 and Figure 4, {PAPER}; exact solution derived",
            ("attention integrated out (Theorem 1)", "one hidden unit", "constant upstream gradient", "fixed point μ"),
            "v̇ = (μ − v)∘exp(αv²)  against  v̇ = Δ∘exp(αv²)",
        ),
        test="Entropy of softmax(v²/3) along the exact solution, for ten targets drawn from [1, 4] and a start at "
        "0.05, up to time 100 (5,000 steps of 0.02 in the paper's Figure 4); repeated for several draws.",
        control="The exact solution of the linear dynamics with the same numbers as Δ.",
        evaluate="joma.claims.dynamics.nonlinear:evaluate",
        short="the dip and rise of attention with a nonlinear activation",
    ),
)
