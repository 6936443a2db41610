"""The exact information of tokens on the label: upper bounds for the accuracy of any network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import label_probabilities, token_presence
from joma.problem.tree import LatentTree, Law, Samples
from joma.problem.unrelated import UnrelatedLabels

_NUM_SAMPLES = 20_000


@dataclass(frozen=True)
class Ceiling:
    """The best possible prediction of labels: no network has a higher accuracy or a lower loss.

    Args:
        accuracy: of predicting the most probable label.
        loss_nats: the conditional entropy of the label given the tokens.
        standard_error: of ``accuracy`` if it is estimated from samples; 0 if it is exact.
    """

    accuracy: float
    loss_nats: float
    standard_error: float = 0.0


def ceiling_of(law: Law, samples: Samples | None = None) -> Ceiling | None:
    """Return the ceiling of a law; ``None`` if it is not feasible to compute (random sets of members).

    For a table it is exact. For a latent tree it is the mean, over samples, of the exact posterior of the label. If
    labels are independent of the tokens, the most frequent label is the best prediction.

    Args:
        law: any law.
        samples: of a latent tree; by default 20,000 samples with seed 0.
    """
    probabilities = label_probabilities(law)
    if isinstance(law, UnrelatedLabels):
        return Ceiling(max(probabilities), -math.fsum(p * math.log(p) for p in probabilities))
    if isinstance(law, LatentTree):
        samples = samples or law.sample(_NUM_SAMPLES, torch.Generator().manual_seed(0))
        posterior = label_posterior(law, token_presence(law, samples.tokens))
        best = posterior.amax(-1)
        entropy = torch.special.entr(posterior).sum(-1)
        return Ceiling(float(best.mean()), float(entropy.mean()), float(best.std()) / math.sqrt(len(best)))
    if not isinstance(law, Combinatorial) or not law.is_table:
        return None
    tokens = law.sample(law.num_labels, torch.Generator(), torch.arange(law.num_labels)).tokens
    alike: dict[tuple[int, ...], list[float]] = {}
    for row, probability in zip(tokens.tolist(), probabilities, strict=True):
        alike.setdefault(tuple(row), []).append(probability)
    accuracy = math.fsum(max(group) for group in alike.values())
    loss = math.fsum(p * math.log(sum(group) / p) for group in alike.values() for p in group)
    return Ceiling(accuracy, loss)


def label_posterior(tree: LatentTree, present: Bool[torch.Tensor, "B V"]) -> Float[torch.Tensor, "B D"]:
    """Return P(label | presence of all tokens) by sum–product from the leaves upwards.

    The most probable label is the best prediction, and the mean entropy of the posterior the least cross-entropy.

    Args:
        tree: has D labels and V tokens.
        present: (B, V) True where a token is present.

    Returns:
        (B, D); each row sums to 1.

    Raises:
        InvalidArgument: tokens that have probability 0 under every label.
    """
    if present.dim() != 2 or present.shape[1] != tree.num_tokens or present.dtype != torch.bool:
        raise InvalidArgument(
            "label_posterior",
            "present",
            required=f"bool of shape (samples, {tree.num_tokens})",
            received=f"{present.dtype} of shape {tuple(present.shape)}",
            remedy="pass True where a token is present",
        )
    # log P(tokens below a node | its sign), for the signs −1 and +1, (B, n, 2)
    seen = torch.stack([~present, present], -1).to(REAL).log()
    for depth in range(len(tree.levels) - 1, 1, -1):
        places = torch.tensor(tree.parent_places[depth - 1], device=seen.device)
        summed = seen.new_zeros(len(seen), len(tree.levels[depth - 1]), 2)
        seen = summed.index_add_(1, places, _message(tree, tree.levels[depth], seen))
    top = _message(tree, tree.levels[1], seen)  # indexed by the sign that a label favours: +1 is the second
    signs = torch.tensor(tree.label_signs, device=seen.device)
    given = torch.where(signs > 0, top[:, None, :, 1], top[:, None, :, 0]).sum(-1)
    joint = given + torch.tensor(label_probabilities(tree), dtype=REAL, device=seen.device).log()
    if bool((joint.amax(-1) == -torch.inf).any()):
        raise InvalidArgument(
            "label_posterior",
            "present",
            required="tokens with a positive probability under some label",
            received="impossible under every label",
            remedy="draw them from this tree",
        )
    return joint.softmax(-1)


def _message(tree: LatentTree, level: tuple[int, ...], seen: Float[torch.Tensor, "B n 2"]) -> torch.Tensor:
    """log P(tokens below a node | sign of its parent); the sign is kept with probability (1 + ρ)/2."""
    polarity = torch.tensor([tree.polarities[node] for node in level], dtype=REAL, device=seen.device)
    kept, flipped = ((1 + polarity) / 2).log(), ((1 - polarity) / 2).log()
    return torch.logaddexp(kept[:, None] + seen, flipped[:, None] + seen.flip(-1))
