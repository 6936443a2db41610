"""Functions of any law of a hierarchy, and reading a law from plain data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Bool, Int

from joma.arrays import REAL
from joma.domains import check_whole
from joma.errors import BadInput, InvalidArgument, cause_of
from joma.problem.combinatorial import Combinatorial
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law
from joma.problem.unrelated import UnrelatedLabels

Hierarchy = LatentTree | Combinatorial | RandomHierarchy
AnyLaw = Hierarchy | UnrelatedLabels

KINDS: Mapping[str, type[AnyLaw]] = {
    "latent_tree": LatentTree,
    "combinatorial": Combinatorial,
    "random_hierarchy": RandomHierarchy,
    "unrelated_labels": UnrelatedLabels,
}


NO_ANCESTOR = 0
"""The height that stands for no common ancestor: no label has both tokens."""


def hierarchy_of(law: Law) -> Hierarchy:
    """Return the hierarchy of a law; for ``UnrelatedLabels``, that of the law it wraps."""
    found = law.law if isinstance(law, UnrelatedLabels) else law
    if not isinstance(found, Hierarchy):
        raise InvalidArgument(
            "hierarchy_of",
            "law",
            required="a LatentTree, a Combinatorial, a RandomHierarchy or UnrelatedLabels",
            received=type(found).__name__,
            remedy="pass one of these",
        )
    return found


def label_probabilities(law: Law) -> tuple[float, ...]:
    """Return the probability of each label, also where the law has ``None``."""
    return hierarchy_of(law).label_probabilities or (1 / law.num_labels,) * law.num_labels


def check_level(level: object, function: str, highest: int, *, low: int = 0) -> None:
    """Raise ``InvalidArgument`` unless a law has the level; ``highest`` is its highest one, −1 if it has none."""
    if highest < low:
        raise InvalidArgument(
            function,
            "law",
            required="a law with latents between the label and the tokens",
            received="one whose tokens depend on the label alone",
            remedy="take more levels, or cut correlations at level 0 or higher",
        )
    remedy = "levels count from 0, just above the tokens" + "; −1 makes tokens independent given the label" * (low < 0)
    check_whole(level, function, "level", low=low, high=highest, remedy=remedy)


def token_presence(law: Law, tokens: Int[torch.Tensor, "B L"]) -> Bool[torch.Tensor, "B V"]:
    """Return which tokens each sequence contains."""
    present = torch.zeros(len(tokens), law.vocabulary_size, dtype=torch.bool, device=tokens.device)
    return present.scatter_(1, tokens, True)[:, : law.num_tokens]


def edges_of(law: Hierarchy) -> list[Int[torch.Tensor, "E 2"]]:
    """Return the edges between each level and the next, from the tokens up to the labels: (index below, index above).

    A latent tree and a random hierarchy model have one node for the label; the latter's nodes are its places.
    """
    if isinstance(law, LatentTree):
        return [torch.tensor(list(enumerate(places))) for places in reversed(law.parent_places)]
    if isinstance(law, RandomHierarchy):
        sizes = (law.length, *law.num_places, 1)
        gaps = itertools.pairwise(sizes)
        return [torch.tensor([(i, i * above // below) for i in range(below)]) for below, above in gaps]
    pairs = (
        {(child, i) for i, latent in enumerate(level) for chosen in latent for child in chosen} for level in law.members
    )
    return [torch.tensor(sorted(of_level)) for of_level in pairs]


def parents_of_places(law: RandomHierarchy) -> tuple[int, ...]:
    """Return the parent of every place of a law, −1 for that of the label; places from the label down to the tokens."""
    parents, first = [-1], 0
    for edges in reversed(edges_of(law)):
        above = len(parents)
        parents += (edges[:, 1] + first).tolist()
        first = above
    return tuple(parents)


def common_heights(law: Hierarchy) -> Int[torch.Tensor, "V V"]:
    """Return the height of the nearest common ancestor of every two tokens, in levels; −1 for a token with itself.

    The label is the highest ancestor. Tokens without a common label never co-occur and have ``NO_ANCESTOR``.
    """
    if isinstance(law, RandomHierarchy):
        raise InvalidArgument(
            "common_heights",
            "law",
            required="a law whose tokens are leaves of the hierarchy",
            received="a RandomHierarchy, in which any token can be at any place",
            remedy="compare places: joma.token_correlations(law)",
        )
    heights = torch.full((law.num_tokens, law.num_tokens), NO_ANCESTOR)
    below = torch.eye(law.num_tokens, dtype=REAL)  # whether a node is above a token
    for height, edges in enumerate(edges_of(law), start=1):
        is_child = torch.zeros(int(edges[:, 1].max()) + 1, len(below), dtype=REAL)
        is_child[edges[:, 1], edges[:, 0]] = 1.0
        below = (is_child @ below).clamp(max=1.0)
        heights[(heights == NO_ANCESTOR) & (below.T @ below > 0)] = height
    return heights.fill_diagonal_(-1)


def law_from_json(data: Any) -> AnyLaw:
    """Rebuild a law from the output of its ``to_json``; raise ``BadInput`` where the data is not a valid law."""
    name = data.get("kind") if isinstance(data, Mapping) else f"{type(data).__name__}, no mapping"
    if not isinstance(name, str) or name not in KINDS:
        raise _unreadable(f"the kind is {name!r}", f"a mapping whose kind is one of {', '.join(KINDS)}")
    kind = KINDS[name]
    wanted = {field.name for field in fields(kind)}
    given = set(data) - {"kind"}
    if given != wanted:
        what = [
            *(f"no {name}" for name in sorted(wanted - given)),
            *(f"unknown {name}" for name in sorted(given - wanted)),
        ]
        raise _unreadable(", ".join(what), f"the entries {', '.join(sorted(wanted))}")
    try:
        values: dict[str, Any] = {name: _frozen(data[name]) for name in wanted}
        if "law" in wanted:
            values["law"] = law_from_json(data["law"])
        return kind(**values)
    except BadInput:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise _unreadable(cause_of(error), "entries of the types that to_json writes") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list | tuple) else value


def _unreadable(problem: str, expected: str) -> BadInput:
    remedy = "write the file again with the law's to_json"
    return BadInput(f"this is no law of a hierarchy: {problem}", expected=expected, remedy=remedy)
