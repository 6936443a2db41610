"""Latent hierarchies (Theorem 5): which tokens come together, given the tree that makes them.

A label y₀ of known sign; binary latents ±1 below it; each edge keeps its parent's sign with probability (1 + ρ)/2;
the leaves are tokens, and +1 means that a token is in the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from joma.arrays import REAL, Real, as_real_in, numpy_in_numpy_out, on_one_device
from joma.domains import POLARITY
from joma.errors import InvalidArgument


@numpy_in_numpy_out
def cooccurrence(rho: Real, rho0: Real, depth: int, ancestor_height: int, label_sign: int = -1) -> torch.Tensor:
    """Return P(token l is there | token m is there) for two leaves whose common ancestor is some levels up.

    Theorem 5 of the paper: P = ½ (1 + ρ^{2H} + 2 s ρ^{L−1} ρ₀)/(1 + s ρ^{L−1} ρ₀), with s the label's sign.

    Args:
        rho: ρ, polarity of every edge below the top latents, in [−1, 1]; any shape.
        rho0: ρ₀, polarity from the label to the top latents, in [−1, 1]; broadcasts against ``rho``.
        depth: L, levels of edges counted from the label, at least 1.
        ancestor_height: H, from 0 (the same leaf) to L − 1 (a top latent), or L where only the label is common.
        label_sign: s, the sign of the label's value, −1 or 1.

    Returns:
        Probabilities, of the common shape.
    """
    function = "cooccurrence"
    rho, rho0 = on_one_device(as_real_in(POLARITY, rho, function, "rho"), as_real_in(POLARITY, rho0, function, "rho0"))
    _check_whole(function, "depth", depth, 1, None)
    _check_whole(function, "ancestor_height", ancestor_height, 0, depth)
    _check_sign(function, label_sign)
    mean = label_sign * rho ** (depth - 1) * rho0
    same = rho ** (2 * ancestor_height) if ancestor_height < depth else mean.square()
    if bool((1 + mean.detach() <= 0).any()):
        raise InvalidArgument(
            function,
            "rho0",
            required="such that the given token can be there at all",
            received="such that it never is: the label's sign reaches every leaf unchanged, and it is −1",
            remedy="move a polarity away from ±1, or flip label_sign",
        )
    return (1 + same + 2 * mean) / (1 + mean) / 2


@numpy_in_numpy_out
def pair_marginals(parents: Sequence[int], polarities: Real, label_sign: int = -1) -> torch.Tensor:
    """Return the exact joint distribution of every two nodes of any tree, with its own polarity on every edge.

    Two-state nodes are given by their means and their products' means, which travel along an edge by
    multiplication with its polarity: sum–product with messages of one number.

    Args:
        parents: the parent of each node, by index; the label is node 0 and its own entry is −1. Parents come first.
        polarities: (n,) of the edge above each node, in [−1, 1]; the label's own entry is ignored by definition and
            must be 0.
        label_sign: the sign of the label's value, −1 or 1.

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
    for node, parent in enumerate(parents):
        if (parent != -1) if node == 0 else not 0 <= parent < node:
            raise InvalidArgument(
                function,
                "parents",
                required="−1 for node 0, and an earlier node for every other one",
                received=f"{parent} for node {node}",
                remedy="number the nodes from the label downwards",
            )
    means = [torch.tensor(float(label_sign), dtype=REAL, device=polarities.device)]
    rows = [torch.ones(1, dtype=REAL, device=polarities.device)]  # E[yₐ y_b] for b up to a
    for node in range(1, num):
        parent, polarity = parents[node], polarities[node]
        means.append(polarity * means[parent])
        to_parent = torch.stack([rows[max(parent, other)][min(parent, other)] for other in range(node)])
        rows.append(torch.cat([polarity * to_parent, torch.ones_like(rows[0])]))
    mean = torch.stack(means)
    product = torch.stack([rows[max(a, b)][min(a, b)] for a in range(num) for b in range(num)]).reshape(num, num)
    sign = torch.tensor([-1.0, 1.0], dtype=REAL, device=polarities.device)
    first, second = sign[:, None], sign[None, :]
    return (
        1
        + first * mean[:, None, None, None]
        + second * mean[None, :, None, None]
        + first * second * product[:, :, None, None]
    ) / 4


def _check_whole(function: str, parameter: str, value: int, low: int, high: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        upper = "" if high is None else f" and at most {high}"
        raise InvalidArgument(
            function,
            parameter,
            required=f"a whole number of at least {low}{upper}",
            received=f"{value!r}",
            remedy="count levels of edges",
        )


def _check_sign(function: str, label_sign: int) -> None:
    if label_sign not in (-1, 1):
        raise InvalidArgument(
            function, "label_sign", required="−1 or 1", received=f"{label_sign!r}", remedy="pass the sign alone"
        )
