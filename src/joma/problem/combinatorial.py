"""The combinatorial hierarchy of the paper's Table 1, and a random extension with many inputs per class.

A latent is a set of members of the level below; the lowest level is the tokens, the highest the classes. A sample is
the sorted union of all tokens below its class. In the extension a latent shows each of its members with a given
probability, and may have alternative sets of members, of which it draws one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from joma.domains import PROBABILITY, as_sequence, check_flag, check_seed, check_whole, is_whole
from joma.errors import InvalidArgument
from joma.problem.draws import checked_probabilities, in_parts
from joma.problem.paths import Level, Members, steps_down, walk
from joma.problem.tree import MOST_NODES, Law


@dataclass(frozen=True)
class Combinatorial(Law):
    """A combinatorial hierarchy: latents are sets of members; JoMA's Table 1, and its extension with random inputs.

    The field's Random Hierarchy Model is another law: ``RandomHierarchy``.

    >>> import joma
    >>> members = ((((0, 1),), ((1, 2),)), (((0,),), ((0, 1),)))  # two latents of three tokens, two classes of them
    >>> law = joma.Combinatorial(members, num_tokens=3, length=4)
    >>> law.num_labels, law.level_sizes
    (2, (2,))

    Args:
        members: ``members[level][latent][alternative]`` is an increasing tuple of indices into the level below (into
            the tokens for level 0); the last level holds the classes.
        num_tokens: number of tokens.
        length: of every sequence, padding included.
        show_probability: that a present latent or class shows a given member, in (0, 1].
        label_probabilities: of each class, all above 0; ``None`` if all are equal.
    """

    members: tuple[Level, ...]
    num_tokens: int
    length: int = 30
    show_probability: float = 1.0
    label_probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        members = _nested(self.members, 4)
        object.__setattr__(self, "members", members)
        check_whole(self.num_tokens, "Combinatorial", "num_tokens", high=MOST_NODES)
        check_whole(self.length, "Combinatorial", "length", high=MOST_NODES)
        PROBABILITY.check(self.show_probability, "Combinatorial", "show_probability")
        _check_members(members, self.num_tokens)
        longest = max(_most_tokens(members))
        if longest > self.length:
            raise InvalidArgument(
                "Combinatorial",
                "length",
                required=f"at least {longest}, the most tokens that a class may show",
                received=str(self.length),
                remedy=f"pass length={longest}, or give latents fewer members",
            )
        probabilities = checked_probabilities(self.label_probabilities, self.num_labels, "Combinatorial")
        object.__setattr__(self, "label_probabilities", probabilities)

    @property
    def num_labels(self) -> int:
        """The number of classes."""
        return len(self.members[-1])

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The number of latents of each level, the lowest level first; classes do not count as a level."""
        return tuple(len(level) for level in self.members[:-1])

    @property
    def is_table(self) -> bool:
        """Whether every class has exactly one input, as in the paper: every member is shown, and no set is drawn."""
        return self.show_probability == 1 and all(len(latent) == 1 for level in self.members for latent in level)

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        if not self.is_table:
            return _drawn(self, labels, generator)
        return [part.index_select(0, labels) for part in _table(self, generator.device)]

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which ``law_from_json`` rebuilds the hierarchy."""
        return {
            "kind": "combinatorial",
            "members": [[[list(chosen) for chosen in latent] for latent in level] for level in self.members],
            "num_tokens": self.num_tokens,
            "length": self.length,
            "show_probability": float(self.show_probability),
            "label_probabilities": None if self.label_probabilities is None else list(self.label_probabilities),
        }


def random_hierarchy(
    num_classes: int,
    level_sizes: Sequence[int] = (10, 20),
    set_size: int | Sequence[int] = 2,
    *,
    num_tokens: int = 100,
    length: int = 30,
    num_alternatives: int = 1,
    show_probability: float = 1.0,
    distinct_inputs: bool = False,
    seed: int = 0,
) -> Combinatorial:
    """Draw a ``Combinatorial`` hierarchy: every latent and class has random sets of members of the level below.

    Not the Random Hierarchy Model of Cagnetta et al.; that is the class ``RandomHierarchy``.

    >>> import torch, joma
    >>> law = joma.random_hierarchy(20, (10, 20), 2, num_tokens=100)
    >>> law.sample(3, torch.Generator().manual_seed(0)).tokens.shape
    torch.Size([3, 30])

    Args:
        num_classes: C, the number of classes.
        level_sizes: number of latents of each level, the lowest level first.
        set_size: number of members of every set, or one number per level with that of the classes last.
        num_tokens: number of tokens.
        length: of every sequence.
        num_alternatives: number of sets of each latent and class; the sets of a level all differ.
        show_probability: that a given member is shown, in (0, 1].
        distinct_inputs: redraw the sets of a class until the tokens it can show differ from those of every other class.
        seed: of the random sets.
    """
    function = "random_hierarchy"
    level_sizes = as_sequence(level_sizes, function, "level_sizes", "a list of numbers of latents")
    sizes = [*level_sizes, num_classes]
    one = isinstance(set_size, int)
    set_sizes = [set_size] * len(sizes) if one else as_sequence(set_size, function, "set_size", "a number or a list")
    counts = {"num_classes": [num_classes], "num_tokens": [num_tokens], "num_alternatives": [num_alternatives]}
    for name, values in (counts | {"level_sizes": level_sizes, "set_size": set_sizes}).items():
        for value in values:
            check_whole(value, function, name, high=MOST_NODES)
    PROBABILITY.check(show_probability, function, "show_probability")
    check_flag(distinct_inputs, function, "distinct_inputs")
    check_seed(seed, function)
    if len(set_sizes) != len(sizes):
        raise InvalidArgument(
            function,
            "set_size",
            required=f"one number, or {len(sizes)}: one for each level and one for the classes",
            received=f"of length {len(set_sizes)}",
            remedy="append the size of the classes' sets",
        )
    total = num_alternatives * sum(size * num for size, num in zip(sizes, set_sizes, strict=True))
    check_whole(total, function, "members of all sets", high=MOST_NODES, remedy="take fewer latents or smaller sets")
    chance = random.Random(seed)
    members: list[Level] = []
    below = num_tokens
    for level, (size, num_members) in enumerate(zip(sizes, set_sizes, strict=True)):
        what = "classes" if level == len(level_sizes) else f"level {level}"
        _check_enough_sets(size * num_alternatives, below, num_members, what)
        if distinct_inputs and level == len(level_sizes):
            members.append(_distinct_classes(members, size, num_alternatives, (below, num_members), chance))
        else:
            sets = _different_sets(size * num_alternatives, below, num_members, chance)
            starts = range(0, len(sets), num_alternatives)
            members.append(tuple(tuple(sets[start : start + num_alternatives]) for start in starts))
        below = size
    return Combinatorial(tuple(members), num_tokens, length, show_probability)


def _nested(members: Any, depth: int) -> Any:
    """Lists within lists as tuples within tuples."""
    if depth == 0:
        return members
    required = "levels of latents, each a list of alternatives, each a list of indices"
    return tuple(_nested(part, depth - 1) for part in as_sequence(members, "Combinatorial", "members", required))


def ambiguous_labels(law: Combinatorial) -> tuple[tuple[int, ...], ...]:
    """Return the groups of classes with the same input, which no network can distinguish; for a table only."""
    if not law.is_table:
        raise InvalidArgument(
            "ambiguous_labels",
            "law",
            required="a table: one input for each class",
            received="a law with random inputs",
            remedy="pass a law with show_probability 1 and one set for each latent",
        )
    groups: dict[frozenset[int], list[int]] = {}
    for label, tokens in enumerate(_reach(law.members)[-1]):
        groups.setdefault(tokens, []).append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


@lru_cache(maxsize=32)
def _table(law: Combinatorial, device: torch.device) -> Sequence[Tensor]:
    """Tokens and presence for each class of a law without randomness."""
    return _drawn(law, torch.arange(law.num_labels, device=device), torch.Generator(device))


def _drawn(law: Combinatorial, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
    steps = steps_down(law.members, law.num_tokens, generator.device)
    numbers = 2 * sum(step.width * len(step.children) for step in steps)
    return in_parts(labels, numbers, lambda part: walk(steps, part, law.length, law.show_probability, generator))


def _num_sets(below: int, num_members: int, enough: int) -> int:
    """The number of different sets of members, counted only until there are more than ``enough``."""
    count = 1 if num_members <= below else 0
    for place in range(min(num_members, below - num_members)):
        count = count * (below - place) // (place + 1)
        if count > enough:
            break
    return count


def _different_sets(num: int, below: int, num_members: int, chance: random.Random) -> list[Members]:
    if 2 * num > _num_sets(below, num_members, 2 * num):  # redrawing until all differ would take long
        return chance.sample(list(itertools.combinations(range(below), num_members)), num)
    sets: dict[Members, None] = {}
    while len(sets) < num:
        sets[tuple(sorted(chance.sample(range(below), num_members)))] = None
    return list(sets)


def _distinct_classes(
    members: Sequence[Level], num: int, num_alternatives: int, choice: tuple[int, int], chance: random.Random
) -> Level:
    below, num_members = choice
    reach = _reach(members)[-1] if members else [frozenset({token}) for token in range(below)]
    seen: set[frozenset[int]] = set()
    used: set[Members] = set()
    classes: list[tuple[Members, ...]] = []
    most = min(1000 * num, max(200_000, 20 * num))
    for _ in range(most):
        if len(classes) == num:
            break
        sets = _different_sets(num_alternatives, below, num_members, chance)
        shown = frozenset().union(*(reach[child] for chosen in sets for child in chosen))
        if shown not in seen and used.isdisjoint(sets):
            seen.add(shown)
            used.update(sets)
            classes.append(tuple(sets))
    if len(classes) < num:
        raise InvalidArgument(
            "random_hierarchy",
            "distinct_inputs",
            required=f"such that {num} classes can show different tokens",
            received=f"True, but {most} draws found only {len(classes)} such classes",
            remedy="take fewer classes, more latents, another seed, or distinct_inputs=False",
        )
    return tuple(classes)


def _reach(members: Sequence[Level]) -> list[list[frozenset[int]]]:
    """For every level and latent, the set of tokens that it can show."""
    reach: list[list[frozenset[int]]] = []
    for level in members:
        below = reach[-1] if reach else None
        shown = ([below[child] if below else {child} for chosen in latent for child in chosen] for latent in level)
        reach.append([frozenset().union(*tokens) for tokens in shown])
    return reach


def _most_tokens(members: Sequence[Level]) -> list[int]:
    """For every class, an upper bound on the number of tokens in a sample: exact if every latent has one set."""
    most: list[int] | None = None
    for level, reach in zip(members, _reach(members), strict=True):
        below = most
        most = [
            min(len(tokens), max(sum(below[child] if below else 1 for child in chosen) for chosen in latent))
            for tokens, latent in zip(reach, level, strict=True)
        ]
    return most or [0]


def _check_enough_sets(num: int, below: int, num_members: int, what: str) -> None:
    available = _num_sets(below, num_members, num)
    if num > available:
        raise InvalidArgument(
            "random_hierarchy",
            "set_size",
            required=f"such that {num} different sets exist for {what}",
            received=f"{num_members} of the {below} members below, which gives only {available} sets",
            remedy="take fewer latents, classes or alternatives, or a larger level below",
        )


def _check_members(members: Sequence[Level], num_tokens: int) -> None:
    def refuse(required: str, received: str, remedy: str) -> InvalidArgument:
        return InvalidArgument("Combinatorial", "members", required=required, received=received, remedy=remedy)

    if not members or not all(members):
        raise refuse("at least one level, and no empty level", "empty", "pass at least the classes' members")
    below = num_tokens
    for number, level in enumerate(members):
        for latent, alternatives in enumerate(level):
            where = f"latent {latent} of level {number}"
            if not alternatives or not all(alternatives):
                raise refuse("at least one member of every latent", f"empty for {where}", "remove that latent")
            for chosen in alternatives:
                if not all(is_whole(child, 0, below - 1) for child in chosen):
                    raise refuse(f"whole numbers from 0 to {below - 1}", f"{chosen} for {where}", "number from 0")
                if any(a >= b for a, b in itertools.pairwise(chosen)):
                    raise refuse("increasing members without repetition", f"{chosen} for {where}", "sort them")
            if len(set(alternatives)) < len(alternatives):
                raise refuse("different alternatives", f"{alternatives} for {where}", "list every set once")
        below = len(level)
