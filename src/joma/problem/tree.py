"""The hierarchical binary latent tree of Theorem 5: a label, binary latents below it, and tokens as leaves.

A node has its parent's sign with probability (1 + ρ)/2, where ρ is the polarity of the edge between them. A latent is
present, and a token is in the sequence, if its sign is +1.
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
from joma.domains import NON_NEGATIVE, POLARITY, as_sequence, check_seed, check_whole, is_whole
from joma.errors import InvalidArgument
from joma.problem.draws import (
    checked_probabilities,
    in_parts,
    labels_of,
    left_padded,
    random_events,
    shuffled_tokens,
)

MOST_LEVELS = 64
MOST_NODES = 1_000_000
"""The most nodes of a tree, sets of a hierarchy, or labels: lists in Python hold them."""

_MOST_ENTRIES = 2**27  # of sequences drawn at once: 1 GB


class Samples(NamedTuple):
    """Samples of a law: sequences, their labels, and which latents were present.

    Args:
        tokens: int64, increasing along a sequence (unless shuffled), left-padded; those of a ``RandomHierarchy`` in
            their places.
        labels: int64.
        presence: one for each level of latents, the lowest level first.
        symbols: int64, likewise, if latents are symbols at places; ``presence`` is then one-hot.
    """

    tokens: Int[Tensor, "B L"]
    labels: Int[Tensor, " B"]
    presence: tuple[Bool[Tensor, "B n"], ...]
    symbols: tuple[Int[Tensor, "B n"], ...] = ()


class Law(ABC):
    """A joint distribution of a label, latents and a sequence of tokens."""

    if TYPE_CHECKING:  # properties of some laws, fields of others

        @property
        def label_probabilities(self) -> tuple[float, ...] | None:
            """The probability of each label; ``None`` if all are equal."""

        @property
        def num_tokens(self) -> int:
            """The number of tokens, without the padding token."""

        @property
        def num_labels(self) -> int:
            """The number of labels."""

        @property
        def length(self) -> int:
            """The length of every sequence, padding included."""

        @property
        def level_sizes(self) -> tuple[int, ...]:
            """The number of latents of each level, the lowest level first."""

    @property
    def padding(self) -> int:
        """The padding token."""
        return self.num_tokens

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, with the padding token."""
        return self.num_tokens + 1

    def sample(
        self, num: int, generator: torch.Generator, labels: Tensor | None = None, *, shuffled: bool = False
    ) -> Samples:
        """Draw samples; the same generator state and ``num`` give the same samples.

        Args:
            num: B, the number of samples.
            generator: source of randomness; samples are on its device.
            labels: (B,) the labels to condition on; random ones if ``None``.
            shuffled: whether the tokens of a sequence are in random instead of increasing order.
        """
        law_name = type(self).__name__
        function = f"{law_name}.sample"
        check_whole(num, function, "num", high=_MOST_ENTRIES // self.length, remedy="draw fewer at a time")
        if not isinstance(generator, torch.Generator):
            required, remedy = "a torch.Generator", "pass torch.Generator().manual_seed(0), for one"
            received = f"of type {type(generator).__name__}"
            raise InvalidArgument(function, "generator", required=required, received=received, remedy=remedy)
        chosen = labels_of(law_name, num, self.num_labels, self.label_probabilities, generator, labels)
        tokens, *presence = self._draw(chosen, generator)
        if shuffled:
            tokens = shuffled_tokens(tokens, self.padding, generator)
        return Samples(tokens, chosen, tuple(presence))

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        """Tokens, and the presence of each level of latents, the lowest first."""
        name = type(self).__name__
        raise NotImplementedError(f"{name} cannot be sampled: define {name}._draw(labels, generator), or its sample")

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return plain data from which ``law_from_json`` rebuilds the law."""


def digest(law: Law) -> str:
    """Return a hash of a law: the same for equal laws in every process and on every machine."""
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
        parents: index of the parent of each node; node 0 is the label, with entry −1. Parents have smaller indices than
            their children, and all leaves have the same depth. Leaves are the tokens, in the order of the nodes.
        polarities: of the edge above each node, in [−1, 1]; the label's entry must be 0.
        label_signs: for each label, one sign for each child of the label: P(node j has sign s_j) = (1 + ρ_j)/2.
        label_probabilities: of each label, all above 0; ``None`` if all are equal.
    """

    parents: tuple[int, ...]
    polarities: tuple[float, ...]
    label_signs: tuple[tuple[int, ...], ...]
    label_probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        parents, polarities, rows = (
            as_sequence(getattr(self, name), "LatentTree", name, f"a list of {what}")
            for name, what in (("parents", "nodes"), ("polarities", "numbers"), ("label_signs", "rows of signs"))
        )
        check_parents(parents, "LatentTree")
        check_whole(len(parents), "LatentTree", "len(parents)", low=2, remedy="pass (-1, 0) for the smallest tree")
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "polarities", _checked_polarities(polarities, len(parents)))
        signs = tuple(as_sequence(row, "LatentTree", "label_signs", "a list of rows of signs") for row in rows)
        object.__setattr__(self, "label_signs", signs)
        _check_depths(self.levels, self.parents)
        _check_signs(self.label_signs, len(self.levels[1]))
        probabilities = checked_probabilities(self.label_probabilities, self.num_labels, "LatentTree")
        object.__setattr__(self, "label_probabilities", probabilities)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The nodes of every depth, from the label to the leaves."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        levels: list[list[int]] = [[] for _ in range(max(depths) + 1)]
        for node, depth in enumerate(depths):
            levels[depth].append(node)
        return tuple(map(tuple, levels))

    @cached_property
    def parent_places(self) -> tuple[tuple[int, ...], ...]:
        """For every depth below the label, the parent of each node as an index into the nodes of the depth above."""
        places = [{node: idx for idx, node in enumerate(level)} for level in self.levels]
        return tuple(
            tuple(above[self.parents[node]] for node in level)
            for above, level in zip(places, self.levels[1:], strict=False)
        )

    @property
    def leaves(self) -> tuple[int, ...]:
        """The node of each token."""
        return self.levels[-1]

    @property
    def num_tokens(self) -> int:
        """The number of leaves."""
        return len(self.leaves)

    @property
    def num_labels(self) -> int:
        """The number of labels."""
        return len(self.label_signs)

    @property
    def length(self) -> int:
        """The length of every sequence: the number of leaves."""
        return self.num_tokens

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The number of latents of each level, the lowest level first."""
        return tuple(len(level) for level in reversed(self.levels[1:-1]))

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        tokens, *presence = in_parts(labels, len(self.parents), lambda part: self._draw_bytes(part, generator))
        tokens = tokens.to(torch.int64, memory_format=torch.contiguous_format, copy=True)
        return [tokens, *(level.view(torch.bool) for level in presence)]

    def _draw_bytes(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """As ``_draw``, but in bytes where these suffice."""
        signs, flips, parents = _tables(self, generator.device)
        # One row per node, because rows are copied quickly.
        flipped = random_events(flips, (len(flips), len(labels)), generator).to(torch.uint8)
        above, found = signs.index_select(1, labels), []
        for rows, flipped_here in zip(parents, flipped.split([len(rows) for rows in parents]), strict=True):
            above = above.index_select(0, rows).bitwise_xor_(flipped_here)
            found.append(above.t().contiguous())
        return [left_padded(found.pop(), self.padding), *reversed(found)]

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which ``law_from_json`` rebuilds the tree."""
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
        branching: number of children of each node, from the label down; the last ones are tokens.
        polarities: of the edges of each level, from the label down, or one number for all levels.
        num_labels: number of labels. Two labels have signs all −1 and all +1; otherwise each has random signs.
        seed: of signs and jitter.
        jitter: half-width of the uniform distribution of each edge's polarity around its level's.
    """
    function = "balanced_tree"
    branching = as_sequence(branching, function, "branching", "a list of numbers of children")
    if not branching:
        raise InvalidArgument(
            function, "branching", required="at least one level", received="empty", remedy="pass (2, 2, 2), for one"
        )
    check_whole(len(branching), function, "number of levels of branching", high=MOST_LEVELS, remedy="take fewer levels")
    for count in branching:
        check_whole(count, function, "branching", high=MOST_NODES)
    most = sum(itertools.accumulate(branching, lambda above, count: min(above * count, MOST_NODES + 1)))
    check_whole(most, function, "nodes of branching", high=MOST_NODES, remedy="take fewer children or levels")
    check_whole(num_labels, function, "num_labels", high=max(2, MOST_NODES // branching[0]))
    check_seed(seed, function)
    jitter = NON_NEGATIVE.check(jitter, function, "jitter")
    levels = [polarities] * len(branching) if isinstance(polarities, int | float) else polarities
    levels = as_sequence(levels, function, "polarities", "one number, or a list of numbers")
    if len(levels) != len(branching):
        raise InvalidArgument(
            function,
            "polarities",
            required=f"one number, or one for each of the {len(branching)} levels of branching",
            received=f"of length {len(levels)}",
            remedy="pass as many polarities as branching has entries",
        )
    levels = [POLARITY.check(polarity, function, "polarities") for polarity in levels]
    for polarity in levels:
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
    if num_labels > 2 ** (num_top - 1):  # redrawing until all differ would take long
        return tuple(chance.sample(list(itertools.product((-1, 1), repeat=num_top)), num_labels))
    rows: dict[tuple[int, ...], None] = {}
    while len(rows) < num_labels:
        rows[tuple(chance.choice((-1, 1)) for _ in range(num_top))] = None
    return tuple(rows)


@lru_cache(maxsize=32)
def _tables(tree: LatentTree, device: torch.device) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Signs (children of the label, labels), 1 for +1; P(flip) of each edge; each level's parents, as rows."""
    signs = torch.tensor(tree.label_signs, device=device).t() > 0
    flips = [[(1 - tree.polarities[node]) / 2] for level in tree.levels[1:] for node in level]
    parents = [torch.arange(len(signs), device=device)]  # each child of the label has its own row of signs
    parents += [torch.tensor(places, device=device) for places in tree.parent_places[1:]]
    return signs.to(torch.uint8), torch.tensor(flips, dtype=REAL, device=device), parents


def check_parents(parents: Sequence[int], function: str) -> None:
    """Raise ``InvalidArgument`` unless node 0 has parent −1 and every other node an earlier node as parent."""
    for node, parent in enumerate(parents):
        if not (is_whole(parent, 0, node - 1) if node else is_whole(parent, -1, -1)):
            raise InvalidArgument(
                function,
                "parents",
                required="−1 for node 0, and an earlier node for every other node",
                received=f"{parent!r} for node {node}",
                remedy="number the nodes from the label down",
            )


def _checked_polarities(given: Sequence[float], num: int) -> tuple[float, ...]:
    polarities = tuple(POLARITY.check(polarity, "LatentTree", "polarities") for polarity in given)
    if len(polarities) != num or polarities[0] != 0:
        raise InvalidArgument(
            "LatentTree",
            "polarities",
            required=f"{num} numbers, one for each node, and 0 for the label",
            received=f"{[float(f'{polarity:g}') for polarity in polarities[:4]]}" + " …" * (len(polarities) > 4),
            remedy="put a 0 in front for the label",
        )
    return polarities


def _check_depths(levels: Sequence[Sequence[int]], parents: Sequence[int]) -> None:
    inner = set(parents)
    early = [(node, depth) for depth, level in enumerate(levels[:-1]) for node in level if node not in inner]
    if early:
        node, depth = early[0]
        raise InvalidArgument(
            "LatentTree",
            "parents",
            required="such that all leaves have the same depth",
            received=f"such that leaf {node} has depth {depth} and others {len(levels) - 1}",
            remedy="insert nodes with polarity 1 above that leaf",
        )


def _check_signs(label_signs: Sequence[Sequence[int]], num_top: int) -> None:
    if len(label_signs) > 2**num_top:
        raise _too_many_labels("LatentTree", "label_signs", len(label_signs), num_top)
    rows = set()
    for label, row in enumerate(label_signs):
        if len(row) != num_top or not all(is_whole(sign, -1, 1) and sign for sign in row) or row in rows:
            raise InvalidArgument(
                "LatentTree",
                "label_signs",
                required=f"a row of {num_top} signs, −1 or 1, for each label, all rows different",
                received=f"{row} for label {label}",
                remedy=f"choose different rows; there are 2^{num_top}",
            )
        rows.add(row)
    if not rows:
        raise InvalidArgument(
            "LatentTree", "label_signs", required="at least one row", received="empty", remedy="pass one row per label"
        )


def _too_many_labels(function: str, parameter: str, num_labels: int, num_top: int) -> InvalidArgument:
    return InvalidArgument(
        function,
        parameter,
        required=f"at most {2**num_top} labels, the number of patterns of {num_top} signs",
        received=f"such that there are {num_labels}",
        remedy="take fewer labels, or more children of the label",
    )
