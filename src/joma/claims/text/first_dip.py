"""Claim text.first_dip: whether attention entropy dips in the first steps because word frequencies are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from joma.charts import Chart
from joma.claims.text.networks import Variant, study, trained
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.claims.workspace import Profile, Workspace
from joma.measure.curves.course import Course
from joma.measure.curves.rebound import deepest_dip
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.courses import course_of, probe_groups
from joma.train.run import Run

EARLY = 0.1
"""How long the first part of training is, in steps times learning rate."""

PROBE_EVERY = 5
"""Steps between probes; the dip may be over after 20."""

MORE_SEEDS = {Profile.QUICK: 4, Profile.FULL: 7}
"""Seeds beyond those of the other claims on text: runs are short, and the depth of the dip differs much by seed."""

CRITERION = Criterion(
    "first dip of attention entropy on shuffled words minus that on random words that are equally frequent, nats",
    ">=",
    0.05,
    "2 % of the entropy of uniform attention over these keys, as in text.sparse_then_dense",
)


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the first dip with and without word frequencies to learn, seed by seed."""
    sizes = study(workspace)
    num_steps, more = round(EARLY / sizes.learning_rate), MORE_SEEDS[workspace.profile]
    common = Variant(num_steps=num_steps, early_probe_every=PROBE_EVERY, num_more_seeds=more)
    networks = {
        "real text": common,
        "real text, output bias at the word frequencies": replace(common, output_bias="unigram"),
        "shuffled words": replace(common, words="shuffled"),
        "equally frequent words": replace(common, words="uniform"),
    }
    runs = dict(zip(networks, trained(workspace, list(networks.values())), strict=True))
    entropy = {name: course_of(of_name, ENTROPY) for name, of_name in runs.items()}
    real, informed, shuffled, uniform = dips = [_dips(course) for course in entropy.values()]
    measured = _less(uniform, shuffled)
    findings = (
        *(
            Finding(f"first dip, {name}", Estimate.of(of_name, "nats"))
            for name, of_name in zip(runs, dips, strict=True)
        ),
        Finding("real text: less deep with the output bias at the word frequencies", _less(informed, real)),
        Finding("shuffled words: less deep on other held-out sequences", _with_nothing_removed(runs["shuffled words"])),
    )
    return Agreement(
        CRITERION,
        measured,
        (Control("word order removed instead: real text minus shuffled words", _less(shuffled, real)),),
        conclusion=_conclusion(findings, measured, num_steps),
        findings=findings,
        charts=(_chart(entropy),),
        notes=(
            f"The first {num_steps:,} steps of Adam at {sizes.learning_rate:g}, {measured.num} seeds, same initial "
            "weights except for the output bias. On real text the lasting fall begins before the first dip is over and "
            "may hide it; therefore words without order decide.",
        ),
    )


def _dips(entropy: Course) -> list[float]:
    return [deepest_dip(curve) for curve in entropy.values]


def _less(dips: Sequence[float], than: Sequence[float]) -> Estimate:
    return Estimate.of((other - one for one, other in zip(dips, than, strict=True)), "nats")


def _with_nothing_removed(runs: list[Run]) -> Estimate:
    """The difference between dips on one half of the probe sequences and on the other half."""
    groups = [course_of(runs, ENTROPY, group=name).values for name in probe_groups(runs[0], ENTROPY, "sequences")]
    halves = [[deepest_dip(curve) for curve in (one + two) / 2] for one, two in (groups[1::2], groups[::2])]
    return _less(*halves)


def _chart(entropy: dict[str, Course]) -> Chart:
    (real, course), *others = entropy.items()
    return Chart(
        "first_dip",
        "The first steps: learning which words are frequent",
        "While a network learns word frequencies only, the gradient is nearly the same at all positions, as the "
        "theory's constant upstream gradient is. This does not depend on word order; there is nothing to learn if the "
        "output bias starts at the frequencies or all words are equally frequent. Bands: one standard deviation over "
        "seeds.",
        "optimiser steps",
        "mean attention entropy (nats)",
        (course.curve(real), *(other.curve(name, "control") for name, other in others)),
    )


def _conclusion(findings: Sequence[Finding], measured: Estimate, num_steps: int) -> str:
    real, informed, shuffled, uniform = (f"{finding.estimate.mean:.2f}" for finding in findings[:4])
    meanings = {
        True: "So the first dip comes with learning word frequencies and needs no word order",
        None: "Whether it takes word frequencies to be learned is not decided: the dip differs much between seeds",
        False: "So the first dip does not come from learning word frequencies",
    }
    by_bias = CRITERION.met_by(findings[4].estimate)
    on_text = {True: "confirms it", None: "does not decide it", False: "does not confirm it"}[by_bias]
    return (
        f"Within the first {num_steps:,} steps attention entropy dips by {shuffled} nats on shuffled words and by "
        f"{uniform} on random words that are equally frequent. {meanings[CRITERION.met_by(measured)]}. On real text it "
        f"dips by {real} nats, and by {informed} if the output bias starts at the frequencies, which alone {on_text}."
    )
