"""Any measure of a network next to the same network untrained, and next to shuffled latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from joma.arrays import as_tensor, wrong_shape
from joma.domains import check_seed
from joma.errors import InvalidArgument
from joma.measure.trees.joining import LeafTree, permuted_leaves

Found = TypeVar("Found")


@dataclass(frozen=True)
class Controlled(Generic[Found]):
    """What a measure finds in a network, and where there is nothing to be found.

    Args:
        trained: of the network.
        untrained: of the same network before training.
        shuffled: of the network, with latents shuffled across samples; of a tree, with its leaves permuted.
    """

    trained: Found
    untrained: Found
    shuffled: Found


def with_controls(
    measure: Callable[..., Found], trained: Any, untrained: Any, *known: Any, seed: int = 0, **settings: Any
) -> Controlled[Found]:
    """Measure a network, the same network before training, and the network with latents shuffled across samples.

    >>> import torch, joma
    >>> law = joma.RandomHierarchy(4, 4, 2, depth=2)
    >>> samples = law.sample(400, torch.Generator().manual_seed(0))
    >>> after = torch.nn.functional.one_hot(samples.tokens[:, :2] @ torch.tensor([4, 1]), 16).float()
    >>> before = torch.rand(400, 16, generator=torch.Generator().manual_seed(1))
    >>> found = joma.with_controls(joma.linear_probe, after, before, samples.symbols[0][:, :1])
    >>> [float(part.accuracy) > 0.9 for part in (found.trained, found.untrained, found.shuffled)]
    [True, False, False]

    The first argument of the measure stays as it is; all that follow are shuffled, each in the same order. So of
    ``alignment`` and ``linear_probe`` the latents are shuffled, of ``against_posterior`` the posteriors, of
    ``synonym_sensitivity`` the exchanged twins, and of ``tree_read_off`` the leaves of the true tree.

    Args:
        measure: any function of arrays, such as those named above.
        trained: what it takes of the network: activations or predictions of N samples, or a tuple of these, such as
            the activations before and after an exchange.
        untrained: the same of the network as it was before training, on the same samples.
        known: what it takes of the law, the same for both: latents or posteriors of N samples, or the true tree.
        seed: of the shuffled order.
        settings: of the measure.
    """
    function = "with_controls"
    if not callable(measure):
        required, remedy = "a function, such as joma.linear_probe", "pass the function itself, without calling it"
        raise InvalidArgument(function, "measure", required=required, received=repr(measure)[:60], remedy=remedy)
    check_seed(seed, function)
    first, *rest = (*_parts(trained), *known)
    if not rest:
        required, remedy = "latents, posteriors, a tree or exchanged twins to shuffle", "pass them after untrained"
        raise InvalidArgument(function, "known", required=required, received="nothing", remedy=remedy)
    chance = np.random.default_rng(seed)
    order = torch.from_numpy(chance.permutation(len(_rows(first, "trained"))))
    return Controlled(
        measure(first, *rest, **settings),
        measure(*_parts(untrained), *known, **settings),
        measure(first, *(_shuffled(part, order, chance) for part in rest), **settings),
    )


def _parts(of_network: Any) -> tuple[Any, ...]:
    return of_network if isinstance(of_network, tuple) else (of_network,)


def _rows(part: Any, parameter: str) -> torch.Tensor:
    rows = as_tensor(part, "with_controls", parameter, "an array with a row for each sample")
    if not rows.ndim:
        raise wrong_shape("with_controls", parameter, "an array with a row for each sample", rows)
    return rows


def _shuffled(part: Any, order: torch.Tensor, chance: np.random.Generator) -> Any:
    if isinstance(part, LeafTree):
        return permuted_leaves(part, chance)
    rows = _rows(part, "known")
    if len(rows) != len(order):
        remedy = "pass what belongs to the same samples"
        raise wrong_shape("with_controls", "known", f"{len(order)} rows, one for each sample", rows, remedy)
    return rows[order.to(rows.device)]
