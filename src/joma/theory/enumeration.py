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
    """

    tokens: Bool[Tensor, "T V"]
    labels: Float[Tensor, "T D"]
    presence: tuple[Float[Tensor, "T n"], ...]

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
    inputs = {mask: row for row, mask in enumerate(dict.fromkeys(state[-1] for state in states))}
    rows = torch.tensor([inputs[state[-1]] for state in states])
    shares = torch.tensor(list(states.values()), dtype=REAL)
    labels = torch.zeros(len(inputs) + 1, law.num_labels, dtype=REAL)
    labels.index_put_((rows, torch.tensor([state[0] for state in states])), shares, accumulate=True)
    presence = []
    for level, size in enumerate(law.level_sizes):
        there = _bits([state[-2 - level] for state in states], size)
        presence.append(torch.zeros(len(inputs) + 1, size, dtype=REAL).index_add_(0, rows, there * shares[:, None]))
    return Enumerated(_bits(list(inputs), law.num_tokens), labels, tuple(presence))


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
