"""The exact information of tokens on the label: upper bounds for the accuracy of any network."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from joma.arrays import REAL
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import hierarchy_of, label_probabilities
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law, Samples
from joma.theory.belief import posterior
from joma.theory.enumeration import enumerated
from joma.theory.evidence import label_evidence
from joma.theory.tree_belief import given_labels, upward

_NUM_SAMPLES = 20_000
_MOST_TERMS = 2**26  # of samples given sets of a combinatorial hierarchy: some seconds


@dataclass(frozen=True)
class Ceiling:
    """The best possible prediction of labels: no network has a higher accuracy or a lower loss.

    Args:
        accuracy: of predicting the most probable label.
        loss_nats: the conditional entropy of the label given the tokens.
        standard_error: of ``accuracy`` if it is estimated from samples; 0 if it is exact.
        loss_standard_error: of ``loss_nats``, likewise.
        num_samples: of which both are means; 0 if they are exact.
    """

    accuracy: float
    loss_nats: float
    standard_error: float = 0.0
    loss_standard_error: float = 0.0
    num_samples: int = 0

    @property
    def exact(self) -> bool:
        """Whether the numbers are those of the law, not means over samples."""
        return self.num_samples == 0


def ceiling_of(law: Law, samples: Samples | None = None) -> Ceiling | None:
    """Return the ceiling of a law; ``None`` if it is not feasible to compute (sets of members with very many states).

    >>> import joma
    >>> found = joma.ceiling_of(joma.balanced_tree((2, 3, 4), 0.8))
    >>> round(found.accuracy, 4), round(found.loss_nats, 4), found.exact
    (0.8922, 0.2246, True)

    It is exact wherever all evidence on the label can be listed: for tables and combinatorial hierarchies with few
    inputs, for a ``RandomHierarchy``, whose tokens determine the label, and for trees and filtered laws whose tokens
    can be few different things (``joma.theory.evidence``: up to 16 leaves of any tree, more in a symmetric one). For
    other trees, filtered laws and combinatorial hierarchies it is the mean, over samples, of the exact posterior of the
    label. Only a combinatorial hierarchy whose latents have too many states for ``posterior`` has none. If labels are
    independent of the tokens, the most frequent label is the best prediction.

    Args:
        law: any law.
        samples: of a latent tree, a filtered law or a combinatorial hierarchy: take their mean in place of the exact
            number. By default, where there is none, 20,000 samples with seed 0, fewer where the
            latents of a combinatorial hierarchy have many states.
    """
    probabilities, hierarchy = label_probabilities(law), hierarchy_of(law)
    if hierarchy is not law:  # labels that are independent of the tokens
        return Ceiling(max(probabilities), -math.fsum(p * math.log(p) for p in probabilities))
    if isinstance(hierarchy, RandomHierarchy) and hierarchy.filtered_above is None:
        return Ceiling(1.0, 0.0)  # no tuple has two parents
    num_samples = _NUM_SAMPLES
    if isinstance(hierarchy, Combinatorial):
        try:
            num_samples = min(num_samples, _MOST_TERMS // len(enumerated(hierarchy).absent))
        except InvalidArgument:  # too many states of the latents
            return None
    if samples is None:
        with suppress(InvalidArgument):  # too much to list
            joint = label_evidence(hierarchy)
            total = joint.sum(-1)
            entropies = torch.special.entr(joint / total[:, None]).sum(-1)
            return Ceiling(float(joint.amax(-1).sum()), float(total @ entropies))
        samples = law.sample(num_samples, torch.Generator().manual_seed(0))
    found = posterior(hierarchy, samples.tokens).labels
    best, entropy = found.amax(-1), torch.special.entr(found).sum(-1)
    errors = (float(part.std()) / math.sqrt(len(part)) for part in (best, entropy))
    return Ceiling(float(best.mean()), float(entropy.mean()), *errors, len(best))


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
