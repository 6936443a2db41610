"""The Random Hierarchy Model: a label, and below it symbols at places, each written as one of its synonymous tuples.

Each symbol of a level has m rules: tuples of s symbols of the level below. All tuples of a level differ, so that a
tuple has one parent. The label is the symbol of the top place; a sample replaces every symbol by one of its tuples,
drawn uniformly, L times. Source: Cagnetta et al., "How deep neural networks learn compositional data: the Random
Hierarchy Model" (PRX 2024, arXiv 2307.02129).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from joma.arrays import REAL
from joma.domains import check_flag, check_seed, check_whole
from joma.errors import InvalidArgument
from joma.problem.draws import in_parts, random_choices
from joma.problem.tree import MOST_LEVELS, MOST_NODES, Law, Samples

_MOST_JOINT = 2**16  # entries of a table for two levels, which then fits a core's cache

_MOST_PACKED = 256  # symbols whose one-hot rows are copied from a table
_MOST_PRESENCE = 2**31  # entries of presence drawn at once: 2 GB

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes


@dataclass(frozen=True)
class RandomHierarchy(Law):
    """A Random Hierarchy Model (Cagnetta et al., arXiv 2307.02129), with rules drawn from a seed.

    The function ``random_hierarchy`` is another law, JoMA's own: a random ``Combinatorial`` hierarchy of sets.

    Level 0 is the latents just above the tokens; the label's rules are those of level ``depth`` − 1. Every level has
    an alphabet of ``num_symbols`` symbols and rules of its own; the places of a level share them.

    >>> import torch, joma
    >>> law = joma.RandomHierarchy(num_classes=8, num_symbols=8, num_synonyms=4, branching=2, depth=3)
    >>> law.length, law.num_places
    (8, (4, 2))
    >>> samples = law.sample(5, torch.Generator().manual_seed(0))
    >>> samples.tokens.shape, [symbols.shape for symbols in samples.symbols]
    (torch.Size([5, 8]), [torch.Size([5, 4]), torch.Size([5, 2])])

    Args:
        num_classes: n_c, the number of labels, all equally likely.
        num_symbols: v, the symbols of each level, and the tokens.
        num_synonyms: m, the rules of each symbol and label.
        branching: s, the symbols of a tuple, at least 2.
        depth: L, the number of levels of rules; sequences have s^L tokens.
        seed: of the rules.
        uncorrelated: whether the label's rules are such that no single top latent, and so no tuple below it, says
            anything about the label: at each place of the label's tuples every class has the same symbols equally
            often. It takes the first min(m, v) symbols of a random order of each place, and needs at most as many
            classes; the rules of all other levels are drawn as always. A control for what correlations teach.
        filtered_above: the highest level whose latents keep their sub-trees; see ``filtered``. ``None`` for the law
            itself.
    """

    num_classes: int
    num_symbols: int
    num_synonyms: int
    branching: int = 2
    depth: int = 3
    seed: int = 0
    uncorrelated: bool = False
    filtered_above: int | None = None

    def __post_init__(self) -> None:
        name = "RandomHierarchy"
        check_whole(self.num_classes, name, "num_classes", high=MOST_NODES)
        check_whole(self.num_symbols, name, "num_symbols", low=2, high=MOST_NODES, remedy="pass 8, for one")
        no_rule = "pass 1 or more: without a rule a symbol or class has no tokens"
        check_whole(self.num_synonyms, name, "num_synonyms", high=MOST_NODES, remedy=no_rule)
        check_whole(self.branching, name, "branching", low=2, high=MOST_LEVELS, remedy="pass 2, for one")
        check_whole(self.depth, name, "depth", high=MOST_LEVELS, remedy="pass 3, for one")
        check_seed(self.seed, name)
        check_flag(self.uncorrelated, name, "uncorrelated")
        remedy = "take fewer levels or smaller tuples"
        check_whole(self.branching**self.depth, name, "branching ** depth", high=MOST_NODES, remedy=remedy)
        num_entries = max(self.num_classes, self.num_symbols) * self.num_synonyms * self.branching
        check_whole(num_entries, name, "symbols of all rules of a level", high=MOST_NODES, remedy="take fewer synonyms")
        self._check_enough_tuples()
        if self.uncorrelated:
            self._check_uncorrelated()
        if self.filtered_above is not None:
            remedy = f"pass −1 (tokens are independent given the label) to {self.depth - 2}, or None for the law itself"
            check_whole(self.filtered_above, name, "filtered_above", low=-1, high=self.depth - 2, remedy=remedy)

    @property
    def num_tokens(self) -> int:
        """The number of tokens: one for each symbol."""
        return self.num_symbols

    @property
    def num_labels(self) -> int:
        """The number of classes."""
        return self.num_classes

    @property
    def label_probabilities(self) -> None:
        """``None``: all classes are equally likely."""
        return

    @property
    def length(self) -> int:
        """The length of every sequence, s^L; there is no padding."""
        return self.branching**self.depth

    @property
    def top_level(self) -> int:
        """The highest level of symbols, drawn given the label: the label itself, or that of ``filtered_above``."""
        return self.depth - 1 if self.filtered_above is None else self.filtered_above

    @property
    def num_places(self) -> tuple[int, ...]:
        """The number of latents, each with one of v symbols, of each level, the lowest level first."""
        num_levels = self.depth - 1 if self.filtered_above is None else self.filtered_above + 1
        return tuple(self.branching ** (self.depth - 1 - level) for level in range(num_levels))

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """The number of columns of ``presence`` of each level: places × symbols, the lowest level first."""
        return tuple(num * self.num_symbols for num in self.num_places)

    @cached_property
    def rules(self) -> tuple[Int[Tensor, "n m s"], ...]:
        """The tuples of each symbol (of each class at the last level), the lowest level first."""
        chance = random.Random(self.seed)
        drawn = [
            _drawn_rules(self.num_symbols, self.num_synonyms, self.num_symbols, self.branching, chance)
            for _ in range(self.depth - 1)
        ]
        draw = _uncorrelated_rules if self.uncorrelated else _drawn_rules
        return (*drawn, draw(self.num_classes, self.num_synonyms, self.num_symbols, self.branching, chance))

    def transitions(self, level: int) -> Float[Tensor, "n s v"]:
        """Return P(symbol of the j-th child | symbol of a latent of ``level``) as [symbol, j, child's symbol]."""
        children = self.rules[level].transpose(1, 2)
        counts = torch.zeros(*children.shape[:2], self.num_symbols, dtype=REAL)
        return counts.scatter_add_(2, children, torch.ones(children.shape, dtype=REAL)) / self.num_synonyms

    def top_marginals(self) -> Float[Tensor, "D n x"]:
        """Return P(symbol of each place of ``top_level`` | label), given which these places are independent.

        Without a filter there is one place, the label's, and its symbol is the label.
        """
        return self.label_marginals(self.top_level)

    def label_marginals(self, level: int) -> Float[Tensor, "D n x"]:
        """Return P(symbol of each place of ``level`` | label), exactly; level −1 is the tokens, L − 1 the label."""
        found = torch.eye(self.num_classes, dtype=REAL)[:, None]
        for above in range(self.depth - 1, level, -1):
            found = torch.einsum("dna,asb->dnsb", found, self.transitions(above)).flatten(1, 2)
        return found

    def sample(
        self, num: int, generator: torch.Generator, labels: Tensor | None = None, *, shuffled: bool = False
    ) -> Samples:
        """Draw samples as ``Law.sample`` does; ``shuffled`` is refused, because a token's place carries its meaning."""
        if shuffled:
            raise InvalidArgument(
                "RandomHierarchy.sample",
                "shuffled",
                required="False: the place of a token says which rules made it",
                received="True",
                remedy="leave it out; trees and combinatorial hierarchies have tokens without places",
            )
        most = _MOST_PRESENCE // max(1, sum(self.level_sizes))
        check_whole(num, "RandomHierarchy.sample", "num", high=most, remedy="draw fewer at a time")
        samples = super().sample(num, generator, labels)
        presence = tuple(one_hot(symbols, self.num_symbols) for symbols in samples.presence)
        return samples._replace(presence=presence, symbols=samples.presence)

    def _draw(self, labels: Tensor, generator: torch.Generator) -> Sequence[Tensor]:
        """Tokens, and the symbols of each level of latents, the lowest first."""
        parts = in_parts(labels, max(1, self.length // 4), lambda part: self._draw_small(part, generator))
        return [part.long() for part in parts]

    def _draw_small(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """As ``_draw``, but in the smallest dtype that holds every symbol."""
        if self.filtered_above is None:
            return self.draw_below(labels[:, None], self.depth - 1, generator)
        ends = _ends(self, generator.device)
        places = torch.rand(len(labels), ends.shape[1], dtype=REAL, generator=generator, device=labels.device)
        symbols = (places[..., None] >= ends[labels]).sum(-1)
        return [*self.draw_below(symbols, self.filtered_above, generator), symbols]

    def draw_below(
        self, symbols: Int[Tensor, "B n"], level: int, generator: torch.Generator
    ) -> list[Shaped[Tensor, "B _"]]:
        """Draw the sub-trees of the symbols of a level: tokens, then the symbols of each level below, the lowest first.

        Integers of the smallest dtype that holds every symbol.
        """
        found: list[Tensor] = []
        for num_choices, tables in _steps(self, level, symbols.device):
            rows = random_choices(num_choices, symbols.shape, generator).add_(symbols.int(), alpha=num_choices)
            found += [_rows(table, rows).view(len(symbols), -1) for table in tables]
            symbols = found[-1]
        return found[::-1]

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which ``law_from_json`` rebuilds the law."""
        return {"kind": "random_hierarchy", **asdict(self)}

    def _check_enough_tuples(self) -> None:
        num_tuples = self.num_symbols**self.branching
        limits = {"num_classes": self.num_classes}
        if self.depth > 1:
            limits = {"num_synonyms": self.num_symbols, **limits}
        for parameter, num_parents in limits.items():
            if num_parents * self.num_synonyms <= num_tuples:
                continue
            most = num_tuples // (num_parents if parameter == "num_synonyms" else self.num_synonyms)
            remedy = "take more symbols, longer tuples (branching)"
            other = "fewer synonyms" if parameter == "num_synonyms" or not most else "fewer classes"
            raise InvalidArgument(
                "RandomHierarchy",
                parameter,
                required=f"at most {most}, for {self.num_symbols} symbols have {num_tuples} tuples of {self.branching}"
                ", each a rule of at most one parent",
                received=f"{getattr(self, parameter)}: {num_parents} parents with {self.num_synonyms} rules each",
                remedy=f"{remedy}, or {other}",
            )

    def _check_uncorrelated(self) -> None:
        num = min(self.num_synonyms, self.num_symbols)
        most = num ** (self.branching - 1)
        if self.num_classes > num or self.num_synonyms % num or self.num_synonyms > most:
            raise InvalidArgument(
                "RandomHierarchy",
                "uncorrelated",
                required="at most min(synonyms, symbols) classes, and synonyms that are at most as many as the symbols "
                f"or else a multiple of these and at most {self.num_symbols ** (self.branching - 1)}",
                received=f"True with {self.num_classes} classes, {self.num_synonyms} synonyms and {self.num_symbols} "
                "symbols",
                remedy=f"take at most {num} classes and {num} synonyms, or leave uncorrelated out",
            )


def one_hot(symbols: Int[Tensor, "B n"], num_symbols: int) -> Shaped[Tensor, "B c"]:
    """Return whether each place has each symbol: column place × v + symbol, bool."""
    if num_symbols <= _MOST_PACKED:
        table = torch.eye(num_symbols, dtype=torch.uint8, device=symbols.device)
        return _rows(table, symbols).view(len(symbols), -1).view(torch.bool)
    found = torch.zeros(*symbols.shape, num_symbols, dtype=torch.bool, device=symbols.device)
    return found.scatter_(-1, symbols[..., None], True).flatten(1)


def _rows(table: Tensor, index: Int[Tensor, "B n"]) -> Tensor:
    """Rows of a table of small integers; those of 1, 2, 4 or 8 bytes as one number each, five times as fast."""
    packed = _INTEGERS.get(table.shape[1] * table.element_size())
    if packed is None:
        return table.index_select(0, index.flatten())
    return table.view(packed).flatten().index_select(0, index.flatten()).view(table.dtype)


@lru_cache(maxsize=64)
def _steps(law: RandomHierarchy, level: int, device: torch.device) -> list[tuple[int, list[Tensor]]]:
    """The steps from a level down to the tokens, of one level of rules, or of two where their table is small.

    Each step has a number of choices for every symbol, and tables with a row for each symbol and choice: the symbols
    one level below, and those two levels below. One draw then decides the rules of a symbol and of its children.
    """
    small = next(kind for kind in _INTEGERS.values() if law.num_symbols - 1 <= torch.iinfo(kind).max)
    steps, num, branching = [], law.num_synonyms, law.branching
    while level >= 0:
        rules = law.rules[level]
        num_joint = num ** (branching + 1)
        if level and len(rules) * num_joint * branching**2 <= _MOST_JOINT:
            choice = torch.arange(num_joint)
            below = rules[:, choice % num]
            digits = torch.stack([choice // num**place % num for place in range(1, branching + 1)], -1)
            tables = [below, law.rules[level - 1][below, digits].flatten(2)]
        else:
            num_joint, tables = num, [rules]
        steps.append((num_joint, [table.flatten(0, 1).to(device, small).contiguous() for table in tables]))
        level -= len(tables)
    return steps


@lru_cache(maxsize=32)
def _ends(law: RandomHierarchy, device: torch.device) -> Float[Tensor, "D n x"]:
    """Where the share of each symbol but the last ends in [0, 1), for each place of a filtered law given the label."""
    marginals = law.top_marginals()
    later = marginals.flip(-1).cumsum(-1).flip(-1)[..., 1:]  # the share of all later symbols
    return marginals.cumsum(-1)[..., :-1].where(later > 0, torch.inf).to(device)


def _drawn_rules(
    num_parents: int, num_synonyms: int, num_symbols: int, branching: int, chance: random.Random
) -> Int[Tensor, "n m s"]:
    """Different tuples for all rules, uniformly among all tuples: the first steps of a shuffle of their numbers."""
    num_tuples, num = num_symbols**branching, num_parents * num_synonyms
    moved: dict[int, int] = {}
    numbers = []
    for place in range(num):
        chosen = place + int(chance.random() * (num_tuples - place))
        numbers.append(moved.get(chosen, chosen))
        moved[chosen] = moved.get(place, place)
    digits = [[number // num_symbols**place % num_symbols for place in range(branching)] for number in numbers]
    return torch.tensor(digits).view(num_parents, num_synonyms, branching)


def _uncorrelated_rules(
    num_parents: int, num_synonyms: int, num_symbols: int, branching: int, chance: random.Random
) -> Int[Tensor, "n m s"]:
    """Tuples of which each place has the same symbols equally often for every parent.

    Rule t of parent y has the digits b, q₁, q₂, … of t in base k = min(m, v), and the tuple b, b + q₁, b + q₂, …, b + y
    modulo k, with a random order of the symbols at each place.
    """
    base = min(num_synonyms, num_symbols)
    parent, rule = torch.arange(num_parents)[:, None], torch.arange(num_synonyms)[None]
    steps = [torch.zeros_like(rule), *(rule // base**place for place in range(1, branching - 1)), parent]
    orders = [sorted(range(num_symbols), key=lambda _: chance.random()) for _ in range(branching)]
    columns = [torch.tensor(order)[(rule + step) % base] for order, step in zip(orders, steps, strict=True)]
    return torch.stack(torch.broadcast_tensors(*columns), -1).contiguous()
