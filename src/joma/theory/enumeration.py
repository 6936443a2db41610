"""All states of a small combinatorial hierarchy, with their probabilities: sums that no message passing can replace.

Latents share members, and a member is present if any latent shows it. The graph of such a law has loops, on which
belief propagation is not exact; its states are therefore enumerated, level by level, from the classes down.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import label_probabilities
from joma.problem.paths import Members

MOST_STATES = 200_000
"""The most states, and partial states of one level, that are summed; a second or two."""

State = tuple[int, ...]
"""The label, then a bit mask of the present latents of each level, the highest first, then one of the tokens."""


@dataclass(frozen=True, eq=False)
class Enumerated:
    """The joint distribution of tokens, label and latents of a law.

    Args:
        tokens: which tokens each of the T possible inputs contains.
        labels: P(input, label).
        presence: P(input, latent present), one for each level, the lowest first.
        levels: of each level, which latents are present in each of its S possible states, and P(state, label).
    """

    tokens: Bool[Tensor, "T V"]
    labels: Float[Tensor, "T D"]
    presence: tuple[Float[Tensor, "T n"], ...]
    levels: tuple[tuple[Bool[Tensor, "S n"], Float[Tensor, "S D"]], ...]

    def rows_of(self, inputs: Bool[Tensor, "B V"]) -> Int[Tensor, " B"]:
        """Return the row of each input; the last row, of probability 0, for an impossible one."""
        known = {row.numpy().tobytes(): number for number, row in enumerate(self.tokens)}
        rows = [known.get(row.numpy().tobytes(), -1) for row in inputs.cpu().contiguous()]
        return torch.tensor(rows, device=inputs.device) % (len(self.tokens) + 1)


@lru_cache(maxsize=16)
def enumerated(law: Combinatorial) -> Enumerated:
    """Return the joint distribution of a law, exactly.

    Raises:
        InvalidArgument: the law has more than ``MOST_STATES`` states.
    """
    states: dict[State, float] = {(label,): p for label, p in enumerate(label_probabilities(law))}
    for number, level in enumerate(reversed(law.members)):
        outcomes = [_outcomes(latent, law.show_probability) for latent in level]
        unions: dict[int, dict[int, float]] = {}
        below: dict[State, float] = {}
        for state, probability in states.items():
            shown = 1 << state[0] if number == 0 else state[-1]  # the label is the one present latent of its level
            if shown not in unions:
                unions[shown] = _union([outcome for latent, outcome in enumerate(outcomes) if shown >> latent & 1])
            for mask, share in unions[shown].items():
                below[(*state, mask)] = probability * share
            _check_few(len(below))
        states = below
    return _tabulated(law, states)


def _outcomes(latent: Sequence[Members], show_probability: float) -> Mapping[int, float]:
    """The probability of each set of members, as a bit mask, that a present latent shows."""
    found: dict[int, float] = defaultdict(float)
    for members in latent:
        flags = (False, True) if show_probability < 1 else (True,)
        _check_few(len(flags) ** len(members))
        for shown in itertools.product(flags, repeat=len(members)):
            mask = sum(1 << member for member, there in zip(members, shown, strict=True) if there)
            num = sum(shown)
            share = show_probability**num * (1 - show_probability) ** (len(members) - num)
            found[mask] += share / len(latent)
    return found


def _union(outcomes: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The probability of each union of independent random sets."""
    found = {0: 1.0}
    for outcome in outcomes:
        wider: dict[int, float] = defaultdict(float)
        for (mask, share), (more, probability) in itertools.product(found.items(), outcome.items()):
            wider[mask | more] += share * probability
        _check_few(len(wider))
        found = dict(wider)
    return found


def _tabulated(law: Combinatorial, states: Mapping[State, float]) -> Enumerated:
    shares = torch.tensor(list(states.values()), dtype=REAL)
    labels = torch.tensor([state[0] for state in states])

    def with_labels(numbers: Tensor, num: int) -> Float[Tensor, "num D"]:
        joint = torch.zeros(num, law.num_labels, dtype=REAL)
        return joint.index_put_((numbers, labels), shares, accumulate=True)

    inputs, rows = _numbered([state[-1] for state in states])
    presence, levels = [], []
    for level, size in enumerate(law.level_sizes):
        masks, numbers = _numbered([state[-2 - level] for state in states])
        there = _bits(masks, size)
        levels.append((there, with_labels(numbers, len(masks))))
        of_inputs = torch.zeros(len(inputs) + 1, size, dtype=REAL)
        presence.append(of_inputs.index_add_(0, rows, there[numbers] * shares[:, None]))
    joint = with_labels(rows, len(inputs) + 1)
    return Enumerated(_bits(inputs, law.num_tokens), joint, tuple(presence), tuple(levels))


def _numbered(masks: Sequence[int]) -> tuple[list[int], Int[Tensor, " N"]]:
    """The different masks, and the number of each mask among them."""
    numbers = {mask: number for number, mask in enumerate(dict.fromkeys(masks))}
    return list(numbers), torch.tensor([numbers[mask] for mask in masks])


def _bits(masks: Sequence[int], size: int) -> Bool[Tensor, "N n"]:
    texts = b"".join(format(mask, f"0{size}b")[::-1].encode() for mask in masks)
    return torch.frombuffer(bytearray(texts), dtype=torch.uint8).view(len(masks), size) == ord("1")


def _check_few(num: int) -> None:
    if num > MOST_STATES:
        raise InvalidArgument(
            "posterior",
            "law",
            required=f"a combinatorial hierarchy with at most {MOST_STATES:,} states, for its latents share members "
            "and no shortcut is exact",
            received="one with more",
            remedy="take fewer latents and members, or a LatentTree or RandomHierarchy, whose posteriors are exact at "
            "any size",
        )
