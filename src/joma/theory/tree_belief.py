"""Belief propagation in latent trees: messages between binary nodes, as logarithms of shape (samples, nodes, signs)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from joma.arrays import REAL
from joma.problem.laws import label_probabilities
from joma.problem.tree import LatentTree

Message = Float[Tensor, "B n 2"]
"""For the signs −1 and +1 of a node, or of its parent."""


def tree_beliefs(tree: LatentTree, present: Bool[Tensor, "B V"]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return P(label | tokens), ln P(tokens), and P(sign | tokens) of the latents of each level, the lowest first.

    NaN and −∞ for tokens that have probability 0 under every label.
    """
    seen, messages = upward(tree, present)
    signs = _label_signs(tree, present.device)
    given = given_labels(tree, messages[1])
    prior = torch.tensor(label_probabilities(tree), dtype=REAL, device=present.device).log()
    joint = given.sum(1) + prior
    # The evidence of the other top nodes, summed over the labels that favour the sign −1, or +1, of a node.
    others = sums_without_own(given, torch.zeros_like(signs[0])) + prior
    favoured = [others.masked_fill(signs.t() != sign, -torch.inf).logsumexp(-1) for sign in (-1, 1)]
    downward = _across(tree, 1, torch.stack(favoured, -1))
    latents = [(downward + seen[1]).softmax(-1)]
    for depth in range(2, len(tree.levels) - 1):
        places = torch.tensor(tree.parent_places[depth - 1], device=present.device)
        others = downward[:, places] + sums_without_own(messages[depth], places)
        downward = _across(tree, depth, others)
        latents.append((downward + seen[depth]).softmax(-1))
    return joint.softmax(-1), joint.logsumexp(-1), latents[::-1] if len(tree.levels) > 2 else []


def upward(tree: LatentTree, present: Bool[Tensor, "B V"]) -> tuple[dict[int, Message], dict[int, Message]]:
    """Return, for each depth from 1 on, ln P(tokens below a node | its sign), and given the sign of its parent.

    A top node's parent is the label: there it is the sign that the label favours.
    """
    last = len(tree.levels) - 1
    seen = {last: torch.stack([~present, present], -1).to(REAL).log()}
    messages = {last: _across(tree, last, seen[last])}
    for depth in range(last - 1, 0, -1):
        places = torch.tensor(tree.parent_places[depth], device=present.device)
        summed = seen[last].new_zeros(len(present), len(tree.levels[depth]), 2)
        seen[depth] = summed.index_add_(1, places, messages[depth + 1])
        messages[depth] = _across(tree, depth, seen[depth])
    return seen, messages


def given_labels(tree: LatentTree, top: Message) -> Float[Tensor, "B n D"]:
    """Return ln P(tokens below each top node | label)."""
    signs = _label_signs(tree, top.device).t()
    return torch.where(signs > 0, top[..., 1:], top[..., :1])


def sums_without_own(values: Float[Tensor, "B n x"], places: Int[Tensor, " n"]) -> Float[Tensor, "B n x"]:
    """Return, for each node, the sum of the values of the other nodes with the same place; values may be −∞."""
    shape = (len(values), int(places.max()) + 1, values.shape[2])
    never = values == -torch.inf
    finite, counts = values.masked_fill(never, 0.0), never.to(REAL)
    sums, num_never = (
        torch.zeros(shape, dtype=REAL, device=values.device).index_add_(1, places, part)[:, places] - part
        for part in (finite, counts)
    )
    return sums.masked_fill_(num_never > 0, -torch.inf)


def _across(tree: LatentTree, depth: int, message: Message) -> Message:
    """Carry a message along the edges above a depth, in either direction: P(same sign) = (1 + ρ)/2."""
    polarity = torch.tensor([tree.polarities[node] for node in tree.levels[depth]], dtype=REAL, device=message.device)
    kept, flipped = ((1 + polarity) / 2).log(), ((1 - polarity) / 2).log()
    return torch.logaddexp(kept[:, None] + message, flipped[:, None] + message.flip(-1))


def _label_signs(tree: LatentTree, device: torch.device) -> Int[Tensor, "D n"]:
    return torch.tensor(tree.label_signs, device=device)
