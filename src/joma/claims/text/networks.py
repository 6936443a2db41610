"""The networks that the claims on real text compare: shared, so that each is trained once; and their curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from joma.charts import Curve, Role
from joma.claims.workspace import Profile, Workspace
from joma.errors import RunFailed
from joma.measure.curves.rebound import Curves, Rebound, rebounds, steps_stood_for
from joma.records import Estimate, Finding
from joma.train.recipes import Recipe, paper_figure6
from joma.train.run import Run
from joma.train.text.vocabulary import Tokens


@dataclass(frozen=True)
class Study:
    """How long the networks of a profile are trained, how often probed, and how many of each there are."""

    num_steps: int
    learning_rate: float
    probe_every: int
    num_seeds: int


STUDIES = {
    Profile.QUICK: Study(num_steps=800, learning_rate=1e-3, probe_every=25, num_seeds=4),
    Profile.FULL: Study(num_steps=6000, learning_rate=1e-4, probe_every=100, num_seeds=5),
}


@dataclass(frozen=True)
class Course:
    """One quantity over training, one row per seed.

    Args:
        steps: optimiser steps done at each probe.
        values: (seeds, probes).
    """

    steps: tuple[int, ...]
    values: Curves

    def rebounds(self) -> list[Rebound]:
        """How far each seed's curve falls and comes back, read where the other seeds say the bottom is."""
        return rebounds(self.values, steps_stood_for(self.steps))

    def movements(self, of: str = "", unit: str = "") -> tuple[Finding, ...]:
        """How far each seed's curve falls and comes back, and where its bottom is.

        Args:
            of: what the findings' names begin with.
            unit: of the values.
        """
        found = self.rebounds()
        return (
            Finding(f"{of}fall", Estimate.of((one.fall for one in found), unit)),
            Finding(f"{of}rise after it", Estimate.of((one.rise for one in found), unit)),
            Finding(f"{of}step of the bottom", self._bottoms()),
        )

    def levels(self, of: str) -> tuple[Finding, ...]:
        """Where each seed's curve starts, how low it gets and when, and where it ends."""
        found = self.rebounds()
        return (
            Finding(f"{of}: at the start", Estimate.of(self.values[:, 0])),
            Finding(f"{of}: lowest level", Estimate.of(one.bottom for one in found)),
            Finding(f"{of}: step of the lowest level", self._bottoms()),
            Finding(f"{of}: last level", Estimate.of(one.end for one in found)),
        )

    def _bottoms(self) -> Estimate:
        return Estimate.of((self.steps[one.bottom_idx] for one in self.rebounds()), "steps")

    def first_below(self, unigram_nats: float, of: str, fewest: int = 1) -> int:
        """The first step at which the mean over seeds of this loss is below that of word frequencies.

        Raises:
            RunFailed: it never is, or so late that fewer than ``fewest`` steps are left; ``of`` is whose loss it is.
        """
        below = np.flatnonzero(self.values.mean(axis=0) < unigram_nats)
        if not len(below) or len(self.steps) - below[0] < fewest:
            when = f"from step {self.steps[below[0]]} on only" if len(below) else "at no step"
            raise RunFailed(
                f"{of} predicts better than word frequencies do {when}, which leaves too few steps to read "
                f"({self.values[:, -1].mean():.2f} nats at the end against {unigram_nats:.2f})",
                kept="what was trained and measured is kept",
                remedy="give a text with word order to learn, or more of it",
            )
        return self.steps[below[0]]

    def between(self, first: int, last: float = math.inf) -> Course:
        """The course from one step to another, both included."""
        kept = [idx for idx, at in enumerate(self.steps) if first <= at <= last]
        return Course(tuple(self.steps[idx] for idx in kept), self.values[:, kept])

    def in_random_order(self, repetition: int) -> Course:
        """The same values with the probes of every seed shuffled: a curve without a course."""
        generator = np.random.default_rng(repetition)
        return replace(self, values=np.stack([generator.permutation(row) for row in self.values]))

    def curve(self, label: str, role: Role = "measured", group: str = "") -> Curve:
        """The mean over seeds, with one standard deviation to either side as its band."""
        mean = self.values.mean(axis=0)
        spread = self.values.std(axis=0, ddof=1) if len(self.values) > 1 else np.zeros_like(mean)
        return Curve(
            label,
            tuple(map(float, self.steps)),
            tuple(mean.tolist()),
            tuple((mean - spread).tolist()),
            tuple((mean + spread).tolist()),
            role=role,
            group=group or label,
        )


def study(workspace: Workspace) -> Study:
    """The sizes of the workspace's profile, with the number of seeds that was asked for."""
    sizes = STUDIES[workspace.profile]
    return replace(sizes, num_seeds=len(workspace.seeds(sizes.num_seeds)))


@dataclass(frozen=True)
class Variant:
    """One kind of network: which, what it reads, how long it learns.

    Args:
        name: out of ``joma.train.recipes.VARIANTS``.
        shuffle_words: learn the text's words in random order, another order for every seed.
        output_bias: ``unigram``: the output bias starts at the words' log frequencies.
        num_steps: how long, if not as long as the study says.
    """

    name: str = "full network"
    shuffle_words: bool = False
    output_bias: Literal["zero", "unigram"] = "zero"
    num_steps: int | None = None

    def recipe(self, vocabulary_size: int, sizes: Study, seed: int) -> Recipe:
        """The complete description of one such network."""
        words = "_shuffled-words" if self.shuffle_words else ""
        bias = "_unigram-bias" if self.output_bias == "unigram" else ""
        num_steps = self.num_steps or sizes.num_steps
        return paper_figure6(
            vocabulary_size,
            variant=self.name,
            name=f"{self.name.lower().replace(' ', '-')}{words}{bias}_{num_steps}-steps_seed-{seed}",
            num_steps=num_steps,
            seed=seed,
            learning_rate=sizes.learning_rate,
            probe_every=sizes.probe_every,
            output_bias=self.output_bias,
        )


def trained(workspace: Workspace, variants: Sequence[Variant]) -> list[list[Run]]:
    """Train every variant once per seed, all at a time, which keeps every core busy to the end."""
    sizes, vocabulary_size = study(workspace), len(workspace.tokens().vocabulary)
    wanted = [
        (variant.recipe(vocabulary_size, sizes, seed), variant.shuffle_words)
        for variant in variants
        for seed in range(sizes.num_seeds)
    ]
    runs = iter(workspace.train(wanted))
    return [[next(runs) for _ in range(sizes.num_seeds)] for _ in variants]


def course(runs: Sequence[Run], metric: str, layer: int | None = 0, group: str | None = None) -> Course:
    """Read one metric of several runs, averaged over heads.

    Args:
        runs: one per seed, probed at the same steps.
        metric: its name in the metrics table.
        layer: which layer; ``None`` for a metric of the whole network.
        group: which part of the probe; ``None`` for all of it.
    """
    rows: list[dict[int, list[float]]] = []
    for run in runs:
        by_step: dict[int, list[float]] = {}
        for entry in run.measurements():
            if (entry.metric, entry.layer, entry.group) == (metric, layer, group):
                by_step.setdefault(entry.step, []).append(entry.value)
        rows.append(by_step)
    steps = tuple(sorted(rows[0]))
    return Course(steps, np.array([[np.mean(row[step]) for step in steps] for row in rows]))


def probe_groups(run: Run, metric: str, kind: str) -> list[str]:
    """The groups of ``positions`` or ``sequences`` that a metric is kept for, the lowest first."""
    groups = {entry.group for entry in run.measurements() if entry.metric == metric and entry.group is not None}
    return sorted((group for group in groups if group.startswith(kind)), key=lambda group: int(group.split("_")[1]))


def frequencies_learned(workspace: Workspace, runs: Sequence[Run]) -> int:
    """Return the first probed step at which the runs together beat what word frequencies alone can predict.

    Before it a network learns which words are frequent, which needs no context: attention moves then too, on words in
    random order as on real ones, and that is another phenomenon than the one the theory explains.

    Raises:
        RunFailed: they never do.
    """
    tokens = workspace.tokens()
    return course(runs, "val_loss_nats", None).first_below(unigram_nats(tokens, tokens.held_out), "the network")


def unigram_nats(tokens: Tokens, targets: Tensor) -> float:
    """Return the loss, in nats per token, of predicting every target by its frequency in training."""
    size = len(tokens.vocabulary)
    counts = np.bincount(tokens.train.numpy(), minlength=size) + 1.0  # a word never seen must not cost infinitely much
    return float(-np.log(counts / counts.sum())[targets.numpy()].mean())


def moved(fall: float, rise: float, unit: str = "") -> str:
    """A fall and the rise after it in words; what is negative, or nothing to three decimals, is none."""
    sizes = {"fall": round(fall, 3), "rise": round(rise, 3)}
    return " and ".join(
        f"{verb}s by {size:.3f}{unit}" if size > 0 else f"does not {verb}" for verb, size in sizes.items()
    )
