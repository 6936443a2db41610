"""Which latents one ReLU unit can be that reads nothing but which tokens are there, decided by linear programs.

The inputs are the table of a combinatorial hierarchy: one set of tokens for each class. A network whose first
attention is uniform hands its first MLP an affine image of the tokens' presence; a unit there can be a latent
exactly if some affine function is 1 on every input with the latent and at most 0 on every other. What that leaves
out is told in docs/expressiveness.md.

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
    """Every input that a hierarchy gives, and what is present in it, by class.

    Args:
        tokens: which tokens are there.
        presence: which latents were drawn, the level just above the tokens first.
    """

    tokens: Bool[np.ndarray, "C V"]
    presence: tuple[Bool[np.ndarray, "C n"], ...]


@dataclass(frozen=True)
class OneLayerFewer:
    """What a network with one layer less than ``expressive_decoder`` has can still do.

    Args:
        possible: whether every latent can be one hidden unit one layer lower (the two lowest levels then share the
            first layer).
        num_layers: how many layers are left.
        failing: (level, latent) of those that no single unit can be there.
        fewest_layers: how many layers suffice if latents may be units of *any* layer, levels in order: 1 or 2.
    """

    possible: bool
    num_layers: int
    failing: tuple[tuple[int, int], ...]
    fewest_layers: int


def table(law: Combinatorial) -> Table:
    """Every input of a hierarchy in which a class always shows the same tokens.

    Raises:
        BadInput: presence is no function of the input, or no single unit can follow it.
    """
    if law.show_probability < 1:
        raise BadInput(
            f"the hierarchy shows each member with probability {law.show_probability:g} only, so that a latent can be "
            "present without a trace and no network can be exact",
            expected="a hierarchy whose presences follow from its tokens",
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
            f"the classes {', '.join(map(str, group))} show the same tokens, so that no network can tell them apart",
            expected="a hierarchy in which every class shows its own set of tokens",
            remedy="build it with distinct_inputs=True",
        )
    return table_of([[alternatives[0] for alternatives in sets] for sets in law.members], law.num_tokens)


def table_of(members: Sequence[Sets], num_tokens: int) -> Table:
    """What each class shows, from the member sets of every level (the classes' last)."""
    *levels, classes = members
    sizes = [num_tokens, *(len(level) for level in levels)]
    shown = _rows(classes, sizes[-1])
    presence = []
    for sets, size in zip(reversed(levels), reversed(sizes[:-1]), strict=True):
        presence.append(shown)
        shown = shown @ _rows(sets, size)  # of booleans: whether any latent that is there has the member
    return Table(shown, tuple(reversed(presence)))


def separating_unit(
    inputs: Float[np.ndarray, "N F"], present: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " F"], float] | None:
    """Weights and bias of a unit that is 1 where ``present`` and at most 0 elsewhere, before its ReLU.

    Args:
        inputs: what the unit reads, one row for each case.
        present: where it has to be 1.

    Returns:
        Those with the least sum of absolute weights, or ``None`` if there are none. A linear program solved to 1e-7;
        whether one exists at all is a question of determinants of zeros and ones, which are whole numbers and, up to
        some ten tokens, too small to hide a yes or a no within that.
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
        raise RunFailed(
            f"the linear program of a unit was not solved ({solution.message})",
            kept="nothing was decided",
            remedy="take a smaller hierarchy",
        )
    return solution.x[:num] - solution.x[num : 2 * num], float(solution.x[-1])


def accidents(members: Sets, below: Bool[np.ndarray, "C m"], present: Bool[np.ndarray, "C n"]) -> np.ndarray:
    """Where all members of a latent are there although it was not drawn, by way of other latents; (C, n)."""
    complete = np.column_stack([below[:, list(latent)].all(1) for latent in members])
    return complete & ~present


def inseparable(seen: Table, level: int) -> tuple[int, ...]:
    """The latents of a level that no unit reading only the tokens can be."""
    return tuple(
        latent for latent, present in enumerate(seen.presence[level].T) if not _can_be_token_unit(seen.tokens, present)
    )


def one_layer_fewer(law: Combinatorial) -> OneLayerFewer:
    """Say whether every latent could sit one layer lower, and how few layers suffice if any layer will do.

    Holds for networks whose first attention is uniform, whose first LayerNorm sees every input equally long, and
    whose sequences come in any order. Only the first layer decides: a layer above one that recognises whole classes
    (one unit each) can be any function of the class.
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
    if not tokens[~present][:, common].all(1).any():  # as a conjunction of the tokens that always come with it
        return True
    tokens = tokens[:, np.lexsort(tokens)]  # a like order, so that few linear programs are solved twice
    order = np.lexsort(tokens.T)
    return _separable(tokens[order].tobytes(), tokens.shape, present[order].tobytes())


@lru_cache(maxsize=100_000)
def _separable(tokens: bytes, shape: tuple[int, int], present: bytes) -> bool:
    inputs = np.frombuffer(tokens, dtype=bool).reshape(shape)
    return separating_unit(inputs, np.frombuffer(present, dtype=bool)) is not None


def _name(level: int, latent: int, law: Combinatorial) -> str:
    return f"class {latent}" if level == len(law.level_sizes) else f"latent {latent} of level {level}"
