"""Exact correlations of tokens with each other and with the label, and the samples needed to see them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL
from joma.domains import check_whole
from joma.errors import InvalidArgument
from joma.problem.laws import AnyLaw, hierarchy_of, label_probabilities
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law
from joma.theory.enumeration import enumerated
from joma.theory.hierarchy import tree_pair_marginals

_MOST_ENTRIES = 2**27  # of a table of pairs: 1 GB


def token_correlations(law: AnyLaw, label: int | None = None) -> Float[Tensor, "p p x x"]:
    """Return P(xᵢ = a, xⱼ = b) − P(xᵢ = a) P(xⱼ = b) for all places i, j and symbols a, b, exactly.

    >>> import joma
    >>> joma.token_correlations(joma.RandomHierarchy(4, 4, 2, depth=2)).shape
    torch.Size([4, 4, 4, 4])

    In a ``RandomHierarchy`` places are those of the sequence and symbols the tokens. In the other laws each token has a
    place of its own, with the symbols 0, absent, and 1, present.

    Args:
        law: any law. A combinatorial hierarchy must have few states (see ``posterior``), because its tokens have no
            single parent.
        label: the label to condition on; ``None`` for the mixture of all labels.
    """
    if label is not None:
        check_whole(label, "token_correlations", "label", low=0, high=law.num_labels - 1, remedy="count from 0")
    if not isinstance(law, Law):
        raise _not_for(law, "token_correlations", "any law")
    hierarchy = hierarchy_of(law)
    weights = torch.tensor(label_probabilities(law), dtype=REAL)
    if label is not None and hierarchy is law:  # unrelated labels change nothing
        weights = torch.nn.functional.one_hot(torch.tensor(label), law.num_labels).to(REAL)
    if isinstance(hierarchy, RandomHierarchy):
        pairs = _place_pairs(hierarchy, weights)
    elif isinstance(hierarchy, LatentTree):
        given = [tree_pair_marginals(hierarchy, number) * weight for number, weight in enumerate(weights) if weight > 0]
        leaves = torch.tensor(hierarchy.leaves) - 1
        pairs = torch.stack(given).sum(0)[leaves][:, leaves]
    else:
        states = enumerated(hierarchy)
        shares = (states.labels[:-1] / states.labels.sum(0)) @ weights
        both = torch.stack([~states.tokens, states.tokens], -1).to(REAL).flatten(1)
        pairs = (both.t() @ (shares[:, None] * both)).unflatten(0, (-1, 2)).unflatten(-1, (-1, 2)).permute(0, 2, 1, 3)
    alone = pairs.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1)
    return pairs - alone[:, None, :, None] * alone[None, :, None, :]


def tuple_label_correlations(law: RandomHierarchy, level: int = 0) -> Float[Tensor, "n r D"]:
    """Return P(tuple, label) − P(tuple) P(label) for the tuples below each latent of a level, exactly.

    A deep network can learn the synonyms of a level only because these differ from 0: tuples that are synonyms have the
    same correlations (arXiv 2307.02129).

    Args:
        law: a random hierarchy model, filtered or not.
        level: of the latents above the tuples, from 0, whose tuples are tokens.

    Returns:
        for each place of the level and each of its tuples, in the order of ``law.rules[level].flatten(0, 1)``.
    """
    _require_model(law, "tuple_label_correlations")
    highest = law.top_level
    check_whole(level, "tuple_label_correlations", "level", low=0, high=highest, remedy="count from 0")
    given = law.label_marginals(level) / law.num_synonyms  # P(tuple | label) is the same for all synonyms
    apart = given - given[:1]  # from the first label, so that equal numbers have correlations of exactly 0
    excess = (apart - apart.mean(0)) / law.num_classes
    return excess.repeat_interleave(law.num_synonyms, -1).permute(1, 2, 0)


def sample_complexity(law: RandomHierarchy) -> int:
    """Return P* = n_c m^L, the order of the number of samples that a deep network needs to learn the law.

    >>> import joma
    >>> joma.sample_complexity(joma.RandomHierarchy(8, 8, 4, depth=3))
    512

    It is the number of samples P at which the correlations of the lowest tuples with the label exceed their sampling
    noise. A tuple has the probability 1/(v m), so that P(label | tuple) is estimated with a variance of v m/(n_c P);
    over random rules P(label | tuple) itself has the variance v/(n_c² m^(L − 1)). They are equal at P*. Assumptions:
    uniformly random rules, classes and rules equally likely, n_c as large as v, m^(L − 1) at least v (with fewer
    synonyms correlations are larger than that, see ``correlation_threshold``), and a network with the depth and the
    patches of the hierarchy; a shallow one needs some n_c m^((d − 1)/(s − 1)), the number of all inputs of length d.
    This is the leading order: constants of the order of 1 are left out. Source: arXiv 2307.02129.

    Raises:
        InvalidArgument: a filtered law, or one without correlations, to which the argument does not apply.
    """
    _require_model(law, "sample_complexity")
    if law.uncorrelated or law.filtered_above is not None:
        kind = "uncorrelated rules" if law.uncorrelated else "a filter"
        raise InvalidArgument(
            "sample_complexity",
            "law",
            required="random rules at every level: the formula is for correlations of these",
            received=f"a law with {kind}",
            remedy="ask correlation_threshold for the number of samples that shows this law's own correlations",
        )
    return law.num_classes * law.num_synonyms**law.depth


def correlation_threshold(law: RandomHierarchy, level: int = 0) -> float:
    """Return the number of samples at which tuple–label correlations equal their sampling noise, for a law's own rules.

    With P samples, P(label | tuple) is estimated from P · P(tuple) of them, with variance p (1 − p)/(P · P(tuple));
    signal and noise are the sums over places, tuples and labels of (P(label | tuple) − P(label))² and of the variances.
    Their ratio is 1 at the returned P: some n_c m^L at level 0 of random rules, infinity without correlations.

    Args:
        law: a random hierarchy model.
        level: of the latents above the tuples.
    """
    correlations = tuple_label_correlations(law, level)
    alone = law.label_marginals(level).mean(0).repeat_interleave(law.num_synonyms, -1) / law.num_synonyms
    there = alone > 0
    excess, share = correlations[there] / alone[there][:, None], alone[there][:, None]
    given = excess + 1 / law.num_classes
    signal, noise = float(excess.square().sum()), float((given * (1 - given) / share).sum())
    return noise / signal if signal > 0 else math.inf


def _place_pairs(law: RandomHierarchy, weights: Float[Tensor, " D"]) -> Float[Tensor, "p p x x"]:
    """P(symbols of every two places), from the top level down to the tokens."""
    if (law.length * law.num_symbols) ** 2 > _MOST_ENTRIES:
        raise InvalidArgument(
            "token_correlations",
            "law",
            required=f"at most {math.isqrt(_MOST_ENTRIES):,} places × symbols",
            received=f"{law.length} × {law.num_symbols}",
            remedy="take fewer levels or symbols",
        )
    marginals = law.top_marginals()
    pairs = torch.einsum("d,dia,djb->iajb", weights, marginals, marginals)
    _set_diagonal(pairs, torch.einsum("d,dia->ia", weights, marginals)[..., None].mul(torch.eye(marginals.shape[-1])))
    for level in range(law.top_level, -1, -1):
        steps, rules = law.transitions(level), law.rules[level]
        parents = pairs.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)  # places, symbols
        pairs = torch.einsum("iajb,asc,btd->iscjtd", pairs, steps, steps)
        shown = torch.nn.functional.one_hot(rules, law.num_symbols).to(REAL)  # parents, rules, children, symbols
        within = torch.einsum("amsc,amtd->asctd", shown, shown) / law.num_synonyms
        siblings = torch.einsum("ia,asctd->isctd", parents, within)
        num = len(siblings)
        pairs[torch.arange(num), :, :, torch.arange(num)] = siblings
        pairs = pairs.flatten(3, 4).flatten(0, 1)
    return pairs.permute(0, 2, 1, 3)


def _set_diagonal(pairs: Float[Tensor, "p x p x"], blocks: Float[Tensor, "p x x"]) -> None:
    numbers = torch.arange(len(blocks))
    pairs[numbers, :, numbers] = blocks


def _require_model(law: object, function: str) -> None:
    if not isinstance(law, RandomHierarchy):
        raise _not_for(law, function, "a RandomHierarchy, in which every tuple has one parent")


def _not_for(law: object, function: str, required: str) -> InvalidArgument:
    return InvalidArgument(function, "law", required=required, received=type(law).__name__, remedy="pass one")
