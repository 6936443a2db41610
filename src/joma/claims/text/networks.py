"""The networks that the claims on real text compare: shared, so that each is trained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from joma.claims.workspace import Profile, Workspace
from joma.train.courses import course_of
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


def frequencies_learned(workspace: Workspace, runs: Sequence[Run]) -> int:
    """Return the first probed step at which the runs together beat what word frequencies alone can predict.

    Before it a network learns which words are frequent, which needs no context: attention moves then too, on words in
    random order as on real ones, and that is another phenomenon than the one the theory explains.

    Raises:
        RunFailed: they never do.
    """
    tokens = workspace.tokens()
    return course_of(runs, "val_loss_nats", None).first_below(unigram_nats(tokens, tokens.held_out), "the network")


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
