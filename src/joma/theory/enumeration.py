"""All states of the latents of a combinatorial hierarchy, with their probabilities: no message passing replaces them.

Latents share members, and a member is present if any latent shows it. The graph of such a law has loops, on which
belief propagation is not exact; its states are therefore enumerated, level by level, from the classes down. Tokens are
not: they are independent given the sets that the lowest latents draw.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import label_probabilities
from joma.problem.paths import Level, Members

MOST_STATES = 200_000
"""The most states, partial states of one level, and collections of sets that are summed; a second or two."""

_MOST_CELLS = 2**26  # collections of sets times tokens: 512 MB

State = tuple[int, ...]
"""The label, then a bit mask of the present members of each level, the highest level first."""


@dataclass(frozen=True, eq=False)
class Enumerated:
    """The joint distribution of label, latents, and the sets of tokens that the lowest latents have drawn.

    Given these sets, tokens are independent of each other and of all else.

    Args:
        absent: P(token absent | sets) for each of the C possible collections of sets.
        labels: P(sets, label).
        presence: P(sets, latent present), one for each level, the lowest first.
        levels: of each level, which latents are present in each of its S possible states, and P(state, label).
    """

    absent: Float[Tensor, "C V"]
    labels: Float[Tensor, "C D"]
    presence: tuple[Float[Tensor, "C n"], ...]
    levels: tuple[tuple[Bool[Tensor, "S n"], Float[Tensor, "S D"]], ...]


@lru_cache(maxsize=4)
def enumerated(law: Combinatorial) -> Enumerated:
    """Return the joint distribution of a law, exactly.

    Raises:
        InvalidArgument: its latents have more than ``MOST_STATES`` states.
    """
    states = _states(law, law.members[1:])
    shares = torch.tensor(list(states.values()), dtype=REAL)
    labels = torch.tensor([state[0] for state in states])
    masks, rows = _numbered([_shown(state) for state in states])
    absent, weights, mask_of = _drawn_sets(law, masks)

    def summed(numbers: Tensor, num: int, columns: Float[Tensor, "N n"]) -> Float[Tensor, "num n"]:
        return torch.zeros(num, columns.shape[1], dtype=REAL).index_add_(0, numbers, columns)

    def of_sets(columns: Float[Tensor, "N n"]) -> Float[Tensor, "C n"]:
        return weights[:, None] * summed(rows, len(masks), columns)[mask_of]

    with_labels = shares[:, None] * torch.nn.functional.one_hot(labels, law.num_labels)
    presence, levels = [], []
    for level, size in enumerate(law.level_sizes):
        of_level, numbers = _numbered([state[-1 - level] for state in states])
        there = _bits(of_level, size)
        levels.append((there, summed(numbers, len(of_level), with_labels)))
        presence.append(of_sets(there[numbers] * shares[:, None]))
    return Enumerated(absent, of_sets(with_labels), tuple(presence), tuple(levels))


def inputs_of(law: Combinatorial) -> Float[Tensor, "T D"]:
    """Return P(tokens, label) for all different tokens that a sample can have, exactly.

    Raises:
        InvalidArgument: latents and tokens together have more than ``MOST_STATES`` states.
    """
    states = _states(law, law.members)
    inputs, rows = _numbered([state[-1] for state in states])
    joint = torch.zeros(len(inputs), law.num_labels, dtype=REAL)
    labels, shares = torch.tensor([state[0] for state in states]), torch.tensor(list(states.values()), dtype=REAL)
    return joint.index_put_((rows, labels), shares, accumulate=True)


def _states(law: Combinatorial, levels: Sequence[Level]) -> dict[State, float]:
    """The probability of each state of label and members of these levels, the lowest level first."""
    states: dict[State, float] = {(label,): p for label, p in enumerate(label_probabilities(law))}
    for level in reversed(levels):
        unions: dict[int, dict[int, float]] = {}
        below: dict[State, float] = {}
        for state, probability in states.items():
            if (shown := _shown(state)) not in unions:
                unions[shown] = _union(_present(level, shown), law.show_probability)
            for mask, share in unions[shown].items():
                below[(*state, mask)] = probability * share
            _check_few(len(below))
        states = below
    return states


def _shown(state: State) -> int:
    """What is present at the lowest level of a state; the label is the one present latent of its level."""
    return state[-1] if len(state) > 1 else 1 << state[0]


def _present(level: Level, mask: int) -> list[Sequence[Members]]:
    return [latent for place, latent in enumerate(level) if mask >> place & 1]


def _drawn_sets(law: Combinatorial, masks: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """P(token absent | sets) for all choices of the sets of present latents, their probability, and their mask."""
    lowest, rows, weights, of_mask = law.members[0], [], [], []
    for number, mask in enumerate(masks):
        present = _present(lowest, mask)
        _check_few(len(weights) + math.prod(map(len, present)), min(MOST_STATES, _MOST_CELLS // law.num_tokens))
        for chosen in itertools.product(*present):
            rows.append([token for tokens in chosen for token in tokens])
            weights.append(1 / math.prod(map(len, present)))
            of_mask.append(number)
    counts = torch.zeros(len(rows), law.num_tokens, dtype=REAL)
    places = torch.tensor([(row, token) for row, tokens in enumerate(rows) for token in tokens], dtype=torch.int64)
    counts.index_put_(tuple(places.view(-1, 2).t()), torch.ones(1, dtype=REAL), accumulate=True)
    return (1 - law.show_probability) ** counts, torch.tensor(weights, dtype=REAL), torch.tensor(of_mask)


def _union(latents: Sequence[Sequence[Members]], show_probability: float) -> dict[int, float]:
    """The probability of each set of members, as a bit mask, that present latents show together."""
    found = {0: 1.0}
    for latent in latents:
        mixed: dict[int, float] = defaultdict(float)
        for members in latent:
            part = found
            for member in members:
                wider: dict[int, float] = defaultdict(float)
                for mask, share in part.items():
                    wider[mask | 1 << member] += share * show_probability
                    if show_probability < 1:
                        wider[mask] += share * (1 - show_probability)
                _check_few(len(wider))
                part = wider
            for mask, share in part.items():
                mixed[mask] += share / len(latent)
        _check_few(len(mixed))
        found = mixed
    return found


def _numbered(masks: Sequence[int]) -> tuple[list[int], Int[Tensor, " N"]]:
    """The different masks, and the number of each mask among them."""
    numbers = {mask: number for number, mask in enumerate(dict.fromkeys(masks))}
    return list(numbers), torch.tensor([numbers[mask] for mask in masks])


def _bits(masks: Sequence[int], size: int) -> Bool[Tensor, "N n"]:
    texts = b"".join(format(mask, f"0{size}b")[::-1].encode() for mask in masks)
    return torch.frombuffer(bytearray(texts), dtype=torch.uint8).view(len(masks), size) == ord("1")


def _check_few(num: int, most: int | None = None) -> None:
    most = MOST_STATES if most is None else most
    if num > most:
        raise InvalidArgument(
            "posterior",
            "law",
            required=f"a combinatorial hierarchy whose latents have at most {most:,} states, for they share "
            "members and no shortcut is exact",
            received="one with more",
            remedy="take fewer latents and members, or a LatentTree or RandomHierarchy, whose posteriors are exact at "
            "any size",
        )
