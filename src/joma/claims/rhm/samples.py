"""Claim rhm.samples: whether the number of samples that a network needs follows from synonyms, levels and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from joma.charts import Chart, Curve, Mark
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm.learning import (
    HALF,
    TENTH,
    Case,
    Learned,
    Sizes,
    crossing,
    learned,
    numbers_of,
    why_censored,
)
from joma.claims.workspace import Profile, Workspace
from joma.progress import part_of
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.theory.correlations import correlation_threshold
from joma.train.tree_networks import Schedule

ByCase = Float[np.ndarray, "seeds cases"]


@dataclass(frozen=True)
class Plan:
    """The laws to learn, and the control."""

    cases: tuple[Case, ...]
    control: Case
    sizes: Sizes
    num_seeds: int

    def criterion(self) -> Criterion:
        """Return what the laws must meet, with the reason for it."""
        scales = np.log2(_scales(self.cases))
        apart = np.abs(scales - scales.mean()).max()
        return Criterion(
            "largest deviation of a number of samples from c · n_c mᴸ, with one factor c for all laws, octaves",
            "<=",
            1.0,
            "a factor of 2, by which the numbers of samples tried differ; n_c mᴸ of the laws differs "
            f"{2 ** np.ptp(scales):.0f}-fold, so that the same number for all of them would be off by {apart:.1f} "
            "octaves",
        )


def _case(num_synonyms: int, depth: int, num_symbols: int = 8) -> Case:
    """A case for which n_c mᴸ is derived: as many classes as symbols, and m^(L − 1) ≥ v."""
    return Case(num_synonyms, depth, num_symbols, num_symbols)


_QUICK = (_case(2, 4), _case(3, 3), _case(4, 3), _case(3, 4), _case(4, 3, 16), _case(6, 3))
_CONTROL = Case(4, 3, num_classes=4, num_symbols=8, uncorrelated=True)  # needs n_c ≤ m
_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PLANS = {
    Profile.QUICK: Plan(_QUICK, _CONTROL, Sizes(_MULTIPLES, 512, 64, Schedule(1000)), 3),
    Profile.FULL: Plan(
        (*_QUICK, _case(4, 4), _case(16, 2, 16), _case(8, 3, 16)),
        _CONTROL,
        Sizes(_MULTIPLES, 512, 256, Schedule(10_000)),
        10,
    ),
}


def evaluate(workspace: Workspace) -> Agreement:
    """Find the number of samples at which each law is half learned, and compare it with n_c m^L."""
    plan = PLANS[workspace.profile]
    seeds, cases = workspace.seeds(plan.num_seeds), (*plan.cases, plan.control)
    *found, control = [
        learned(case, seeds, plan.sizes, part_of(workspace.progress, "learning curves", place, 1, len(cases)))
        for place, case in enumerate(cases)
    ]
    *crossings, of_control = [
        [crossing(one.numbers, errors, HALF) for errors in one.errors] for one in (*found, control)
    ]
    needed = numbers_of(crossings)
    factors = np.log2(needed / _scales(plan.cases))
    level = factors.mean(1)
    from_level = np.abs(np.log2(numbers_of([of_control])[:, 0] / plan.control.scale) - level)
    censored = why_censored({_name(case): row for case, row in zip(plan.cases, crossings, strict=True)})
    agreement = Agreement(
        plan.criterion(),
        Estimate.of(np.abs(factors - level[:, None]).max(1), "octaves"),
        (
            Control(
                "rules without correlation of label and tuples"
                + " (lower bound)" * any(one.bound for one in of_control),
                Estimate.of(from_level, "octaves"),
            ),
            Control("n_c m^((d−1)/(s−1)), for shallow networks", _deviation(needed, _shallow(plan.cases))),
            Control("the same number for all laws", _deviation(needed, np.ones(len(plan.cases)))),
        ),
        conclusion="",
        findings=_findings(found, control, factors),
        charts=(_collapse_chart(found, control), _raw_chart(found), _scale_chart(found, needed)),
        notes=(
            "Networks of patches with one path to each token, "
            f"width {plan.sizes.width}, Adam for {plan.sizes.schedule.num_steps:,} steps; tuples of two; half learned: "
            "half of the error of guessing, on inputs that no network trained on.",
        ),
        censored=censored,
    )
    return replace(agreement, conclusion=_conclusion(agreement, level, control))


def _deviation(needed: ByCase, predicted: Sequence[float] | ByCase) -> Estimate:
    factors = np.log2(needed / np.asarray(predicted))
    return Estimate.of(np.abs(factors - factors.mean(1, keepdims=True)).max(1), "octaves")


def _scales(cases: Sequence[Case]) -> list[float]:
    return [float(case.scale) for case in cases]


def _shallow(cases: Sequence[Case]) -> list[float]:
    return [case.scale_of_shallow for case in cases]


def _findings(found: Sequence[Learned], control: Learned, factors: ByCase) -> tuple[Finding, ...]:
    predicted = np.log2(_scales([one.case for one in found]))
    thresholds = np.array([[max(1.0, correlation_threshold(law)) for law in one.laws] for one in found]).T
    slopes = [np.polyfit(predicted, predicted + row, 1)[0] for row in factors]
    return (
        Finding("c, the common factor", Estimate.of(2 ** factors.mean(1)), "geometric mean over laws"),
        Finding("slope of ln P* over ln n_c mᴸ", Estimate.of(slopes), "1 if they are proportional"),
        Finding(
            "deviation from c × the samples at which each law's own correlations exceed their noise",
            _deviation(2**factors * 2**predicted, thresholds),
            "the deciding number, with the rules of each seed instead of random ones",
        ),
        *(
            Finding(f"{_name(one.case)}: P* / n_c mᴸ", Estimate.of(2**column), f"n_c mᴸ = {one.case.scale:,}")
            for one, column in zip(found, factors.T, strict=True)
        ),
        *(
            Finding(
                f"{_name(one.case)}: error with {one.numbers[-1]:,} samples",
                Estimate.of(one.errors[:, -1]),
                "over that of guessing" + _learned(one),
            )
            for one in (*found, control)
        ),
    )


def _learned(one: Learned) -> str:
    """From which number of samples on a tenth of the error of guessing is left, in the mean over seeds."""
    mean = one.errors.mean(0)
    at = crossing(one.numbers, mean, TENTH)
    return "" if at.bound else f"; a tenth from {at.number / one.case.scale:.2g} n_c mᴸ on"


def _name(case: Case) -> str:
    return f"{case}, n_c = {case.num_classes}, v = {case.num_symbols}" + ", uncorrelated" * case.uncorrelated


def _conclusion(agreement: Agreement, level: Float[np.ndarray, " seeds"], control: Learned) -> str:
    figures = (
        f"The number of samples with which a network makes half as many errors as by guessing is "
        f"{2 ** level.mean():.2g} n_c mᴸ, up to a factor of {2**agreement.measured.mean:.2g} in the worst of the laws. "
    )
    kept = control.errors[:, -1].mean()
    rest = f"Without correlations between label and tuples {kept:.0%} of the error of guessing is left with "
    rest += f"{control.numbers[-1] / control.case.scale:.0f} n_c mᴸ samples."
    said = {
        Verdict.HOLDS: "So synonyms, levels and classes of a law say how many samples it takes. ",
        Verdict.UNDECIDED: "Whether it follows n_c mᴸ is not decided. ",
        Verdict.FAILS: "So it does not follow n_c mᴸ. ",
    }
    return figures + said[agreement.verdict] + rest


def _collapse_chart(found: Sequence[Learned], control: Learned) -> Chart:
    return Chart(
        "collapse",
        "Error over the number of samples, divided by n_c mᴸ",
        "If the number of samples that a law takes is proportional to n_c mᴸ, all curves are one. Mean, lowest and "
        "highest seed; inputs that no network trained on.",
        "training samples / (n_c mᴸ)",
        "error rate / that of guessing",
        (
            *(_curve(one, one.case.scale) for one in found),
            curve_of(
                _name(control.case), np.array(control.numbers) / control.case.scale, control.errors, role="control"
            ),
        ),
        (Mark("y", HALF, "half learned"),),
        x_scale="log",
    )


def _raw_chart(found: Sequence[Learned]) -> Chart:
    return Chart(
        "samples",
        "Error over the number of samples",
        "The same curves, not divided by n_c mᴸ.",
        "training samples",
        "error rate / that of guessing",
        tuple(_curve(one, 1) for one in found),
        (Mark("y", HALF, "half learned"),),
        x_scale="log",
    )


def _curve(one: Learned, unit: float) -> Curve:
    return curve_of(_name(one.case), np.array(one.numbers) / unit, one.errors, role="measured", group=_name(one.case))


def _scale_chart(found: Sequence[Learned], needed: ByCase) -> Chart:
    order = np.argsort(_scales([one.case for one in found]), kind="stable")
    scales = np.array(_scales([one.case for one in found]))[order]
    factor = float(2 ** np.log2(needed[:, order] / scales).mean())
    measured = curve_of("half learned", scales.tolist(), needed[:, order], role="measured")
    return Chart(
        "scale",
        "The number of samples at which each law is half learned",
        "Against n_c mᴸ, with the line of the common factor. Mean, lowest and highest seed.",
        "n_c mᴸ",
        "training samples",
        (measured, Curve("c · n_c mᴸ", scales.tolist(), (factor * scales).tolist(), role="predicted")),
        x_scale="log",
        y_scale="log",
    )
