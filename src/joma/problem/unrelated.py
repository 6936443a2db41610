"""A control: the sequences and latents of a law, with labels that are independent of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.draws import labels_of
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law, Samples


@dataclass(frozen=True)
class UnrelatedLabels(Law):
    """A law whose labels are drawn independently of sequences and latents, with the same frequencies.

    Args:
        law: gives sequences, latents and the frequencies of labels.
    """

    law: LatentTree | Combinatorial | RandomHierarchy

    def __post_init__(self) -> None:
        if not isinstance(self.law, LatentTree | Combinatorial | RandomHierarchy):
            raise InvalidArgument(
                "UnrelatedLabels",
                "law",
                required="a LatentTree, a Combinatorial or a RandomHierarchy",
                received=type(self.law).__name__,
                remedy="pass the law whose labels are to be replaced",
            )

    @property
    def num_tokens(self) -> int:
        """The number of tokens, without the padding token."""
        return self.law.num_tokens

    @property
    def num_labels(self) -> int:
        """The number of labels."""
        return self.law.num_labels

    @property
    def length(self) -> int:
        """The length of every sequence, padding included."""
        return self.law.length

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The number of latents of each level, the lowest level first."""
        return self.law.level_sizes

    @property
    def label_probabilities(self) -> tuple[float, ...] | None:
        """The probability of each label; ``None`` if all are equal."""
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
        """Return plain data from which ``law_from_json`` rebuilds the law."""
        return {"kind": "unrelated_labels", "law": self.law.to_json()}
