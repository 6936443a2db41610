"""The exact information of tokens on the label: upper bounds for the accuracy of any network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import label_probabilities
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law, Samples
from joma.problem.unrelated import UnrelatedLabels
from joma.theory.belief import posterior
from joma.theory.enumeration import enumerated
from joma.theory.tree_belief import given_labels, upward

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
    """Return the ceiling of a law; ``None`` if it is not feasible to compute (random sets of members with many states).

    >>> import joma
    >>> joma.ceiling_of(joma.RandomHierarchy(4, 4, 2))
    Ceiling(accuracy=1.0, loss_nats=0.0, standard_error=0.0)

    For tables, combinatorial hierarchies with few states, and a ``RandomHierarchy``, whose tokens determine the label,
    it is exact. For a latent tree and a filtered ``RandomHierarchy`` it is the mean, over samples, of the exact
    posterior of the label. If labels are independent of the tokens, the most frequent label is the best prediction.

    Args:
        law: any law.
        samples: of a latent tree or a filtered law; by default 20,000 samples with seed 0.
    """
    probabilities = label_probabilities(law)
    if isinstance(law, UnrelatedLabels):
        return Ceiling(max(probabilities), -math.fsum(p * math.log(p) for p in probabilities))
    if isinstance(law, RandomHierarchy) and law.filtered_above is None:
        return Ceiling(1.0, 0.0)  # no tuple has two parents
    if isinstance(law, LatentTree | RandomHierarchy):
        samples = samples or law.sample(_NUM_SAMPLES, torch.Generator().manual_seed(0))
        found = posterior(law, samples.tokens).labels
        best, entropy = found.amax(-1), torch.special.entr(found).sum(-1)
        return Ceiling(float(best.mean()), float(entropy.mean()), float(best.std()) / math.sqrt(len(best)))
    if not isinstance(law, Combinatorial):
        return None
    try:
        joint = enumerated(law).labels[:-1]
    except InvalidArgument:  # too many states
        return None
    total = joint.sum(-1)
    entropies = torch.special.entr(joint / total[:, None]).sum(-1)
    return Ceiling(float(joint.amax(-1).sum()), float(total @ entropies))


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
    given = given_labels(tree, upward(tree, present)[1][1]).sum(1)
    joint = given + torch.tensor(label_probabilities(tree), dtype=REAL, device=given.device).log()
    if bool((joint.amax(-1) == -torch.inf).any()):
        raise InvalidArgument(
            "label_posterior",
            "present",
            required="tokens with a positive probability under some label",
            received="impossible under every label",
            remedy="draw them from this tree",
        )
    return joint.softmax(-1)
