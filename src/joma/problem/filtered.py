"""Laws with correlations cut above a level, after Garnier-Brun et al. (ICML 2025, arXiv 2408.15138)."""

from __future__ import annotations

from dataclasses import replace

from joma.errors import InvalidArgument
from joma.problem.laws import Hierarchy, check_level
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree


def filtered(law: Hierarchy, level: int) -> LatentTree | RandomHierarchy:
    """Return the law in which the latents of a level are drawn independently of each other, given the label.

    >>> import joma
    >>> law = joma.RandomHierarchy(8, 8, 4, depth=3)
    >>> joma.filtered(law, 0).num_places  # pairs of tokens are kept whole, the levels above are gone
    (4,)

    Each latent of the level has the distribution given the label that it has in ``law``, the label-conditional
    marginal, and the sub-tree below it is drawn as in ``law``. So tokens under a common latent of this level, or a
    lower one, have the same joint distribution as before, also given the label, and so has each of them with the
    label; tokens whose nearest common ancestor is higher depend on each other only through the label. Levels above
    are not part of the new law.

    Args:
        law: a ``LatentTree`` or a ``RandomHierarchy``.
        level: the highest level that is kept, from 0, just above the tokens, to that of the top latents; or −1: tokens
            are independent of each other given the label.

    Returns:
        a law of the same type. The posterior of it, on samples of ``law``, is the best guess of an observer who knows
        correlations only up to the level.
    """
    if isinstance(law, RandomHierarchy):
        check_level(level, "filtered", law.depth - 2 if law.filtered_above is None else law.filtered_above, low=-1)
        return replace(law, filtered_above=level)
    if not isinstance(law, LatentTree):
        raise InvalidArgument(
            "filtered",
            "law",
            required="a LatentTree or a RandomHierarchy, in which every token has one latent above it",
            received=type(law).__name__,
            remedy="pass one of these; in a combinatorial hierarchy a token has no sub-tree of its own",
        )
    check_level(level, "filtered", len(law.levels) - 3, low=-1)
    return _filtered_tree(law, len(law.levels) - 2 - level)


def _filtered_tree(tree: LatentTree, depth: int) -> LatentTree:
    """The nodes of a depth become the label's children: their edges have the products of the polarities above."""
    top, polarity = dict(enumerate(tree.levels[1])), {node: tree.polarities[node] for node in tree.levels[1]}
    ancestor = {node: place for place, node in top.items()}
    for level in tree.levels[2 : depth + 1]:
        for node in level:
            ancestor[node] = ancestor[tree.parents[node]]
            polarity[node] = tree.polarities[node] * polarity[tree.parents[node]]
    kept = [0, *(node for level in tree.levels[depth:] for node in level)]
    numbers = {node: number for number, node in enumerate(kept)}
    cut = set(tree.levels[depth])
    return LatentTree(
        tuple(-1 if node == 0 else 0 if node in cut else numbers[tree.parents[node]] for node in kept),
        tuple(polarity[node] if node in cut else tree.polarities[node] for node in kept),
        tuple(tuple(row[ancestor[node]] for node in tree.levels[depth]) for row in tree.label_signs),
        tree.label_probabilities,
    )
