"""The tree read off representations: places whose representations depend on each other are near in the tree.

Axes: N samples, P places (tokens, or positions), K units of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from joma.arrays import REAL, as_float_tensor, wrong_shape
from joma.domains import check_seed, check_whole
from joma.errors import InvalidArgument
from joma.measure.trees.joining import FEWEST_LEAVES, LeafTree, neighbour_joining, permuted_leaves, robinson_foulds

_FEWEST_SAMPLES = 4
_MOST_PERMUTATIONS = 10_000


@dataclass(frozen=True)
class ReadOff:
    """A tree read off representations, against the true one.

    Args:
        tree: by neighbour joining.
        distance: its normalised Robinson–Foulds distance to the true tree; 0 is the same tree, 1 has nothing in common.
        permuted: the mean distance with leaves permuted, which is chance.
    """

    tree: LeafTree
    distance: float
    permuted: float


def tree_read_off(
    units: Float[Tensor, "N P K"], truth: LeafTree, *, num_permutations: int = 50, seed: int = 0
) -> ReadOff:
    """Read a tree off representations by neighbour joining and compare it with the true one.

    >>> import torch, joma
    >>> from joma.measure.trees.joining import tree_of_parents
    >>> law = joma.RandomHierarchy(8, 8, 2, depth=3)
    >>> tokens = law.sample(5000, torch.Generator().manual_seed(0)).tokens
    >>> truth = tree_of_parents((-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6))
    >>> found = joma.tree_read_off(torch.nn.functional.one_hot(tokens).float(), truth)
    >>> found.distance < found.permuted
    True

    Compare the result with that of the raw tokens, one-hot (N, P, V), of the same samples, and with the untrained
    network: below the first, training found more than the data show at a glance.

    Args:
        units: (N, P, K) representations of P places.
        truth: the true tree; leaf p is place p. Neighbour joining makes binary trees, so that a true tree with larger
            nodes has a distance above 0 even from its best reading.
        num_permutations: of the leaves, for chance.
        seed: of the permutations.

    Raises:
        NotInstalled: scikit-bio is missing (the extra ``trees``).
    """
    check_whole(num_permutations, "tree_read_off", "num_permutations", high=_MOST_PERMUTATIONS)
    check_seed(seed, "tree_read_off")
    tree = neighbour_joining(place_distances(units))
    if tree.num_leaves != truth.num_leaves:
        required, remedy = f"a tree of {tree.num_leaves} leaves, one for each place", "pass the tree of these places"
        received = f"a tree of {truth.num_leaves}"
        raise InvalidArgument("tree_read_off", "truth", required=required, received=received, remedy=remedy)
    chance = np.random.default_rng(seed)
    permuted = [robinson_foulds(permuted_leaves(tree, chance), truth) for _ in range(num_permutations)]
    return ReadOff(tree, robinson_foulds(tree, truth), float(np.mean(permuted)))


def place_distances(units: Float[Tensor, "N P K"]) -> Float[np.ndarray, "P P"]:
    """Return −½ ln of the linear dependence of the representations of all pairs of places.

    The dependence of two places is ‖cov(x, y)‖² / (‖cov(x, x)‖ ‖cov(y, y)‖), linear centred kernel alignment, by its
    unbiased estimator, so that many units and few samples do not make all places look alike. For one unit of each place
    it is their squared correlation, and the distance −ln|corr|, which adds up along the paths of a tree of binary
    variables. A dependence below 1/N, that of independent numbers, counts as 1/N.

    Args:
        units: (N, P, K).

    Returns:
        (P, P), symmetric, 0 on the diagonal, at most ½ ln N.

    Source: Kornblith et al., arXiv 1905.00414; Song et al., JMLR 2012, eq. 5, for the estimator.
    """
    units = as_float_tensor(units, "place_distances", "units")
    if units.dim() != 3 or len(units) < _FEWEST_SAMPLES or units.shape[1] < FEWEST_LEAVES or not units.shape[2]:
        required = f"(samples, places, units), with at least {_FEWEST_SAMPLES} samples and {FEWEST_LEAVES} places"
        raise wrong_shape("place_distances", "units", required, units)
    if not units.isfinite().all():
        received, remedy = "NaN or infinite numbers", "check whether the network diverged"
        raise InvalidArgument("place_distances", "units", required="finite numbers", received=received, remedy=remedy)
    num = len(units)
    dependence = _dependence(units.detach().to(REAL))
    own = dependence.diagonal()
    roots = (own[:, None] * own).clamp_min(0).sqrt()
    shares = (dependence / roots).where(roots > 0, 0)
    found = -0.5 * shares.clamp(1 / num, 1).log()
    return found.fill_diagonal_(0).numpy()


def _dependence(units: Float[Tensor, "N P K"]) -> Float[Tensor, "P P"]:
    """The unbiased Hilbert–Schmidt independence criterion of all pairs of places, with linear kernels."""
    num, places = units.shape[:2]
    centred = (units - units.mean(0)).transpose(0, 1)  # (P, N, K)
    own = centred.square().sum(-1)  # (P, N), the diagonals of the kernels
    products = torch.stack([(centred[place].T @ centred).square().sum((1, 2)) for place in range(places)])
    overlap, total = own @ own.T, own.sum(1)
    corrected = products - overlap + torch.outer(total, total) / ((num - 1) * (num - 2)) - 2 / (num - 2) * overlap
    return corrected / (num * (num - 3))
