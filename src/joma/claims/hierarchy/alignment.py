"""Claim hierarchy.alignment: whether learning the label creates units for the latents, and in which layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from joma.charts import Chart
from joma.claims.hierarchy.levels import accuracy, curve_of, gain, score_of
from joma.claims.workspace import Profile, Workspace
from joma.measure.latents.alignment import alignment, alignment_matrix
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.tree import LatentTree, Law, balanced_tree, digest
from joma.problem.unrelated import UnrelatedLabels
from joma.records import Agreement, Control, Criterion, Estimate, Finding, Verdict
from joma.theory.labels import ceiling_of
from joma.train.decoder import Decoder, seed_of
from joma.train.hidden import pooled_hidden
from joma.train.hierarchies import seeded_samples
from joma.train.latents import level_by_level
from joma.train.recipes import Recipe, hierarchy_recipe
from joma.train.run import Run

ByLevel = Float[np.ndarray, "seeds levels"]


@dataclass(frozen=True)
class Subject:
    """A kind of law, and how long it is learned: until accuracy hardly rises any more."""

    name: str
    law: Callable[[int], LatentTree | Combinatorial]  # of a seed
    num_steps: int
    learning_rate: float


@dataclass(frozen=True)
class Sizes:
    """The laws, the size of the networks, and the number of samples and permutations for each alignment."""

    subjects: tuple[Subject, ...]
    width: int
    hidden: int
    num_samples: int
    num_permutations: int
    num_seeds: int


def _tree(seed: int) -> LatentTree:
    """Eight labels, four top latents, and three children for each latent of both levels."""
    return balanced_tree((4, 3, 3), 0.9, num_labels=8, seed=seed)


def _random(seed: int) -> Combinatorial:
    """The paper's (20, 30) latents, each with two alternative pairs of members, shown with probability 0.9."""
    return random_hierarchy(20, (20, 30), 2, length=8, num_alternatives=2, show_probability=0.9, seed=seed)


TREE, RANDOM = "latent tree", "random hierarchy"
SIZES = {
    Profile.QUICK: Sizes(
        (Subject(TREE, _tree, 120, 1e-3), Subject(RANDOM, _random, 400, 3e-3)), 64, 256, 1000, 50, num_seeds=5
    ),
    Profile.FULL: Sizes(
        (Subject(TREE, _tree, 3000, 1e-3), Subject(RANDOM, _random, 10_000, 1e-3)), 128, 512, 20_000, 200, num_seeds=5
    ),
}
NUM_SNAPSHOTS = 4
UNCHANGED = "0 where training changes no score"
STEPS_OF_P_VALUES = "a multiple of 1 / (permutations + 1)"

CRITERION = Criterion(
    "gain in alignment, as a share of the untrained network's distance from a perfect score; smaller of the two laws",
    ">=",
    0.2,
    "a fifth of the way from the untrained network to perfect units: below it, more than four fifths of what was "
    "missing before training is still missing after it",
)


@dataclass(frozen=True)
class Scores:
    """One-to-one, held-out alignment scores of the networks that learned one law.

    Args:
        subject: the law.
        runs: one network for each seed.
        ceilings: the accuracy of the Bayes classifier; empty where it is not known.
        course: scores of layer s with level s at each snapshot, the first before training.
        matrix: scores of every layer with every level, before and after training.
        unrelated: scores of layer s with level s after training for as long on labels unrelated to the tokens.
        shuffled: scores before and after training with latents shuffled across samples.
        chance, corrected, p_values: of layer s with level s after training, from permutations.
    """

    subject: Subject
    runs: Sequence[Run]
    ceilings: list[float]
    course: Float[np.ndarray, "seeds snapshots levels"]
    matrix: Float[np.ndarray, "seeds 2 layers levels"]
    unrelated: ByLevel
    shuffled: Float[np.ndarray, "seeds 2 levels"]
    chance: ByLevel
    corrected: ByLevel
    p_values: ByLevel

    def gains(self) -> ByLevel:
        """Return the gains of the trained networks."""
        return gain(self.course[:, -1], self.course[:, 0])

    def gains_unrelated(self) -> ByLevel:
        """Return the gains of the networks that were trained on unrelated labels."""
        return gain(self.unrelated, self.course[:, 0])

    def gains_shuffled(self) -> ByLevel:
        """Return the gains of the trained networks with latents shuffled across samples."""
        return gain(self.shuffled[:, 1], self.shuffled[:, 0])

    def own_minus_others(self, level: int) -> Float[np.ndarray, " seeds"]:
        """Return the gain of a level in its own layer minus that in the best other layer."""
        by_layer = gain(self.matrix[:, 1, :, level], self.matrix[:, 0, :, level])
        return by_layer[:, level] - np.delete(by_layer, level, axis=1).max(1)


def evaluate(workspace: Workspace) -> Agreement:
    """Train networks on the labels of two laws and on unrelated labels, and align their hidden units with latents."""
    sizes = SIZES[workspace.profile]
    seeds = workspace.seeds(sizes.num_seeds)
    cases = [(subject, seed, subject.law(seed)) for subject in sizes.subjects for seed in seeds]
    runs = workspace.train_on(
        [(_recipe(subject, of, sizes, seed), of) for subject, seed, law in cases for of in (law, UnrelatedLabels(law))]
    )
    scores = []
    for done, subject in enumerate(sizes.subjects):
        workspace.progress(f"alignment with the latents of the {subject.name}", done, len(sizes.subjects))
        laws = [law for other, _, law in cases if other is subject]
        of_subject = runs[2 * done * len(seeds) :][: 2 * len(seeds)]
        scores.append(_scores(subject, laws, of_subject[::2], of_subject[1::2], sizes))
    unrelated = np.max([part.gains_unrelated().mean(1) for part in scores], axis=0)
    shuffled = np.max([part.gains_shuffled().mean(1) for part in scores], axis=0)
    agreement = Agreement(
        CRITERION,
        Estimate.of(np.min([part.gains().mean(1) for part in scores], axis=0), why_equal=UNCHANGED),
        (
            Control("trained on unrelated labels", Estimate.of(unrelated)),
            Control("latents shuffled across samples", Estimate.of(shuffled)),
        ),
        conclusion="",
        findings=tuple(finding for part in scores for finding in _findings(part)),
        charts=tuple(chart for part in scores for chart in (_course_chart(part), _matrix_chart(part))),
        notes=_notes(sizes),
    )
    return replace(agreement, conclusion=_conclusion(scores, agreement.verdict))


def _recipe(subject: Subject, law: Law, sizes: Sizes, seed: int) -> Recipe:
    """One network; the networks of a seed, with labels and with unrelated ones, have the same initial weights."""
    return hierarchy_recipe(
        law,
        num_steps=subject.num_steps,
        seed=seed,
        name=f"alignment_{digest(law)[:8]}_{subject.num_steps}-steps_seed-{seed}",
        width=sizes.width,
        hidden=sizes.hidden,
        learning_rate=subject.learning_rate,
        early_until=0,
        probe_every=subject.num_steps,
        checkpoint_every=subject.num_steps,
        snapshot_every=subject.num_steps // NUM_SNAPSHOTS,
    )


def _scores(
    subject: Subject, laws: Sequence[Law], runs: Sequence[Run], unrelated: Sequence[Run], sizes: Sizes
) -> Scores:
    ceilings = [ceiling_of(law) for law in laws]
    by_seed = [_scores_of_seed(*case, sizes) for case in zip(laws, runs, unrelated, strict=True)]
    return Scores(
        subject,
        runs,
        [ceiling.accuracy for ceiling in ceilings if ceiling is not None],
        **{name: np.array([entry[name] for entry in by_seed]) for name in by_seed[0]},
    )


def _scores_of_seed(law: Law, run: Run, unrelated: Run, sizes: Sizes) -> dict[str, list]:
    """The arrays of ``Scores`` for one seed."""
    samples = seeded_samples(law, sizes.num_samples, seed_of(run.recipe.seed, "alignment"))
    tokens, presence = samples.tokens, samples.presence

    def own_layers(decoder: Decoder) -> list[float]:
        return [score_of(entry.one_to_one) for entry in level_by_level(decoder, tokens, presence)]

    first, *between, last = run.snapshots()
    layers = [pooled_hidden(run.decoder(step), tokens) for step in (first, last)]
    tables = [alignment_matrix(of_step, presence, num_permutations=1) for of_step in layers]
    matrix = [[[score_of(entry.one_to_one) for entry in row] for row in table] for table in tables]
    start, end = (np.diagonal(table).tolist() for table in matrix)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(run.recipe.seed))
    permuted = [
        alignment(units, latents, num_permutations=sizes.num_permutations).one_to_one
        for units, latents in zip(layers[1], presence, strict=True)
    ]
    return {
        "course": [start, *(own_layers(run.decoder(step)) for step in between), end],
        "matrix": matrix,
        "unrelated": own_layers(unrelated.decoder()),
        "shuffled": [
            [
                score_of(alignment(units, level[order], num_permutations=1).one_to_one)
                for units, level in zip(of_step, presence, strict=True)
            ]
            for of_step in layers
        ],
        "chance": [score_of(matching, "chance") for matching in permuted],
        "corrected": [score_of(matching, "corrected") for matching in permuted],
        "p_values": [score_of(matching, "p_value") for matching in permuted],
    }


def _findings(scores: Scores) -> list[Finding]:
    name, by_guessing = scores.subject.name, 1 / scores.runs[0].law().num_labels
    accuracies = Estimate.of([accuracy(run) for run in scores.runs])
    found = [Finding(f"{name}: accuracy", accuracies, f"guessing gives {by_guessing:.3f}")]
    if scores.ceilings:
        found.append(
            Finding(f"{name}: highest possible accuracy", Estimate.of(scores.ceilings), "Bayes, by sum–product")
        )
    by_level = {
        "gain": scores.gains(),
        "score": scores.course[:, -1],
        "score before training": scores.course[:, 0],
        "score after unrelated labels": scores.unrelated,
        "score of shuffled latents": scores.chance,
        "score corrected for chance": scores.corrected,
        "p-value": scores.p_values,
    }
    for level in range(scores.course.shape[2]):
        of = f"{name}, level {level}"
        found += [
            Finding(f"{of}: {what}", Estimate.of(values[:, level], why_equal=STEPS_OF_P_VALUES * (what == "p-value")))
            for what, values in by_level.items()
        ]
        found.append(
            Finding(
                f"{of}: gain in layer {level} minus the best of the others",
                Estimate.of(scores.own_minus_others(level)),
                "above 0 where the level is found in its own layer",
            )
        )
    return found


def _course_chart(scores: Scores) -> Chart:
    curves, steps = [], scores.runs[0].snapshots()
    ends = [steps[0], steps[-1]]
    for level in range(scores.course.shape[2]):
        group = f"level {level}"
        unrelated = np.stack([scores.course[:, 0, level], scores.unrelated[:, level]], axis=1)
        curves += [
            curve_of(f"{group} in layer {level}", steps, scores.course[..., level], "measured", group),
            curve_of(f"{group}, unrelated labels learned", ends, unrelated, "control", group),
            curve_of(f"{group}, latents shuffled", ends, scores.shuffled[..., level], "context", group),
        ]
    return Chart(
        f"course_{scores.subject.name}".replace(" ", "_"),
        f"Alignment with the latents of the {scores.subject.name} while its labels are learned",
        "A curve starts at the score that random units of the untrained network reach by chance; only the rise counts. "
        "Bands: lowest to highest seed.",
        "optimiser steps",
        "alignment (correlation, one-to-one, held-out)",
        tuple(curves),
    )


def _matrix_chart(scores: Scores) -> Chart:
    levels = list(range(scores.matrix.shape[3]))
    curves = [
        curve_of(f"layer {layer}, {when}", levels, scores.matrix[:, at, layer], role, f"layer {layer}")
        for layer in range(scores.matrix.shape[2])
        for when, at, role in (("trained", 1, "measured"), ("untrained", 0, "control"))
    ]
    return Chart(
        f"layers_{scores.subject.name}".replace(" ", "_"),
        f"In which layer are the levels of the {scores.subject.name} found?",
        "If level s were built in layer s, each layer's line would be highest at the level of its own number. Bands: "
        "lowest to highest seed.",
        "level of latents (0: just above the tokens)",
        "alignment (correlation, one-to-one, held-out)",
        tuple(curves),
    )


def _conclusion(scores: Sequence[Scores], verdict: Verdict) -> str:
    opening = {
        Verdict.HOLDS: "Learning the label makes hidden units stand for latents",
        Verdict.FAILS: "Learning the label hardly makes hidden units stand for latents",
        Verdict.UNDECIDED: "Whether learning the label makes hidden units stand for latents is not decided",
    }[verdict]
    gains = " and ".join(f"{part.gains().mean():.0%} in the {part.subject.name}" for part in scores)
    unrelated = max(float(part.gains_unrelated().mean()) for part in scores)
    start = max(float(part.course[:, 0].mean()) for part in scores)
    own = [Estimate.of(part.own_minus_others(level)) for part in scores for level in range(part.course.shape[2])]
    better, worse = sum(found.interval[0] > 0 for found in own), sum(found.interval[1] < 0 for found in own)
    return (
        f"{opening}: of the distance between the scores of the untrained network and perfect scores, training covers "
        f"{gains}, and {unrelated:.0%} at most where labels are unrelated to the tokens. Only this rise counts: "
        f"untrained units already correlate with latents at up to {start:.2f}, because both depend on the tokens. A "
        f"level of latents is found clearly better in its own layer than in any other in {better} of {len(own)} cases "
        f"and clearly worse in {worse}; nothing forces it into that layer (hierarchy.expressible)."
    )


def _notes(sizes: Sizes) -> tuple[str, ...]:
    learned = ", ".join(
        f"{subject.num_steps:,} steps at {subject.learning_rate:g} ({subject.name})" for subject in sizes.subjects
    )
    return (
        f"Width {sizes.width}, {sizes.hidden} hidden units; {learned}; {sizes.num_samples:,} fresh samples, "
        f"{sizes.num_permutations} permutations.",
        "The laws were chosen by accuracy alone, before any alignment was computed. Three seeds left the claim "
        "undecided, and the number was then raised to five (docs/log). Each seed has its own law. The highest possible "
        "accuracy is known for the latent tree only.",
        "The gain is relative to a correlation of 1, which no function of the tokens reaches if the tokens do not "
        "determine a latent: it is a lower bound.",
    )
