"""Claim rhm.samples: whether the number of samples that a network needs follows from synonyms, levels and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from joma.charts import Chart, Curve, Mark
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm.learning import HALF, NUM_SYMBOLS, TENTH, Case, Learned, Sizes, crossing, learned
from joma.claims.workspace import Profile, Workspace
from joma.progress import part_of
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.theory.correlations import correlation_threshold
from joma.train.tree_networks import Schedule

ByCase = Float[np.ndarray, "seeds cases"]


@dataclass(frozen=True)
class Plan:
    """The laws to learn and the control, which has a law with the same synonyms, levels and classes among them."""

    cases: tuple[Case, ...]
    control: Case
    sizes: Sizes
    control_sizes: Sizes
    num_seeds: int


_QUICK = (Case(2, 3), Case(2, 4), Case(4, 3, num_classes=4), Case(4, 3), Case(8, 2), Case(5, 3))
_CONTROL = Case(4, 3, num_classes=4, uncorrelated=True)
_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


def _sizes(more: tuple[float, ...], num_steps: int, width: int) -> Sizes:
    return Sizes((*_MULTIPLES, *more), 512, width, Schedule(num_steps))


PLANS = {
    Profile.QUICK: Plan(_QUICK, _CONTROL, _sizes((), 1000, 64), _sizes((8.0,), 1000, 64), 3),
    Profile.FULL: Plan(
        (*_QUICK, Case(3, 4), Case(4, 4), Case(8, 3)),
        _CONTROL,
        _sizes((), 10_000, 256),
        _sizes((8.0, 16.0), 10_000, 256),
        10,
    ),
}

CRITERION = Criterion(
    "largest deviation of a number of samples from c · n_c mᴸ, with one factor c for all laws, octaves",
    "<=",
    1.0,
    "a factor of 2; the laws differ 16-fold in n_c mᴸ, so that one number for all of them is off by up to a factor of "
    "4, two octaves",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Find the number of samples at which each law is half learned, and compare it with n_c m^L."""
    plan = PLANS[workspace.profile]
    seeds = workspace.seeds(plan.num_seeds)
    jobs = [*((case, plan.sizes) for case in plan.cases), (plan.control, plan.control_sizes)]
    *found, control = [
        learned(case, seeds, sizes, part_of(workspace.progress, "learning curves", place, 1, len(jobs)))
        for place, (case, sizes) in enumerate(jobs)
    ]
    needed = _needed(found, HALF)
    factors = np.log2(needed / [case.scale for case in plan.cases])
    level = factors.mean(1, keepdims=True)
    of_control = np.abs(np.log2(_needed([control], HALF) / plan.control.scale) - level)[:, 0]
    measured = Estimate.of(np.abs(factors - level).max(1), "octaves")
    return Agreement(
        CRITERION,
        measured,
        (
            Control(
                "rules without correlation of label and tuples",
                Estimate.of(of_control, "octaves", why_equal="" if np.ptp(of_control) else "never half learned"),
            ),
            Control("n_c m^((d−1)/(s−1)), for shallow networks", _deviation(needed, _shallow(plan.cases))),
            Control("n_c mᴸ of the laws in reverse order", _deviation(needed, _scales(plan.cases)[::-1])),
        ),
        conclusion=_conclusion(measured, level[:, 0], control),
        findings=_findings(found, control, factors),
        charts=(_collapse_chart(found, control), _raw_chart(found), _scale_chart(found, needed)),
        notes=(
            "Networks of patches with one path to each token, "
            f"width {plan.sizes.width}, Adam for {plan.sizes.schedule.num_steps:,} steps; tuples of two of "
            f"{NUM_SYMBOLS} symbols; half learned: half of the error of guessing, on inputs that no network trained "
            "on. A law that is not half learned counts with the largest number tried, a lower bound.",
        ),
    )


def _needed(found: Sequence[Learned], share: float) -> ByCase:
    """The number of samples of each seed and case at which the error falls to a share of that of guessing."""
    return np.array([[crossing(one.numbers, errors, share) for errors in one.errors] for one in found]).T


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
    return f"; a tenth from {at / one.case.scale:.2g} n_c mᴸ on" if mean[-1] <= TENTH else ""


def _name(case: Case) -> str:
    return f"{case}, n_c = {case.num_classes}" + (", uncorrelated" if case.uncorrelated else "")


def _conclusion(measured: Estimate, level: Float[np.ndarray, " seeds"], control: Learned) -> str:
    factor = 2**measured.mean
    figures = (
        f"The number of samples with which a network makes half as many errors as by guessing is "
        f"{2 ** level.mean():.2g} n_c mᴸ, up to a factor of {factor:.2g} in the worst of the laws. "
    )
    met = CRITERION.met_by(measured)
    kept = control.errors[:, -1].mean()
    rest = f"Without correlations between label and tuples {kept:.0%} of the error of guessing is left with "
    rest += f"{control.numbers[-1] / control.case.scale:.0f} n_c mᴸ samples."
    if met:
        return figures + "So the synonyms and levels of a law say how many samples it takes. " + rest
    if met is None:
        return figures + "Whether it follows n_c mᴸ is not decided. " + rest
    return figures + "So it does not follow n_c mᴸ. " + rest


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
