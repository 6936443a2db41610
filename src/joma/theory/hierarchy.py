"""Exact probabilities of tokens, their co-occurrence and labels in latent hierarchies (Theorem 5).

Below a label y₀ = ±1 are binary latents ±1; a node has its parent's sign with probability (1 + ρ)/2; the leaves are
tokens, and +1 means that the token is in the sequence ("present").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from joma.arrays import REAL, Real, as_real_in, check_broadcast, numpy_in_numpy_out, on_one_device
from joma.domains import POLARITY, check_whole, is_whole
from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial
from joma.problem.laws import Hierarchy, label_probabilities, token_presence
from joma.problem.tree import LatentTree, check_parents

_MOST_LEVELS = 1_000_000


@numpy_in_numpy_out
def cooccurrence(rho: Real, rho0: Real, depth: int, ancestor_height: int, label_sign: int = -1) -> torch.Tensor:
    """Return P(token l present | token m present) for two leaves, given the height of their common ancestor.

    >>> import joma
    >>> [round(float(joma.cooccurrence(0.8, 0.5, depth=3, ancestor_height=height)), 3) for height in (1, 2, 3)]
    [0.735, 0.566, 0.34]

    Theorem 5 of the paper: P = ½ (1 + ρ^{2H} + 2 s ρ^{L−1} ρ₀)/(1 + s ρ^{L−1} ρ₀), with s the sign of the label.

    Args:
        rho: ρ, polarity of all edges below the top latents, in [−1, 1]; any shape.
        rho0: ρ₀, polarity of the edges from the label to the top latents, in [−1, 1]; broadcasts against ``rho``.
        depth: L, the number of levels of edges, at least 1.
        ancestor_height: H, from 0 (the same leaf) to L − 1 (a top latent), or L if only the label is a common ancestor.
        label_sign: s, −1 or 1.

    Returns:
        Probabilities, of the broadcast shape.
    """
    function = "cooccurrence"
    rho, rho0 = on_one_device(as_real_in(POLARITY, rho, function, "rho"), as_real_in(POLARITY, rho0, function, "rho0"))
    check_broadcast(function, rho=rho, rho0=rho0)
    check_whole(depth, function, "depth", high=_MOST_LEVELS, remedy="count levels of edges")
    check_whole(ancestor_height, function, "ancestor_height", low=0, high=depth, remedy="count levels of edges")
    _check_sign(function, label_sign)
    mean = label_sign * rho ** (depth - 1) * rho0
    same = rho ** (2 * ancestor_height) if ancestor_height < depth else mean.square()
    if bool((1 + mean.detach() <= 0).any()):
        raise InvalidArgument(
            function,
            "rho0",
            required="such that the given token has a positive probability",
            received="such that it is never present: every leaf has the sign of the label, which is −1",
            remedy="move a polarity away from ±1, or flip label_sign",
        )
    return (1 + same + 2 * mean) / (1 + mean) / 2


@numpy_in_numpy_out
def pair_marginals(parents: Sequence[int], polarities: Real, label_sign: int = -1) -> torch.Tensor:
    """Return the exact joint distribution of every two nodes of any tree with any polarities.

    The distribution of binary nodes follows from the means of nodes and of products of two nodes; along an edge, both
    are multiplied by its polarity (sum–product with scalar messages).

    Args:
        parents: index of the parent of each node; node 0 is the label, with entry −1. Parents precede their children.
        polarities: (n,) of the edge above each node, in [−1, 1]; the label's entry must be 0.
        label_sign: −1 or 1.

    Returns:
        (n, n, 2, 2) P(yₐ, y_b); index 0 stands for −1 and 1 for +1.
    """
    function = "pair_marginals"
    polarities = as_real_in(POLARITY, polarities, function, "polarities")
    _check_sign(function, label_sign)
    num = len(parents)
    if polarities.shape != (num,) or num == 0 or float(polarities.detach()[0]) != 0:
        raise InvalidArgument(
            function,
            "polarities",
            required=f"of shape ({max(num, 1)},), one for each node, and 0 for the label",
            received=f"of shape {tuple(polarities.shape)}" + (" with no 0 in front" if polarities.numel() else ""),
            remedy="put a 0 in front for the label",
        )
    check_parents(parents, function)
    mean = torch.full((1,), float(label_sign), dtype=REAL, device=polarities.device)
    product = torch.ones(1, 1, dtype=REAL, device=polarities.device)  # E[yₐ y_b]
    for node in range(1, num):
        parent, polarity = parents[node], polarities[node]
        mean = torch.cat([mean, polarity * mean[parent : parent + 1]])
        row = torch.cat([polarity * product[parent], torch.ones_like(product[0, :1])])
        product = torch.cat([torch.cat([product, row[None, :-1]]), row[:, None]], 1)
    sign = torch.tensor([-1.0, 1.0], dtype=REAL, device=polarities.device)
    first, second = sign[:, None], sign[None, :]
    return (
        1
        + first * mean[:, None, None, None]
        + second * mean[None, :, None, None]
        + first * second * product[:, :, None, None]
    ) / 4


def tree_pair_marginals(tree: LatentTree, label: int | None = None) -> torch.Tensor:
    """Return the exact joint distribution of every two nodes below the label of a tree, by sum–product.

    This needs none of the symmetry that Theorem 5 assumes.

    Args:
        tree: has n nodes, the label included.
        label: the label to condition on; ``None`` for the average over labels.

    Returns:
        (n − 1, n − 1, 2, 2) P(yₐ, y_b) of nodes 1 to n − 1; index 0 stands for −1 and 1 for +1.
    """
    if label is None:
        given = [tree_pair_marginals(tree, value) for value in range(tree.num_labels)]
        return torch.einsum("d,dabij->abij", torch.tensor(label_probabilities(tree), dtype=REAL), torch.stack(given))
    last = tree.num_labels - 1
    check_whole(label, "tree_pair_marginals", "label", low=0, high=last, remedy="number labels from 0")
    # The sign s of node j under this label is absorbed into its polarity: s ρ under a label of sign +1.
    signs = dict(zip(tree.levels[1], tree.label_signs[label], strict=True))
    polarities = [polarity * signs.get(node, 1) for node, polarity in enumerate(tree.polarities)]
    return pair_marginals(tree.parents, polarities, label_sign=1)[1:, 1:]


def token_marginals(tree: LatentTree) -> torch.Tensor:
    """Return P(token present | label), exactly, (D, V)."""
    return (1 + sign_means(tree)[-1]) / 2


def sign_means(tree: LatentTree) -> list[torch.Tensor]:
    """Return E[sign of each node | label] by depth, (D, n) each; at depth 0 the signs that labels favour."""
    by_depth = [torch.tensor(tree.label_signs, dtype=REAL)]
    for depth, level in enumerate(tree.levels[1:]):
        above = by_depth[-1]
        if depth:
            above = above[:, list(tree.parent_places[depth])]
        by_depth.append(above * torch.tensor([tree.polarities[node] for node in level], dtype=REAL))
    return by_depth


def label_marginals(tree: LatentTree) -> torch.Tensor:
    """Return P(label | token present), exactly, (D, V); every token must have a positive probability."""
    joint = torch.tensor(label_probabilities(tree), dtype=REAL)[:, None] * token_marginals(tree)
    return joint / _possible(joint.sum(0), "label_marginals")


def token_cooccurrence(tree: LatentTree, label: int | None = None) -> torch.Tensor:
    """Return P(token l present | token m present) for all tokens of any tree, (V, V), by sum–product.

    In a balanced tree with equal polarities this is ``cooccurrence`` at the height of the common ancestor.

    Args:
        tree: has V tokens, each with a positive probability.
        label: the label to condition on; ``None`` for the average over labels.
    """
    leaves = torch.tensor(tree.leaves) - 1
    both = tree_pair_marginals(tree, label)[leaves[:, None], leaves[None, :], 1, 1]
    return both / _possible(both.diagonal(), "token_cooccurrence")


def exact_cooccurrence(law: Hierarchy, label: int | None = None) -> torch.Tensor | None:
    """Return P(token l present | token m present) of any law whose exact value is feasible to compute.

    Args:
        law: has V tokens.
        label: the label to condition on; ``None`` for the average over labels.

    Returns:
        (V, V), l by m. ``None`` for a tree with a token that is never present, and for random sets of members. For a
        table, NaN if m is never present.
    """
    if isinstance(law, LatentTree):
        try:
            return token_cooccurrence(law, label)
        except InvalidArgument:  # a token that is never present
            return None
    if not isinstance(law, Combinatorial) or not law.is_table:
        return None
    labels = torch.arange(law.num_labels) if label is None else torch.tensor([label])
    present = token_presence(law, law.sample(len(labels), torch.Generator(), labels).tokens).to(REAL)
    weights = torch.tensor(label_probabilities(law), dtype=REAL)[labels, None]
    both = present.T @ (weights * present)
    return both / both.diagonal()


def symmetric_cooccurrence(law: Hierarchy, label: int | None, ancestor_height: int) -> float | None:
    """Return Theorem 5's ``cooccurrence`` for a law, or ``None`` where the theorem does not apply.

    It applies to tokens with a positive probability in a latent tree with one polarity below the top latents and one
    above them, given a label whose signs are all equal. H, the ``ancestor_height``, is at least 1.
    """
    if not isinstance(law, LatentTree) or label is None or ancestor_height < 1:
        return None
    signs = set(law.label_signs[label])
    top = {law.polarities[node] for node in law.levels[1]}
    below = {law.polarities[node] for level in law.levels[2:] for node in level} or {1.0}
    if len(signs) > 1 or len(top) > 1 or len(below) > 1:
        return None
    try:
        return float(cooccurrence(below.pop(), top.pop(), len(law.levels) - 1, ancestor_height, signs.pop()))
    except InvalidArgument:  # the given token is never present
        return None


def _possible(probabilities: torch.Tensor, function: str) -> torch.Tensor:
    never = (probabilities <= 0).nonzero().flatten().tolist()
    if never:
        raise InvalidArgument(
            function,
            "tree",
            required="such that every token has a positive probability",
            received=f"such that token {never[0]} is never present",
            remedy="move a polarity away from ±1, or average over labels",
        )
    return probabilities


def _check_sign(function: str, label_sign: int) -> None:
    if not is_whole(label_sign, -1, 1) or label_sign == 0:
        raise InvalidArgument(
            function, "label_sign", required="−1 or 1", received=f"{label_sign!r}", remedy="pass the sign alone"
        )
