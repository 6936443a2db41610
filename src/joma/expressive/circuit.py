"""A circuit of ReLU units that equal the latents of a hierarchy, layer by layer, independent of Transformers.

The inputs of a unit are bits: the presence of each token, and every unit of the layers below. A latent is the
conjunction of its members, minus one for each class in which all of them are present although the latent is not;
units one layer below recognise those classes.

Axes: C classes, n units of a layer, M bits below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from joma.expressive.separable import Table, accidents, inseparable, separating_unit, table
from joma.problem.combinatorial import Combinatorial


@dataclass(frozen=True)
class Units:
    """One layer of units max(0, weights · bits + bias), which are 0 or 1 on every input of the hierarchy."""

    weights: Float[np.ndarray, "n M"]
    bias: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Circuit:
    """A circuit for all latents of a hierarchy, with a linear readout of the classes.

    Args:
        tokens: the tokens that are members of a latent; their presence is the first bits.
        layers: in each layer the latents, in their order, then units that recognise classes for the layer above.
        num_front_layers: number of layers below that of level 0.
        readout: (C, number of latents of the top level) 1 for the members of each class.
    """

    tokens: tuple[int, ...]
    layers: tuple[Units, ...]
    num_front_layers: int
    readout: Float[np.ndarray, "C n"]


Bit = tuple[str, int, int]
"""("latent", level, index), where tokens have level −1, or ("class", level of which it is an exception, index)."""


class _Unit(NamedTuple):
    bit: Bit
    weights: dict[Bit, float]
    bias: float


def circuit(law: Combinatorial) -> Circuit:
    """Construct the circuit of a hierarchy: level s in layer s, after an additional front layer if level 0 needs one.

    Raises:
        BadInput: no network can be exact, or a latent needs more than one unit.
    """
    seen = table(law)
    sets = [[alternatives[0] for alternatives in level] for level in law.members]
    used = sorted({token for members in sets[0] for token in members})
    below = [seen.tokens, *seen.presence[:-1]]
    unwanted = [accidents(*level) for level in zip(sets[:-1], below, seen.presence, strict=True)]
    num_front = int(bool(inseparable(seen, 0)))
    bits: dict[Bit, int] = {("latent", -1, token): place for place, token in enumerate(used)}
    layers = []
    for level in range(-num_front, len(unwanted)):
        units = []
        for latent, members in enumerate(sets[level]) if level >= 0 else ():
            exceptions = [int(label) for label in np.flatnonzero(unwanted[level][:, latent])]
            if level == 0 and not num_front and exceptions:
                units.append(_separator(seen, latent, used))
            else:
                units.append(_conjunction(level, latent, members, exceptions))
        if level + 1 < len(unwanted):
            classes = np.flatnonzero(unwanted[level + 1].any(1))
            units += [_recogniser(level + 1, int(label), seen.tokens[label], used) for label in classes]
        layers.append(_dense(units, bits))
        bits |= {unit.bit: len(bits) + place for place, unit in enumerate(units)}
    readout = np.zeros((law.num_labels, law.level_sizes[-1]))
    for row, members in zip(readout, sets[-1], strict=True):
        row[list(members)] = 1
    return Circuit(tuple(used), tuple(layers), num_front, readout)


def _conjunction(level: int, latent: int, members: Sequence[int], exceptions: Sequence[int]) -> _Unit:
    """A unit that is 1 if all members are present, except in some classes."""
    weights = {("latent", level - 1, member): 1.0 for member in members}
    weights |= {("class", level, label): -1.0 for label in exceptions}
    return _Unit(("latent", level, latent), weights, 1.0 - len(members))


def _recogniser(level: int, label: int, shown: Bool[np.ndarray, " V"], used: Sequence[int]) -> _Unit:
    """A unit that is 1 for one set of tokens; every missing or additional token subtracts 1."""
    weights = {("latent", -1, token): 1.0 if shown[token] else -1.0 for token in used}
    return _Unit(("class", level, label), weights, 1.0 - float(shown.sum()))


def _separator(seen: Table, latent: int, used: Sequence[int]) -> _Unit:
    """A latent of level 0 whose members can all be present without it: weights from a linear program."""
    solution = separating_unit(seen.tokens[:, used], seen.presence[0][:, latent])
    assert solution is not None  # otherwise there is a front layer
    weights = {("latent", -1, token): float(weight) for token, weight in zip(used, solution[0], strict=True)}
    return _Unit(("latent", 0, latent), weights, solution[1])


def _dense(units: Sequence[_Unit], bits: dict[Bit, int]) -> Units:
    weights = np.zeros((len(units), len(bits)))
    for row, unit in zip(weights, units, strict=True):
        for bit, weight in unit.weights.items():
            row[bits[bit]] = weight
    return Units(weights, np.array([unit.bias for unit in units]))
