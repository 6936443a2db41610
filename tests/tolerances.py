"""The table of tolerances: every bound that a test uses, with the reason for its value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """A bound on an error, and the reason for its value."""

    bound: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "synonyms.unrelated": Tolerance(0.05, "three standard errors of a mean of 2,000 squared distances in ten units"),
    "probes.chance": Tolerance(0.11, "four standard errors, 0.025 each, of a share of 300 samples"),
    "probes.optimum": Tolerance(1e-3, "nats: L-BFGS stops where the gradient is below 1e-7, in float64"),
    "read_off.bias": Tolerance(0.02, "the unbiased estimate differs by 1/N of a squared correlation above 0.2"),
    "rhm.mixtures": Tolerance(1e-3, "weights are tried in steps of 1/100, and divergences are flat at their minimum"),
    "rhm.inputs": Tolerance(0.09, "four standard errors, 0.021 each, of a share of 300 draws"),
    "rebound.noisy": Tolerance(
        0.08, "levels are means over three probes of a curve that moves 0.067 a probe, with noise 0.05"
    ),
    "rebound.by_chance": Tolerance(0.35, "share of a real rebound that chance may reach with eight seeds of 60 probes"),
    "recovery.share": Tolerance(
        0.03, "share of a fall of 4: levels are means over three probes of a slope of 0.125 a probe, noise 0.01"
    ),
    "baseline.power_law": Tolerance(0.05, "nats, of a fall of 0.6: ten points of a law with three numbers"),
    "order.law": Tolerance(0.1, "nats: a slow run is read off a faster one, with the noise of that one, 60 × 0.001"),
    "order.stuck": Tolerance(0.05, "nats: 0.023 / √τ from travel 0.6 on, which the law still takes off"),
    "order.speed": Tolerance(0.15, "nats: a speed from two probes of a curved start is off by some tenths"),
    "text.held_out_share": Tolerance(
        0.001, "a cut moves to the end of its paragraph, 35 of the 6,000 characters of a block"
    ),
    "attention.entropy": Tolerance(
        1e-5, "nats: float32 sums of scores of order 10, each given to 1e-6, against float64"
    ),
    "attention.share": Tolerance(5e-6, "softmax weights of float32 scores up to 40, which are given to 2e-6"),
    "attention.max_logit": Tolerance(1e-5, "relative to the score or 1: float32 products whose terms may cancel"),
    "attention.sum_of_squares": Tolerance(
        1e-5, "a float32 log-sum-exp of twice the scores less twice another, each given to 2e-6 for scores up to 40"
    ),
    "spectrum.stable_rank": Tolerance(1e-12, "relative: float64 sums over 1e4 entries and one symmetric eigenvalue"),
    "spectrum.certified": Tolerance(1e-6, "the relative error that spectral_norm and stable_rank certify by default"),
    "krylov.single": Tolerance(2e-5, "relative to the largest: float32, some 1e-7 a step over 200 steps"),
    "krylov.double": Tolerance(1e-9, "relative to the largest: all 200 of 200 steps done, in float64"),
    "spectrum.effective_rank": Tolerance(1e-11, "relative: a sum over some 100 singular values, each to 1e-13 of σ₁"),
    "training.clip": Tolerance(1e-3, "relative: differences of float32 weights of order 0.1, moved by 1e-5 or so"),
    "decoder.parity": Tolerance(1e-5, "float32, the same sums of some 20 terms of order 1 in another order"),
    "stack.member": Tolerance(1e-6, "float64; sums in another order, 100 steps of Adam apart"),
    "stack.float32": Tolerance(1e-4, "float32; sums in another order, 100 steps of Adam apart"),
    "decoder.positions": Tolerance(1e-5, "float32 angles up to 40 are exact to 2e-6"),
    "dropout.share": Tolerance(0.002, "four standard deviations of a mean of 1e6 coin flips"),
    "belief.sums": Tolerance(1e-12, "sums of at most some thousand products in float64, in another order"),
    "belief.evidence": Tolerance(1e-10, "evidence counts as the same up to 3e-12, relative, in each of some ten steps"),
    "explore.versions": Tolerance(1e-9, "relative: an integrator's tolerance; other versions differ in last digits"),
    "documented.laws": Tolerance(0.0, "the page shows what is printed, sampled and computed alike on every machine"),
    "documented.rhm": Tolerance(0.1, "three hundred steps in float32, which differ by machine and threads: 0.01 seen"),
    "belief.threshold": Tolerance(
        0.2, "relative: three standard errors of a mean over 400 repetitions of a square, of one number at worst"
    ),
    "hierarchy.sampled": Tolerance(
        0.006, "standard errors: 0.0011 of a share in 200,000 samples, 0.002 in the third of them with a given token"
    ),
    "learning.accuracy": Tolerance(0.05, "three standard errors, 0.016 each near 0.85, of a share of 512 samples"),
    "explorer.solution": Tolerance(1e-6, "interpolation between cuts leaves some 1e-8; a screen shows 1e-3"),
    "explorer.training": Tolerance(1e-7, "Runge–Kutta steps of 0.1 leave 1e-8 after 200; descents differ by rounding"),
    "report.colour_difference": Tolerance(
        0.13,
        "OKLab distance; 0.02 is just noticeable side by side, distant thin lines need several times that",
    ),
    "report.line_contrast": Tolerance(3.0, "WCAG 2.2, 1.4.11: graphics against what is next to them"),
    "report.text_contrast": Tolerance(4.5, "WCAG 2.2, 1.4.3: text against its background"),
    "report.four_digits": Tolerance(5.1e-4, "relative: half a unit of the fourth significant digit of 1.000"),
    "unigram.smoothing": Tolerance(1e-9, "equal counts stay equal when one is added to each"),
    "closed_form.relative": Tolerance(
        1e-10, "relative: v and 1 − v/μ, 16 digits less six for rounding, against 50 digits"
    ),
    "closed_form.fast": Tolerance(1e-12, "relative: v of fast components against 120 digits; 1e-15 was measured"),
    "closed_form.sums": Tolerance(1e-11, "a logarithm of 1 − v/μ near e⁻⁹, read off v in float64"),
    "closed_form.roundings": Tolerance(
        16, "roundings of its arguments that a result may be off by; seven were measured over 150 random points"
    ),
    "closed_form.trapezoid": Tolerance(1e-6, "relative: 20,000 trapezoids over 8 units of u, second order"),
    "closed_form.early": Tolerance(1e-7, "relative: a first-order law at times of 1e-9, with rates up to 30"),
    "closed_form.integrator": Tolerance(
        1e-8, "integrators at relative tolerance 1e-12; docs/theory.md reports 1e-8 at 0.999 t*"
    ),
    "closed_form.four_decimals": Tolerance(5.1e-5, "half a unit of the last decimal printed"),
    "closed_form.five_decimals": Tolerance(5.1e-6, "half a unit of the last decimal printed"),
    "closed_form.tenth_of_a_step": Tolerance(0.051, "half a unit of the last decimal printed"),
    "closed_form.explicit_steps": Tolerance(
        0.01, "nats: steps of 0.02 err by 0.02/2 times rates of order 1 while entropy moves by 1.4"
    ),
    "sums.float64": Tolerance(1e-12, "float64 sums of some ten terms of order 1, and quotients of them"),
    "simulation.sums": Tolerance(1e-13, "float64 sums of some 50 terms of order 1, taken in another order"),
    "classes.centres": Tolerance(0.1, "tokens: the ends of the vocabulary cut a Gaussian 4 widths away"),
    "classes.frequencies": Tolerance(0.01, "four standard errors of a share of 0.4 in some 2,000 samples of 20 tokens"),
    "simulation.solver": Tolerance(1e-8, "adaptive solvers at 1e-9 to 1e-11 a step, some hundred steps"),
    "simulation.blow_up": Tolerance(5.1e-6, "time units: half a unit of the last of the six digits printed"),
    "simulation.order": Tolerance(0.15, "of an order: the next order of the error is a tenth of the leading one"),
    "simulation.moved": Tolerance(0.01, "a motion far above the tolerance of the invariant"),
    "simulation.adam_epsilon": Tolerance(1e-5, "Adam's epsilon of 1e-8 against gradients of 1e-5 and more, times 0.01"),
    "closed_form.quadrature": Tolerance(1e-10, "nested quadratures of order 1, each good to 1e-12"),
    "embeddings.trapezoid": Tolerance(1e-6, "trapezoids of 1e-3 in time, second order, with rates of order 1"),
    "embeddings.order": Tolerance(0.1, "slope over one decade of coherence: second-order terms are 1 % of the first"),
    "simulation.slope": Tolerance(0.05, "slope 1 over two decades of the step, which the second-order error bends"),
    "simulation.accumulated": Tolerance(1e-10, "relative: sums over some 100 steps that are equal term by term"),
    "alignment.correlation": Tolerance(1e-10, "float64 sums, of columns offset by up to 1e4 times their spread"),
    "alignment.by_chance": Tolerance(0.1, "two standard errors and more of a correlation over 400 to 600 samples"),
    "alignment.half_by_chance": Tolerance(
        0.16, "three standard errors of a mean of six latents' scores, two folds of 30 samples each"
    ),
    "alignment.uniform": Tolerance(
        0.14, "Kolmogorov: 1.6 / sqrt(200) = 0.115 and 1.6 / sqrt(100) = 0.16 are one in a hundred, on a coarse grid"
    ),
    "alignment.corrected_noise": Tolerance(0.02, "three standard errors of a mean over 60 draws of five latents"),
    "alignment.chance": Tolerance(0.012, "three standard errors of the difference of two means over 300 shuffles"),
    "theorem5.share": Tolerance(0.0065, "four standard errors of a share near one half among some 100,000 samples"),
    "theorem5.spread": Tolerance(0.2, "relative: four standard errors of a spread over 200 repetitions"),
    "expressive.units": Tolerance(
        2e-5, "float32: values kept to 1e-7 of a sequence length of up to 128, summed over some 10 of them"
    ),
    "hierarchy.unrelated": Tolerance(0.026, "four standard errors of a share of 0.8 in some 4,000 samples"),
    "hierarchy.no_gain": Tolerance(
        0.1, "three standard errors of the larger of two gains, whose scores are good to 0.02 with 1,000 samples"
    ),
    "hierarchy.same_inputs": Tolerance(1e-4, "a tie of two units may be broken otherwise on a half; float32 units"),
    "separable.unit": Tolerance(1e-6, "HiGHS meets each constraint to 1e-7; weights and inputs are few"),
    "association.share": Tolerance(0.032, "four standard errors of a share near one half among 4,000 samples"),
    "association.partial": Tolerance(
        0.05, "200 queries of 199 tokens give chance 0.005, ranks of a sum of normals are not quite linear in its parts"
    ),
    "gguf.eight_bits": Tolerance(0.005, "of the largest: 8 bits and a sign, 1/254, and half precision"),
    "sweep.single": Tolerance(
        1e-3, "nats: float32 models with weights of 0.3, whose layers amplify roundings of 1e-7 of scores up to 40"
    ),
    "capture.outputs": Tolerance(
        2e-5, "float32: what two small layers give, of order 1, when sums are taken in another order"
    ),
}
