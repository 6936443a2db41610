"""The hierarchical binary latent tree of Theorem 5: a label, binary latents below it, and tokens for leaves.

Every edge keeps its parent's sign with probability (1 + ρ)/2, with its own polarity ρ. A latent is present, and a
token in the sequence, where its sign is +1.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from joma.arrays import REAL
from joma.domains import NON_NEGATIVE, POLARITY, check_whole, is_whole
from joma.errors import InvalidArgument
from joma.problem.draws import (
    checked_probabilities,
    in_parts,
    labels_of,
    left_padded,
    random_events,
    shuffled_tokens,
)


class Samples(NamedTuple):
    """What a law gives: sequences, their labels, and which latents were there.

    Args:
        tokens: int64, rising along a sequence (unless shuffled), with padding in front.
        labels: int64.
        presence: one for each level of latents, the level just above the tokens first.
    """

    tokens: Int[Tensor, "B L"]
    labels: Int[Tensor, " B"]
    presence: tuple[Bool[Tensor, "B n"], ...]


class Law(ABC):
    """A distribution over sequences of tokens with a label, and with latents between the two."""

    if TYPE_CHECKING:  # properties of some laws, fields of others

        @property
        def label_probabilities(self) -> tuple[float, ...] | None:
            """The probability of each label; ``None`` for even ones."""

        @property
        def num_tokens(self) -> int:
            """How many tokens there are, without the padding."""

        @property
        def num_labels(self) -> int:
            """How many values the label has."""

        @property
        def length(self) -> int:
            """Of every sequence, with its padding."""

        @property
        def level_sizes(self) -> tuple[int, ...]:
            """How many latents each level has, the level just above the tokens first."""

    @property
    def padding(self) -> int:
        """The token that fills sequences in front."""
        return self.num_tokens

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are with the padding."""
        return self.num_tokens + 1

    def sample(
        self, num: int, generator: torch.Generator, labels: Tensor | None = None, *, shuffled: bool = False
    ) -> Samples:
        """Draw samples; the same generator state gives the same ones for the same ``num``.

        Args:
            num: B, how many.
            generator: where randomness comes from; samples live on its device.
            labels: (B,) the labels to draw for, instead of random ones.
            shuffled: whether the tokens of a sequence stand in random order instead of rising.

        Returns:
            Samples. Every probability of the law is met, see ``random_events``.
        """
        law_name = type(self).__name__
        chosen = labels_of(law_name, num, self.num_labels, self.label_probabilities, generator, labels)
        tokens, *presence = self._draw(chosen, generator)
        if shuffled:
            tokens = shuffled_tokens(tokens, self.padding, generator)
        return Samples(tokens, chosen, tuple(presence))

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        """Tokens, and the presence of each level of latents, the lowest first."""
        raise NotImplementedError

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data from which ``law_from_json`` builds the law again."""


def digest(law: Law) -> str:
    """What a law is known by: equal for equal laws, in every process and on every machine."""
    canonical = json.dumps(law.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class LatentTree(Law):
    """A hierarchical binary latent tree.

    >>> import joma
    >>> tree = joma.LatentTree(parents=(-1, 0, 1, 1), polarities=(0.0, 0.8, 0.9, 0.9), label_signs=((-1,), (1,)))
    >>> tree.num_tokens, tree.num_labels
    (2, 2)

    Args:
        parents: the parent of each node, by index; the label is node 0 and its own entry is −1. Parents come first,
            and every leaf lies equally deep. Leaves are tokens, numbered in the order of the nodes.
        polarities: of the edge above each node, in [−1, 1]; the label's own entry must be 0.
        label_signs: for each label, one sign for each node below the label: P(node j has sign s_j) = (1 + ρ_j)/2.
        label_probabilities: of each label, all above 0; ``None`` for even ones.
    """

    parents: tuple[int, ...]
    polarities: tuple[float, ...]
    label_signs: tuple[tuple[int, ...], ...]
    label_probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_parents(self.parents, "LatentTree")
        check_whole(len(self.parents), "LatentTree", "len(parents)", low=2, remedy="pass (-1, 0) for the smallest tree")
        _check_polarities(self.polarities, len(self.parents))
        object.__setattr__(self, "parents", tuple(self.parents))
        object.__setattr__(self, "polarities", tuple(float(value) for value in self.polarities))
        object.__setattr__(self, "label_signs", tuple(tuple(row) for row in self.label_signs))
        _check_depths(self.levels, self.parents)
        _check_signs(self.label_signs, len(self.levels[1]))
        probabilities = checked_probabilities(self.label_probabilities, self.num_labels, "LatentTree")
        object.__setattr__(self, "label_probabilities", probabilities)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The nodes of every depth, the label's first and the leaves last."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        nodes = range(len(depths))
        return tuple(tuple(node for node in nodes if depths[node] == depth) for depth in range(max(depths) + 1))

    @cached_property
    def parent_places(self) -> tuple[tuple[int, ...], ...]:
        """For every depth below the label's, each node's parent by its place among the nodes of the depth above."""
        places = [{node: idx for idx, node in enumerate(level)} for level in self.levels]
        return tuple(
            tuple(above[self.parents[node]] for node in level)
            for above, level in zip(places, self.levels[1:], strict=False)
        )

    @property
    def leaves(self) -> tuple[int, ...]:
        """The node of every token."""
        return self.levels[-1]

    @property
    def num_tokens(self) -> int:
        """How many leaves there are."""
        return len(self.leaves)

    @property
    def num_labels(self) -> int:
        """How many values the label has."""
        return len(self.label_signs)

    @property
    def length(self) -> int:
        """Of every sequence: as many as there are leaves."""
        return self.num_tokens

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """How many latents each level has, the level just above the tokens first."""
        return tuple(len(level) for level in reversed(self.levels[1:-1]))

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        tokens, *presence = in_parts(labels, len(self.parents), lambda part: self._draw_bytes(part, generator))
        tokens = tokens.to(torch.int64, memory_format=torch.contiguous_format, copy=True)
        return [tokens, *(level.view(torch.bool) for level in presence)]

    def _draw_bytes(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """As ``_draw``, in bytes where they suffice."""
        signs, flips, parents = _tables(self, generator.device)
        # One row a node, since rows are copied quickly.
        flipped = random_events(flips, (len(flips), len(labels)), generator).to(torch.uint8)
        above, found = signs.index_select(1, labels), []
        for rows, flipped_here in zip(parents, flipped.split([len(rows) for rows in parents]), strict=True):
            above = above.index_select(0, rows).bitwise_xor_(flipped_here)
            found.append(above.t().contiguous())
        return [left_padded(found.pop(), self.padding), *reversed(found)]

    def to_json(self) -> dict[str, Any]:
        """Plain data from which ``law_from_json`` builds the tree again."""
        return {
            "kind": "latent_tree",
            "parents": list(self.parents),
            "polarities": list(self.polarities),
            "label_signs": [list(row) for row in self.label_signs],
            "label_probabilities": None if self.label_probabilities is None else list(self.label_probabilities),
        }


def balanced_tree(
    branching: Sequence[int],
    polarities: Sequence[float] | float,
    num_labels: int = 2,
    seed: int = 0,
    jitter: float = 0.0,
) -> LatentTree:
    """Build a tree in which all nodes of a level have the same number of children.

    >>> import joma
    >>> tree = joma.balanced_tree((2, 3, 4), 0.8)
    >>> tree.num_tokens, tree.level_sizes
    (24, (6, 2))

    Args:
        branching: children of each node, from the label's down; the last are tokens.
        polarities: of the edges of each level, from the label's down; one number stands for all levels.
        num_labels: two labels have only −1 and only +1; any other number has different random rows of signs.
        seed: of signs and jitter.
        jitter: every edge's polarity is moved by an even draw from ± this.
    """
    function = "balanced_tree"
    if not branching:
        raise InvalidArgument(
            function, "branching", required="at least one level", received="empty", remedy="pass (2, 2, 2), for one"
        )
    for count in branching:
        check_whole(count, function, "branching")
    check_whole(num_labels, function, "num_labels")
    NON_NEGATIVE.check(jitter, function, "jitter")
    levels = [float(polarities)] * len(branching) if isinstance(polarities, int | float) else list(polarities)
    if len(levels) != len(branching):
        raise InvalidArgument(
            function,
            "polarities",
            required=f"one number, or one for each of the {len(branching)} levels of branching",
            received=f"of length {len(levels)}",
            remedy="pass as many polarities as branching has entries",
        )
    for polarity in levels:
        POLARITY.check(polarity, function, "polarities")
        if abs(polarity) + jitter > 1:
            raise InvalidArgument(
                function,
                "jitter",
                required=f"at most {1 - abs(polarity):g}, so that every polarity stays within [-1, 1]",
                received=f"{jitter:g} about a polarity of {polarity:g}",
                remedy="pass a smaller jitter",
            )
    chance = random.Random(seed)
    parents, edges, above = [-1], [0.0], [0]
    for children, polarity in zip(branching, levels, strict=True):
        below = range(len(parents), len(parents) + len(above) * children)
        parents += [parent for parent in above for _ in range(children)]
        edges += [polarity + (chance.uniform(-jitter, jitter) if jitter else 0.0) for _ in below]
        above = list(below)
    return LatentTree(tuple(parents), tuple(edges), _label_signs(branching[0], num_labels, chance))


def _label_signs(num_top: int, num_labels: int, chance: random.Random) -> tuple[tuple[int, ...], ...]:
    if num_labels == 2:
        return (-1,) * num_top, (1,) * num_top
    if num_labels > 2**num_top:
        raise _too_many_labels("balanced_tree", "num_labels", num_labels, num_top)
    if num_labels > 2 ** (num_top - 1):  # so many that drawing again and again would take long
        return tuple(chance.sample(list(itertools.product((-1, 1), repeat=num_top)), num_labels))
    rows: dict[tuple[int, ...], None] = {}
    while len(rows) < num_labels:
        rows[tuple(chance.choice((-1, 1)) for _ in range(num_top))] = None
    return tuple(rows)


@lru_cache(maxsize=32)
def _tables(tree: LatentTree, device: torch.device) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Signs (nodes below the label, labels), 1 for +1; P(edge flips), level by level; each level's parents, as rows."""
    signs = torch.tensor(tree.label_signs, device=device).t() > 0
    flips = [[(1 - tree.polarities[node]) / 2] for level in tree.levels[1:] for node in level]
    parents = [torch.arange(len(signs), device=device)]  # the label's children each have their own row of signs
    parents += [torch.tensor(places, device=device) for places in tree.parent_places[1:]]
    return signs.to(torch.uint8), torch.tensor(flips, dtype=REAL, device=device), parents


def check_parents(parents: Sequence[int], function: str) -> None:
    """Raise ``InvalidArgument`` unless node 0 has the parent −1 and every other node an earlier one."""
    for node, parent in enumerate(parents):
        if not (is_whole(parent, 0, node - 1) if node else is_whole(parent, -1, -1)):
            raise InvalidArgument(
                function,
                "parents",
                required="−1 for node 0, and an earlier node for every other one",
                received=f"{parent!r} for node {node}",
                remedy="number the nodes from the label downwards",
            )


def _check_polarities(polarities: Sequence[float], num: int) -> None:
    if len(polarities) != num or polarities[0] != 0:
        raise InvalidArgument(
            "LatentTree",
            "polarities",
            required=f"{num} numbers, one for each node, and 0 for the label",
            received=f"{[float(f'{polarity:g}') for polarity in polarities[:4]]}" + " …" * (len(polarities) > 4),
            remedy="put a 0 in front for the label",
        )
    for polarity in polarities:
        POLARITY.check(polarity, "LatentTree", "polarities")


def _check_depths(levels: Sequence[Sequence[int]], parents: Sequence[int]) -> None:
    inner = set(parents)
    early = [(node, depth) for depth, level in enumerate(levels[:-1]) for node in level if node not in inner]
    if early:
        node, depth = early[0]
        raise InvalidArgument(
            "LatentTree",
            "parents",
            required="such that all leaves lie equally deep",
            received=f"such that the leaf {node} lies {depth} below the label and others {len(levels) - 1}",
            remedy="put a node with polarity 1 on top of the leaf for every level it lacks",
        )


def _check_signs(label_signs: Sequence[Sequence[int]], num_top: int) -> None:
    if len(label_signs) > 2**num_top:
        raise _too_many_labels("LatentTree", "label_signs", len(label_signs), num_top)
    rows = set()
    for label, row in enumerate(label_signs):
        if len(row) != num_top or not all(sign in (-1, 1) for sign in row) or row in rows:
            raise InvalidArgument(
                "LatentTree",
                "label_signs",
                required=f"a row of {num_top} signs, −1 or 1, for each label, no two rows alike",
                received=f"{row} for label {label}",
                remedy=f"give every label a row of its own; there are {2**num_top}",
            )
        rows.add(row)
    if not rows:
        raise InvalidArgument(
            "LatentTree", "label_signs", required="at least one row", received="empty", remedy="pass a row a label"
        )


def _too_many_labels(function: str, parameter: str, num_labels: int, num_top: int) -> InvalidArgument:
    return InvalidArgument(
        function,
        parameter,
        required=f"at most {2**num_top} labels: there are no more patterns of {num_top} signs",
        received=f"such that there are {num_labels}",
        remedy="take fewer labels, or more nodes below the label",
    )
