"""Projections of a layer: where one lies in a state dict, and how to take it out of its tensor, fused or not.

Axes: H query heads, G key heads, E dimensions of a head, D width, K hidden units of the MLP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from joma.errors import BadInput

Role = Literal["query", "key", "value", "output", "mlp_lower", "mlp_gate", "mlp_upper"]
"""What a projection does. A gated MLP multiplies what its lower and its gate projection give."""

ROLES: tuple[Role, ...] = get_args(Role)
HEAD_ROLES: tuple[Role, ...] = ("query", "key", "value", "output")
"""Those of attention, which have heads."""


class Heads(NamedTuple):
    """How many heads a layer has.

    Args:
        query: H.
        key: G, which divides H; fewer than H mean grouped queries.
        dim: E, where tensors are known by their names alone, so that each must have as much as its heads account for.
    """

    query: int
    key: int
    dim: int | None = None


Cut = Callable[[Tensor, Heads], Tensor]
Places = dict[Role, tuple[str, Cut]]
"""For each role, the end of its tensor's name and how to cut it out."""


@dataclass(frozen=True)
class Projection:
    """One projection of one layer, and how to get it out of its tensor.

    Args:
        layer: 0-based.
        role: what it does.
        tensor: the name, in the state dict, of the tensor that holds it (and, where fused, others).
        heads: of its layer.
        cut: takes it out.
    """

    layer: int
    role: Role
    tensor: str
    heads: Heads
    cut: Cut

    def of(self, tensor: Tensor) -> Tensor:
        """Take the projection out of its tensor; a view where that is possible.

        Args:
            tensor: the one that ``self.tensor`` names.

        Returns:
            query (H, E, D), key and value (G, E, D), output (H, D, E): one matrix per head, outputs by inputs. MLP:
            (K, D) below and for the gate, (D, K) above.

        Raises:
            BadInput: a shape that does not go with the number of heads, or with their size.
        """
        try:
            if tensor.dim() != 2:
                raise ValueError("no matrix")
            part = self.cut(tensor, self.heads)
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"{self.tensor} of shape {tuple(tensor.shape)} does not split into the {self.role} of "
                f"{self.heads.query} heads ({self.heads.key} for keys)",
                expected="weights and a configuration of the same model",
                remedy="check that config.json is the one that was saved beside these weights",
            ) from error
        dim, found = self.heads.dim, part.shape[-1 if self.role == "output" else 1]
        if dim is not None and self.role in HEAD_ROLES and found != dim:
            raise BadInput(
                f"{self.tensor} has {found} dimensions for each head of a model whose heads have {dim}, so that it is "
                f"not the {self.role} alone",
                expected="a kind of model that is known, or tensors that hold what they are named for",
                remedy="leave the ranks of heads out",
            )
        return part

    def joined(self, matrices: Tensor) -> Tensor:
        """Put one matrix per head together to the whole projection, outputs by inputs.

        Heads lie next to one another in the columns of the output projection, below one another elsewhere.
        """
        return matrices.movedim(0, 1).flatten(1) if self.role == "output" else matrices.flatten(0, 1)


@dataclass(frozen=True)
class Family:
    """Models that name and lay out their weights alike.

    Args:
        name: of the family.
        model_types: as ``config.json`` has them.
        layer: what stands before a layer's number in a tensor's name.
        places: for each role, what stands after it and how to cut.
    """

    name: str
    model_types: tuple[str, ...]
    layer: str
    places: Places

    @property
    def is_fused(self) -> bool:
        """Whether some tensor holds several projections, so that names alone do not tell how they lie."""
        return len(self._rests) < len(self.places)

    @property
    def attention(self) -> Family:
        """The same without its MLPs."""
        return replace(self, places={role: place for role, place in self.places.items() if role in HEAD_ROLES})

    def fits(self, names: Collection[str]) -> bool:
        """Whether there are layers, and each of them has all the family's tensors."""
        found = self._found(names)
        layers = {(stack, layer) for stack, layer, _ in found}
        return bool(found) and len(found) == len(layers) * len(self._rests)

    def projections(self, names: Collection[str], heads: Heads) -> tuple[Projection, ...]:
        """Find the family's projections among a state dict's names, by layer and role; all of them, or none.

        Raises:
            BadInput: several stacks of layers, or layers that lack a tensor.
        """
        found, rests = self._found(names), self._rests
        if len(stacks := sorted({stack for stack, _, _ in found})) > 1:
            raise BadInput(
                f"there are several stacks of layers ({', '.join(stack or '(none)' for stack in stacks)})",
                expected="one stack, so that a layer's number says which it is",
                remedy="pass the names of one stack",
            )
        layers = sorted({layer for _, layer, _ in found})
        if layers and heads.dim is None:  # where names alone tell, layers without attention may lie between
            layers = list(range(layers[-1] + 1))
        for layer in layers:
            if lacking := [rest for rest in sorted(rests) if (stacks[0], layer, rest) not in found]:
                raise BadInput(
                    f"layer {layer} has no {stacks[0]}{self.layer}.{layer}.{lacking[0]}",
                    expected=f"the {len(rests)} tensors that a layer of the family {self.name} has",
                    remedy="check that the weights are whole: joma scan --verify",
                )
        return tuple(
            Projection(layer, role, found[stacks[0], layer, rest], heads, cut)
            for layer in layers
            for role, (rest, cut) in self.places.items()
        )

    @property
    def _rests(self) -> set[str]:
        return {rest for rest, _ in self.places.values()}

    def _found(self, names: Collection[str]) -> dict[tuple[str, int, str], str]:
        """Its tensors, by stack, layer, and what stands after the layer's number."""
        path = re.compile(rf"(?P<stack>(?:.*\.)?){re.escape(self.layer)}\.(?P<layer>\d+)\.(?P<rest>.+)")
        matches = [match for name in names if (match := path.fullmatch(name))]
        return {(m["stack"], int(m["layer"]), m["rest"]): m[0] for m in matches if m["rest"] in self._rests}


def query_rows(tensor: Tensor, heads: Heads) -> Tensor:
    """Outputs of H heads, one head after the other."""
    return tensor.unflatten(0, (heads.query, -1))


def key_rows(tensor: Tensor, heads: Heads) -> Tensor:
    """Outputs of G heads, one head after the other."""
    return tensor.unflatten(0, (heads.key, -1))


def output_columns(tensor: Tensor, heads: Heads) -> Tensor:
    """Inputs of H heads, one head after the other."""
    return tensor.unflatten(1, (heads.query, -1)).movedim(1, 0)


def whole(tensor: Tensor, heads: Heads) -> Tensor:
    """All of it: no heads."""
    return tensor


def transposed(tensor: Tensor, heads: Heads, cut: Cut) -> Tensor:
    """Cut a tensor that holds inputs by outputs, as GPT-2's layers do."""
    return cut(tensor.T, heads)


def interleaved(tensor: Tensor, heads: Heads, part: int) -> Tensor:
    """Query (0), key (1) or value (2) where those of the first head come first, then those of the second."""
    return tensor.unflatten(0, (heads.query, 3, -1))[:, part]


def stacked(tensor: Tensor, heads: Heads, part: int) -> Tensor:
    """Query (0), key (1) or value (2) where all queries come first, then all keys, then all values."""
    blocks = tensor.unflatten(0, (heads.query + 2 * heads.key, -1))
    return blocks.split((heads.query, heads.key, heads.key))[part]


def half(tensor: Tensor, heads: Heads, part: int, cut: Cut = whole) -> Tensor:
    """First (0) or second (1) half of the outputs, then ``cut``."""
    return cut(tensor.unflatten(0, (2, -1))[part], heads)
