"""The decoders that rhm.levels and rhm.attention share, trained on new samples of a Random Hierarchy Model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from joma.claims.workspace import Profile, Workspace
from joma.problem.filtered import filtered
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import Law, digest
from joma.problem.unrelated import UnrelatedLabels
from joma.train.recipes import Recipe, hierarchy_recipe
from joma.train.run import Run


@dataclass(frozen=True)
class Setting:
    """The laws and the training of the decoders.

    Args:
        num_classes, num_symbols, num_synonyms, depth: of the laws.
        width, hidden: of the decoders, which have as many layers as the laws have levels of rules.
        num_steps: optimiser steps.
        snapshot_every: steps between snapshots and measurements.
        num_seeds: of rules, samples and weights.
    """

    num_classes: int
    num_symbols: int
    num_synonyms: int
    depth: int
    width: int
    hidden: int
    num_steps: int
    snapshot_every: int
    num_seeds: int

    def law(self, seed: int) -> RandomHierarchy:
        """Return the law with the rules of a seed."""
        return RandomHierarchy(self.num_classes, self.num_symbols, self.num_synonyms, depth=self.depth, seed=seed)

    def __str__(self) -> str:
        """The setting in a sentence."""
        return (
            f"Random Hierarchy Models with {self.num_symbols} symbols, {self.num_classes} classes, {self.num_synonyms} "
            f"synonyms and {self.depth} levels of tuples of two; decoders of width {self.width} with {self.depth} "
            f"layers, {self.num_steps:,} steps of {BATCH_SIZE} new samples, Adam at {LEARNING_RATE:g}."
        )


SETTINGS = {
    Profile.QUICK: Setting(8, 8, 3, 3, 64, 128, 1200, 20, 3),
    Profile.FULL: Setting(8, 16, 4, 4, 128, 512, 20_000, 100, 5),
}
LEARNING_RATE, BATCH_SIZE = 1e-3, 64


Task = Literal["law", "flat", "unrelated"]
"""What a decoder learns: the law, the law with tokens that depend on the label alone, or labels without relation."""


def trained(workspace: Workspace, what: Task = "law") -> tuple[Sequence[RandomHierarchy], Sequence[Run]]:
    """Return the laws of all seeds, and the decoders that learned them or what replaces them."""
    setting = SETTINGS[workspace.profile]
    seeds = workspace.seeds(setting.num_seeds)
    laws = [setting.law(seed) for seed in seeds]
    replaced: dict[Task, Callable[[RandomHierarchy], Law]] = {
        "law": lambda law: law,
        "flat": lambda law: filtered(law, -1),
        "unrelated": UnrelatedLabels,
    }
    learned = [replaced[what](law) for law in laws]
    return laws, workspace.train_on(
        [(_recipe(law, setting, seed), law) for law, seed in zip(learned, seeds, strict=True)]
    )


def _recipe(law: Law, setting: Setting, seed: int) -> Recipe:
    return hierarchy_recipe(
        law,
        num_steps=setting.num_steps,
        seed=seed,
        name=f"rhm_{digest(law)[:8]}_{setting.num_steps}-steps_seed-{seed}",
        width=setting.width,
        hidden=setting.hidden,
        num_layers=setting.depth,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        early_until=0,
        probe_every=setting.snapshot_every,
        snapshot_every=setting.snapshot_every,
        checkpoint_every=setting.num_steps,
    )
