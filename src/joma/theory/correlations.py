"""Exact correlations of tokens with each other and with the label, and the samples needed to see them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL
from joma.domains import check_whole
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import AnyLaw, Hierarchy, check_level, hierarchy_of, label_probabilities
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, Law
from joma.theory.enumeration import enumerated
from joma.theory.hierarchy import sign_means, tree_pair_marginals

_MOST_ENTRIES = 2**27  # of a table of pairs or tuples: 1 GB
_ROUNDING = 1e-13  # of a probability; correlations below are those of equal numbers that were summed in another order


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
    if not isinstance(law, Law):
        raise _not_for(law, "token_correlations", "any law")
    if label is not None:
        check_whole(label, "token_correlations", "label", low=0, high=law.num_labels - 1, remedy="count from 0")
    hierarchy = hierarchy_of(law)
    weights = torch.tensor(label_probabilities(law), dtype=REAL)
    if label is not None and hierarchy is law:  # unrelated labels change nothing
        weights = torch.nn.functional.one_hot(torch.tensor(label), law.num_labels).to(REAL)
    _check_pairs(hierarchy)
    if isinstance(hierarchy, RandomHierarchy):
        pairs = _place_pairs(hierarchy, weights)
    elif isinstance(hierarchy, LatentTree):
        given = [tree_pair_marginals(hierarchy, number) * weight for number, weight in enumerate(weights) if weight > 0]
        leaves = torch.tensor(hierarchy.leaves) - 1
        pairs = torch.stack(given).sum(0)[leaves][:, leaves]
    else:
        states = enumerated(hierarchy)
        shares = (states.labels / states.labels.sum(0)) @ weights
        either = torch.stack([states.absent, 1 - states.absent], -1)  # sets, tokens, symbols
        pairs = torch.einsum("c,cia,cjb->iajb", shares, either, either)
        _set_diagonal(pairs, torch.einsum("c,cia->ia", shares, either)[..., None].mul(torch.eye(2)))
        pairs = pairs.permute(0, 2, 1, 3)
    alone = pairs.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1)
    return pairs - alone[:, None, :, None] * alone[None, :, None, :]


def tuple_label_correlations(law: AnyLaw, level: int = 0) -> Float[Tensor, "n r D"]:
    """Return P(tuple, label) − P(tuple) P(label) for the tuples below each latent of a level, exactly.

    >>> import joma
    >>> law = joma.RandomHierarchy(4, 4, 4, depth=2)
    >>> joma.tuple_label_correlations(law).shape  # 2 latents above the tokens, 16 tuples, 4 labels
    torch.Size([2, 16, 4])

    A deep network can learn the synonyms of a level only because these differ from 0: tuples that are synonyms have the
    same correlations (arXiv 2307.02129).

    Args:
        law: any law. A combinatorial hierarchy must have few states (see ``posterior``).
        level: of the latents above the tuples, from 0, whose tuples are tokens. In a ``RandomHierarchy`` the highest
            level is the label's own, or that of its filter; in the other laws that of the top latents.

    Returns:
        for each latent of the level and each of its tuples. In a ``RandomHierarchy`` tuples are in the order of
        ``law.rules[level].flatten(0, 1)``. Of binary children (of all members that a latent's sets have, in increasing
        order), tuple number Σₖ 2ᵏ says that the k-th child is present for each k in the sum; latents with fewer
        children than others have zeros at the end.
    """
    given, prior = _given_labels(law, level, "tuple_label_correlations")
    apart = given - given[..., :1]  # from the first label, so that equal numbers have correlations of exactly 0
    return (apart - (apart @ prior)[..., None]) * prior


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
    if not isinstance(law, RandomHierarchy):
        raise _not_for(law, "sample_complexity", "a RandomHierarchy, whose n_c, m and L the formula has")
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


def correlation_threshold(law: AnyLaw, level: int = 0) -> float:
    """Return the number of samples at which tuple–label correlations equal their sampling noise, for a law's own rules.

    >>> import joma
    >>> joma.correlation_threshold(joma.RandomHierarchy(4, 4, 4, depth=2, uncorrelated=True))
    inf

    A correlation is P(tuple) (p − P(label)), with p = P(label | tuple). With P samples p is estimated from P · P(tuple)
    of them, with variance p (1 − p)/(P · P(tuple)). Signal and noise are the sums, over latents, tuples and labels, of
    the squared correlations and of P(tuple)² times the variances; their ratio is 1 at the returned P. So tuples count
    as much as in the correlations, and one that hardly occurs changes nothing. The result is infinity without
    correlations and 0 if each tuple has one label; at level 0 of random rules it is some n_c m^L.

    Args:
        law, level: as for ``tuple_label_correlations``.
    """
    given, prior = _given_labels(law, level, "correlation_threshold")
    joint = given * prior
    alone = joint.sum(-1, keepdim=True)
    noise = (joint * (1 - joint / alone.where(alone > 0, 1))).sum()
    correlations = tuple_label_correlations(law, level)
    signal = correlations.where(correlations.abs() > _ROUNDING * joint, 0).square().sum()
    return float(noise / signal) if signal > 0 else math.inf


def _given_labels(law: AnyLaw, level: int, function: str) -> tuple[Float[Tensor, "n r D"], Float[Tensor, " D"]]:
    """P(tuple | label) for the tuples below each latent of a level, and P(label)."""
    if not isinstance(law, Law):
        raise _not_for(law, function, "any law")
    hierarchy = hierarchy_of(law)
    prior = torch.tensor(label_probabilities(law), dtype=REAL)
    is_model = isinstance(hierarchy, RandomHierarchy)
    check_level(level, function, hierarchy.top_level if is_model else len(law.level_sizes) - 1)
    if isinstance(hierarchy, RandomHierarchy):
        num_parents = hierarchy.num_classes if level == hierarchy.depth - 1 else hierarchy.num_symbols
        num_latents = hierarchy.branching ** (hierarchy.depth - 1 - level)
        _check_tuples(function, num_latents, num_parents * hierarchy.num_synonyms, law.num_labels)
        symbols = hierarchy.label_marginals(level) / hierarchy.num_synonyms  # the same for all synonyms
        given = symbols.repeat_interleave(hierarchy.num_synonyms, -1).permute(1, 2, 0)
    else:
        is_tree = isinstance(hierarchy, LatentTree)
        given = _tree_tuples(hierarchy, level, function) if is_tree else _member_tuples(hierarchy, level, function)
    if hierarchy is not law:  # labels that are independent of the tokens
        given = (given @ prior)[..., None].expand(given.shape)
    return given, prior


def _tree_tuples(tree: LatentTree, level: int, function: str) -> Float[Tensor, "n r D"]:
    depth = len(tree.levels) - 2 - level
    children: list[list[int]] = [[] for _ in tree.levels[depth]]
    for place, child in zip(tree.parent_places[depth], tree.levels[depth + 1], strict=True):
        children[place].append(child)
    _check_tuples(function, len(children), 2 ** max(map(len, children)), tree.num_labels)
    up = (1 + sign_means(tree)[depth]) / 2
    found = []
    for place, own in enumerate(children):
        given = torch.stack([1 - up[:, place], up[:, place]])[:, None]  # sign, tuples so far, labels
        for child in own:
            kept = (1 + tree.polarities[child]) / 2
            steps = torch.tensor([[kept, 1 - kept], [1 - kept, kept]], dtype=REAL)  # sign, child's sign
            given = torch.einsum("srd,sc->scrd", given, steps).flatten(1, 2)
        found.append(given.sum(0))
    return _padded(found)


def _member_tuples(law: Combinatorial, level: int, function: str) -> Float[Tensor, "n r D"]:
    children = [sorted({member for chosen in latent for member in chosen}) for latent in law.members[level]]
    _check_tuples(function, len(children), 2 ** max(map(len, children)), law.num_labels)
    states = enumerated(law)
    present, joint = (1 - states.absent, states.labels) if level == 0 else states.levels[level - 1]
    given = joint / joint.sum(0)
    found = []
    for members in children:
        kinds, numbers = present[:, members].to(REAL).unique(dim=0, return_inverse=True)
        of_kinds = torch.zeros(len(kinds), law.num_labels, dtype=REAL).index_add_(0, numbers, given)
        tuples = kinds.new_ones(len(kinds), 1)
        for there in kinds.unbind(1):
            tuples = torch.cat([tuples * (1 - there[:, None]), tuples * there[:, None]], 1)
        found.append(tuples.t() @ of_kinds)
    return _padded(found)


def _padded(tables: list[Tensor]) -> Float[Tensor, "n r D"]:
    return torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)


def _place_pairs(law: RandomHierarchy, weights: Float[Tensor, " D"]) -> Float[Tensor, "p p x x"]:
    """P(symbols of every two places), from the top level down to the tokens."""
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


def _check_pairs(law: Hierarchy) -> None:
    nodes = len(law.parents) if isinstance(law, LatentTree) else law.num_tokens
    num, symbols = (law.length, law.num_symbols) if isinstance(law, RandomHierarchy) else (nodes, 2)
    if (num * symbols) ** 2 > _MOST_ENTRIES:
        raise InvalidArgument(
            "token_correlations",
            "law",
            required=f"at most {math.isqrt(_MOST_ENTRIES):,} places (of a tree all nodes) × symbols",
            received=f"{num:,} × {symbols}",
            remedy="take fewer levels, tokens or symbols",
        )


def _check_tuples(function: str, num_latents: int, num_tuples: int, num_labels: int) -> None:
    if num_latents * num_tuples * num_labels > _MOST_ENTRIES:
        raise InvalidArgument(
            function,
            "law",
            required=f"at most {_MOST_ENTRIES:,} tuples × labels, of all latents of the level",
            received=f"{num_latents:,} latents with up to {num_tuples:,} tuples, and {num_labels:,} labels",
            remedy="take another level, or latents with fewer children",
        )


def _set_diagonal(pairs: Float[Tensor, "p x p x"], blocks: Float[Tensor, "p x x"]) -> None:
    numbers = torch.arange(len(blocks))
    pairs[numbers, :, numbers] = blocks


def _not_for(law: object, function: str, required: str) -> InvalidArgument:
    return InvalidArgument(function, "law", required=required, received=type(law).__name__, remedy="pass one")
