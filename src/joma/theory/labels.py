"""What the tokens of a latent tree say of its label, exactly: no network can tell labels better."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.tree import LatentTree


def label_posterior(tree: LatentTree, present: Bool[torch.Tensor, "B V"]) -> Float[torch.Tensor, "B D"]:
    """Return P(label | which tokens are there) by sum–product from the leaves upwards.

    The most probable label is the best guess there is, and the mean entropy of the posterior the least
    cross-entropy.

    Args:
        tree: with D labels and V tokens.
        present: (B, V) True where a token is there.

    Returns:
        (B, D); each row sums to 1.

    Raises:
        InvalidArgument: tokens that no label can give.
    """
    if present.dim() != 2 or present.shape[1] != tree.num_tokens or present.dtype != torch.bool:
        raise InvalidArgument(
            "label_posterior",
            "present",
            required=f"bool of shape (samples, {tree.num_tokens})",
            received=f"{present.dtype} of shape {tuple(present.shape)}",
            remedy="pass True where a token is there",
        )
    # log P(what lies below a node | its sign), for the signs −1 and +1, (B, n, 2)
    seen = torch.stack([~present, present], -1).to(REAL).log()
    for depth in range(len(tree.levels) - 1, 1, -1):
        level, above = tree.levels[depth], tree.levels[depth - 1]
        column = {node: idx for idx, node in enumerate(above)}
        places = torch.tensor([column[tree.parents[node]] for node in level], device=seen.device)
        summed = seen.new_zeros(len(seen), len(above), 2)
        seen = summed.index_add_(1, places, _message(tree, level, seen))
    top = _message(tree, tree.levels[1], seen)  # given the sign that a label favours: +1 is the second
    signs = torch.tensor(tree.label_signs, device=seen.device)
    given = torch.where(signs > 0, top[:, None, :, 1], top[:, None, :, 0]).sum(-1)
    even = [1 / tree.num_labels] * tree.num_labels
    joint = given + torch.tensor(tree.label_probabilities or even, dtype=REAL, device=seen.device).log()
    if bool((joint.amax(-1) == -torch.inf).any()):
        raise InvalidArgument(
            "label_posterior",
            "present",
            required="tokens that some label can give",
            received="such that none can",
            remedy="draw them from this very tree",
        )
    return joint.softmax(-1)


def _message(tree: LatentTree, level: tuple[int, ...], seen: Float[torch.Tensor, "B n 2"]) -> torch.Tensor:
    """The same seen from each node's parent: its sign is kept with probability (1 + ρ)/2."""
    polarity = torch.tensor([tree.polarities[node] for node in level], dtype=REAL, device=seen.device)
    kept, flipped = ((1 + polarity) / 2).log(), ((1 - polarity) / 2).log()
    return torch.logaddexp(kept[:, None] + seen, flipped[:, None] + seen.flip(-1))
