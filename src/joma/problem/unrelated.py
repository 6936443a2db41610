"""Sequences and latents of a law with labels that have nothing to do with them: a control with nothing to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.draws import labels_of
from joma.problem.tree import LatentTree, Law, Samples


@dataclass(frozen=True)
class UnrelatedLabels(Law):
    """A law whose labels are drawn apart from the rest: as often each, but shuffled across samples.

    Args:
        law: what sequences, latents and the labels' frequencies are taken from.
    """

    law: LatentTree | Combinatorial

    def __post_init__(self) -> None:
        if not isinstance(self.law, LatentTree | Combinatorial):
            raise InvalidArgument(
                "UnrelatedLabels",
                "law",
                required="a LatentTree or a Combinatorial hierarchy",
                received=type(self.law).__name__,
                remedy="pass the law whose labels are to mean nothing",
            )

    @property
    def num_tokens(self) -> int:
        """How many tokens there are, without the padding."""
        return self.law.num_tokens

    @property
    def num_labels(self) -> int:
        """How many values the label has."""
        return self.law.num_labels

    @property
    def length(self) -> int:
        """Of every sequence, with its padding."""
        return self.law.length

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """How many latents each level has, the level just above the tokens first."""
        return self.law.level_sizes

    @property
    def label_probabilities(self) -> tuple[float, ...] | None:
        """The probability of each label; ``None`` for even ones."""
        return self.law.label_probabilities

    def sample(
        self, num: int, generator: torch.Generator, labels: Tensor | None = None, *, shuffled: bool = False
    ) -> Samples:
        """Draw samples as ``Law.sample`` does; ``labels`` change neither sequences nor latents."""
        samples = self.law.sample(num, generator, shuffled=shuffled)
        probabilities = self.law.label_probabilities
        unrelated = labels_of("UnrelatedLabels", num, self.num_labels, probabilities, generator, labels)
        return samples._replace(labels=unrelated)

    def to_json(self) -> dict[str, Any]:
        """Plain data from which ``law_from_json`` builds the law again."""
        return {"kind": "unrelated_labels", "law": self.law.to_json()}
