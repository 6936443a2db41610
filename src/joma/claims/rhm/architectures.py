"""Claim rhm.cnn_over_transformer: whether a Transformer needs more samples of a hierarchy than a convolutional
network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from joma.charts import Chart, Mark
from joma.claims.hierarchy.levels import curve_of
from joma.claims.rhm.learning import HALF, Case, Kind, Learned, Sizes, crossing, learned, numbers_of, why_censored
from joma.claims.workspace import Profile, Workspace
from joma.progress import part_of
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.tree_networks import Schedule


@dataclass(frozen=True)
class Plan:
    """The law to learn, and the training of each architecture."""

    case: Case
    sizes: Sizes
    decoder_sizes: Sizes
    num_seeds: int


PLANS = {
    Profile.QUICK: Plan(
        Case(2, 3),
        Sizes((0.25, 0.5, 1.0, 2.0, 4.0, 8.0), 256, 64, Schedule(600)),
        Sizes((0.5, 1.0, 2.0, 4.0), 256, 64, Schedule(600, 1e-3, 64)),
        3,
    ),
    Profile.FULL: Plan(
        Case(4, 4),
        Sizes((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), 2000, 256, Schedule(10_000)),
        Sizes((0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 2000, 128, Schedule(20_000, 1e-3, 64)),
        5,
    ),
}
KINDS: dict[Kind, str] = {
    "convolutional": "convolutional network",
    "permuted": "convolutional network, places permuted",
    "decoder": "Transformer",
}

CRITERION = Criterion(
    "samples with which the Transformer halves its error over those of the convolutional network, octaves",
    ">=",
    1.0,
    "a factor of 2, by which the numbers of samples tried differ",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the numbers of samples at which each architecture is half right."""
    plan = PLANS[workspace.profile]
    seeds = workspace.seeds(plan.num_seeds)
    found: dict[Kind, Learned] = {}
    for place, kind in enumerate(KINDS):
        sizes = plan.decoder_sizes if kind == "decoder" else plan.sizes
        progress = part_of(workspace.progress, "learning curves", place, 1, len(KINDS))
        found[kind] = learned(plan.case, seeds, sizes, progress, kind)
    crossings = {kind: [crossing(one.numbers, errors, HALF) for errors in one.errors] for kind, one in found.items()}
    needed = dict(zip(found, numbers_of(list(crossings.values())).T, strict=True))
    measured = Estimate.of(np.log2(needed["decoder"] / needed["convolutional"]), "octaves")
    control = Estimate.of(np.log2(needed["decoder"] / needed["permuted"]), "octaves")
    censored = why_censored({KINDS[kind]: row for kind, row in crossings.items()})
    return Agreement(
        CRITERION,
        measured,
        (Control("a convolutional network whose patches are not the tuples of the law", control),),
        conclusion=_conclusion(measured, control, censored),
        findings=tuple(
            finding
            for kind, name in KINDS.items()
            for finding in (
                Finding(f"{name}: samples that halve the error / n_c mᴸ", Estimate.of(needed[kind] / plan.case.scale)),
                Finding(
                    f"{name}: error with {found[kind].numbers[-1]:,} samples",
                    Estimate.of(
                        found[kind].errors[:, -1], why_equal="it makes no error" * (not found[kind].errors[:, -1].any())
                    ),
                    "over that of guessing",
                ),
            )
        ),
        charts=(_chart(found),),
        notes=_notes(plan, workspace.profile),
        censored=censored,
    )


def _notes(plan: Plan, profile: Profile) -> tuple[str, ...]:
    setting = (
        f"{plan.case}, {plan.case.num_classes} classes, tuples of two of {plan.case.num_symbols} symbols; "
        f"convolutional networks of width {plan.sizes.width}, {plan.sizes.schedule.num_steps:,} steps; decoders of "
        f"width {plan.decoder_sizes.width} with {plan.case.depth} layers, {plan.decoder_sizes.schedule.num_steps:,} "
        "steps. The label is predicted, where the source predicts the next token."
    )
    reduced = "A reduced run: one small law, so that nothing is said about scaling; --profile full takes a larger one."
    return (setting, reduced) if profile is Profile.QUICK else (setting,)


def _conclusion(measured: Estimate, control: Estimate, censored: str) -> str:
    def times(octaves: float) -> str:
        return f"{2**octaves:.2g} times as many" if octaves >= 0 else f"a {2**-octaves:.2g}th of the"

    figures = (
        f"A Transformer halves its error with {times(measured.mean)} samples as a convolutional network whose patches "
        f"are the tuples of the law, and with {times(control.mean)} as one whose patches are not. "
    )
    met = None if censored else CRITERION.met_by(measured)
    if met:
        return figures + "So it needs more than twice as many."
    return figures + (
        "Whether it needs more than twice as many is not decided." if met is None else "That is not twice as many."
    )


def _chart(found: dict[Kind, Learned]) -> Chart:
    return Chart(
        "architectures",
        f"Error over the number of samples, {found['decoder'].case}",
        "On inputs that no network trained on. Mean, lowest and highest seed.",
        "training samples / (n_c mᴸ)",
        "error rate / that of guessing",
        tuple(
            curve_of(
                name,
                np.array(found[kind].numbers) / found[kind].case.scale,
                found[kind].errors,
                role="control" if kind == "permuted" else "measured",
                group=name,
            )
            for kind, name in KINDS.items()
        ),
        (Mark("y", HALF, "half of the error"),),
        x_scale="log",
    )
