"""The networks that the claims on text compare. They are shared, so that each is trained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from joma.claims.workspace import Profile, Words, Workspace
from joma.measure.curves.course import Course
from joma.train.courses import course_of
from joma.train.recipes import Recipe, paper_figure6
from joma.train.run import Run
from joma.train.text.vocabulary import Tokens


@dataclass(frozen=True)
class Study:
    """Training length, learning rate, probe interval and number of seeds in a profile."""

    num_steps: int
    learning_rate: float
    probe_every: int
    num_seeds: int

    @property
    def snapshot_every(self) -> int:
        """Steps between snapshots of the weights, for text.theorem1: ten in all, without that of the start."""
        return max(1, self.num_steps // 10)


STUDIES = {
    Profile.QUICK: Study(num_steps=800, learning_rate=1e-3, probe_every=25, num_seeds=4),
    Profile.FULL: Study(num_steps=6000, learning_rate=1e-4, probe_every=100, num_seeds=5),
}

WITH_SNAPSHOTS = ("full network", "no LayerNorm", "frozen value path")
"""The variants of which text.theorem1 reads snapshots, trained for the whole study on the words in order."""


def study(workspace: Workspace) -> Study:
    """Return the study of the workspace's profile, with the number of seeds of the workspace."""
    sizes = STUDIES[workspace.profile]
    return replace(sizes, num_seeds=len(workspace.seeds(sizes.num_seeds)))


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained, except for its seed.

    Args:
        name: one of ``joma.train.recipes.VARIANTS``.
        words: what it is trained on; another order, or other words, for every seed.
        output_bias: ``unigram`` initialises the output bias with the log frequencies of the words.
        num_steps: number of training steps; ``None`` for that of the study.
        learning_rate: that of the recipe, with which it counts as Adam's (``SGD_FACTOR``); ``None`` for the study's.
        early_probe_every: steps between the first probes; ``None`` for that of the recipe.
        num_layers: number of blocks.
        num_more_seeds: further seeds, unless the number of seeds is set by the user.
    """

    name: str = "full network"
    words: Words = "in order"
    output_bias: Literal["zero", "unigram"] = "zero"
    num_steps: int | None = None
    learning_rate: float | None = None
    early_probe_every: int | None = None
    num_layers: int = 1
    num_more_seeds: int = 0

    def recipe(self, vocabulary_size: int, sizes: Study, seed: int) -> Recipe:
        """Return the recipe of one such network."""
        kind = self.name.lower().replace(" ", "-")
        words = "" if self.words == "in order" else f"_{self.words}-words"
        bias = "_unigram-bias" if self.output_bias == "unigram" else ""
        rate = "" if self.learning_rate is None else f"_rate-{self.learning_rate:g}"
        num_steps = self.num_steps or sizes.num_steps
        probed = "" if self.early_probe_every is None else f"_probes-{self.early_probe_every}"
        depth = "" if self.num_layers == 1 else f"_{self.num_layers}-layers"
        has_snapshots = self.name in WITH_SNAPSHOTS and not (words or bias or rate or self.num_steps)
        return paper_figure6(
            vocabulary_size,
            variant=self.name,
            name=f"{kind}{words}{bias}{depth}{rate}{probed}_{num_steps}-steps_seed-{seed}",
            num_steps=num_steps,
            seed=seed,
            learning_rate=self.learning_rate or sizes.learning_rate,
            probe_every=sizes.probe_every,
            early_probe_every=self.early_probe_every or Recipe.early_probe_every,
            output_bias=self.output_bias,
            num_layers=self.num_layers,
            snapshot_every=sizes.snapshot_every if has_snapshots else None,
        )


def trained(workspace: Workspace, variants: Sequence[Variant]) -> list[list[Run]]:
    """Train every variant once per seed, in one call, so that all cores stay busy."""
    sizes, vocabulary_size = study(workspace), len(workspace.tokens().vocabulary)
    nums = [sizes.num_seeds + each.num_more_seeds * (workspace.num_seeds is None) for each in variants]
    wanted = [
        (variant.recipe(vocabulary_size, sizes, seed), variant.words)
        for variant, num in zip(variants, nums, strict=True)
        for seed in range(num)
    ]
    runs = iter(workspace.train(wanted))
    return [[next(runs) for _ in range(num)] for num in nums]


def frequencies_learned(workspace: Workspace, runs: Sequence[Run]) -> int:
    """Return the first probed step at which the mean loss of the runs is below that of word frequencies.

    Before this step a network learns which words are frequent, which needs no context. Attention changes then too, even
    on words in random order, but the theory explains another phenomenon.

    Raises:
        RunFailed: there is no such step.
    """
    tokens = workspace.tokens()
    return course_of(runs, "val_loss_nats", None).first_below(unigram_nats(tokens, tokens.held_out), "the network")


def unigram_nats(tokens: Tokens, targets: Tensor) -> float:
    """Return the loss, in nats per token, of predicting every target by its frequency in training."""
    size = len(tokens.vocabulary)
    counts = np.bincount(tokens.train.numpy(), minlength=size) + 1.0  # keeps the loss of an unseen word finite
    return float(-np.log(counts / counts.sum())[targets.numpy()].mean())


def moved(fall: float, rise: float, unit: str = "") -> str:
    """Describe a fall and the rise after it in words; a size that is not positive to three decimals counts as none."""
    sizes = {"fall": round(fall, 3), "rise": round(rise, 3)}
    return " and ".join(
        f"{verb}s by {size:.3f}{unit}" if size > 0 else f"does not {verb}" for verb, size in sizes.items()
    )


def movement(course: Course, unit: str = "") -> str:
    """Describe the fall of a course and the rise after it, means over repetitions, as ``moved`` does."""
    found = course.rebounds()
    return moved(*(float(np.mean([getattr(one, side) for one in found])) for side in ("fall", "rise")), unit)
