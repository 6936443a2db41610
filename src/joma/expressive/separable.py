"""Decide by linear programs which latents a single ReLU unit can equal whose inputs are the tokens' presences.

The inputs are the table of a combinatorial hierarchy, one set of tokens for each class. If the first attention of a
network is uniform, the input of its first MLP is an affine map of the presences. A unit there can equal a latent if
and only if some affine function is 1 on every input with the latent and at most 0 on every other. For the limits of
this argument see docs/expressiveness.md.

Axes: C classes, V tokens, n latents of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from joma.errors import BadInput, RunFailed
from joma.problem.combinatorial import Combinatorial, ambiguous_labels

Sets = Sequence[Sequence[int]]
"""The members of each latent of a level, or of each class."""


class Table(NamedTuple):
    """The input of each class of a hierarchy, and the latents that are present in it.

    Args:
        tokens: whether each token is present.
        presence: whether each latent is present, starting with the level above the tokens.
    """

    tokens: Bool[np.ndarray, "C V"]
    presence: tuple[Bool[np.ndarray, "C n"], ...]


@dataclass(frozen=True)
class OneLayerFewer:
    """The latents that a network with one layer less than ``expressive_decoder`` can express.

    Args:
        possible: whether every latent can be a hidden unit one layer lower (the two lowest levels then share the
            first layer).
        num_layers: number of layers that are left.
        failing: (level, latent) of the latents that no single unit can equal there.
        fewest_layers: number of layers that suffice if latents may be in *any* layer, levels in order: 1 or 2.
    """

    possible: bool
    num_layers: int
    failing: tuple[tuple[int, int], ...]
    fewest_layers: int


def table(law: Combinatorial) -> Table:
    """Return all inputs of a hierarchy in which each class has one input.

    Raises:
        BadInput: presence is not a function of the input, or no single unit can equal it.
    """
    if law.show_probability < 1:
        raise BadInput(
            f"the hierarchy shows each member only with probability {law.show_probability:g}, so that a latent can be "
            "present without any of its tokens and no network can be exact",
            expected="a hierarchy whose tokens determine the presence of latents",
            remedy="set show_probability=1",
        )
    for level, sets in enumerate(law.members):
        for latent, alternatives in enumerate(sets):
            if len(alternatives) > 1:
                raise BadInput(
                    f"{_name(level, latent, law)} has {len(alternatives)} alternative sets of members, and one ReLU "
                    "unit cannot be (a and b) or (c and d): no plane separates ab, cd from ac, bd",
                    expected="one set of members for each latent and class",
                    remedy="set num_alternatives=1",
                )
    if not law.level_sizes:
        raise BadInput(
            "the hierarchy has classes but no latents",
            expected="at least one level of latents between tokens and classes",
            remedy="give level_sizes at least one entry",
        )
    for group in ambiguous_labels(law):
        raise BadInput(
            f"the classes {', '.join(map(str, group))} have the same tokens, so that no network can distinguish them",
            expected="a hierarchy in which every class has a different set of tokens",
            remedy="build it with distinct_inputs=True",
        )
    return table_of([[alternatives[0] for alternatives in sets] for sets in law.members], law.num_tokens)


def table_of(members: Sequence[Sets], num_tokens: int) -> Table:
    """Return the table of a hierarchy from the member sets of every level, with those of classes last."""
    *levels, classes = members
    sizes = [num_tokens, *(len(level) for level in levels)]
    shown = _rows(classes, sizes[-1])
    presence = []
    for sets, size in zip(reversed(levels), reversed(sizes[:-1]), strict=True):
        presence.append(shown)
        shown = shown @ _rows(sets, size)  # boolean product: whether any present latent has the member
    return Table(shown, tuple(reversed(presence)))


def separating_unit(
    inputs: Float[np.ndarray, "N F"], present: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " F"], float] | None:
    """Find weights and bias of a unit that is 1 where ``present`` and at most 0 elsewhere, before its ReLU.

    Args:
        inputs: the inputs of the unit, one row for each case.
        present: whether the unit has to be 1 in each case.

    Returns:
        the solution with the smallest sum of absolute weights, or ``None`` if there is none. The linear program is
        solved to 1e-7. This decides existence reliably up to some ten tokens, because it depends on determinants of
        0–1 matrices, which are then small integers.
    """
    from scipy.optimize import linprog

    rows = np.column_stack([inputs, -np.asarray(inputs, dtype=float), np.ones(len(inputs))])
    num = inputs.shape[1]
    solution = linprog(
        np.append(np.ones(2 * num), 0.0),
        A_eq=rows[present] if present.any() else None,
        b_eq=np.ones(int(present.sum())) if present.any() else None,
        A_ub=rows[~present] if not present.all() else None,
        b_ub=np.zeros(int((~present).sum())) if not present.all() else None,
        bounds=[(0, None)] * (2 * num) + [(None, None)],
        method="highs",
    )
    if solution.status == 2:
        return None
    if solution.status != 0:
        problem = f"the linear program of a unit was not solved ({solution.message})"
        raise RunFailed(problem, kept="nothing was decided", remedy="take a smaller hierarchy")
    return solution.x[:num] - solution.x[num : 2 * num], float(solution.x[-1])


def accidents(members: Sets, below: Bool[np.ndarray, "C m"], present: Bool[np.ndarray, "C n"]) -> np.ndarray:
    """Return, (C, n), whether all members of a latent are present through other latents although it is not."""
    complete = np.column_stack([below[:, list(latent)].all(1) for latent in members])
    return complete & ~present


def inseparable(seen: Table, level: int) -> tuple[int, ...]:
    """Return the latents of a level that no unit whose inputs are the tokens' presences can equal."""
    return tuple(
        latent for latent, present in enumerate(seen.presence[level].T) if not _can_be_token_unit(seen.tokens, present)
    )


def one_layer_fewer(law: Combinatorial) -> OneLayerFewer:
    """Decide whether every latent can be one layer lower, and how many layers suffice if latents may be in any layer.

    This holds for networks with uniform first attention, with inputs of equal norm at the first LayerNorm, and for
    sequences in any order. Only the first layer matters, because a layer above one that recognises whole classes (with
    one unit each) can compute any function of the class.
    """
    seen = table(law)
    failing = [inseparable(seen, level) for level in range(len(seen.presence))]
    fewest = 1 + any(failing)
    num_layers = len(seen.presence) + bool(failing[0]) - 1
    if failing[0]:
        level, latents = 0, failing[0]
    elif len(failing) == 1:  # no layer is left
        level, latents = 0, tuple(range(seen.presence[0].shape[1]))
    else:
        level, latents = 1, failing[1]
    return OneLayerFewer(not latents, num_layers, tuple((level, latent) for latent in latents), fewest)


def _rows(sets: Sets, size: int) -> Bool[np.ndarray, "n size"]:
    rows = np.zeros((len(sets), size), dtype=bool)
    for row, members in zip(rows, sets, strict=True):
        row[list(members)] = True
    return rows


def _can_be_token_unit(tokens: np.ndarray, present: np.ndarray) -> bool:
    common = tokens[present].all(0)
    if not tokens[~present][:, common].all(1).any():  # the conjunction of the tokens that are always present with it
        return True
    tokens = tokens[:, np.lexsort(tokens)]  # sorted, so that few linear programs are solved twice
    order = np.lexsort(tokens.T)
    return _separable(tokens[order].tobytes(), tokens.shape, present[order].tobytes())


@lru_cache(maxsize=100_000)
def _separable(tokens: bytes, shape: tuple[int, int], present: bytes) -> bool:
    inputs = np.frombuffer(tokens, dtype=bool).reshape(shape)
    return separating_unit(inputs, np.frombuffer(present, dtype=bool)) is not None


def _name(level: int, latent: int, law: Combinatorial) -> str:
    return f"class {latent}" if level == len(law.level_sizes) else f"latent {latent} of level {level}"
