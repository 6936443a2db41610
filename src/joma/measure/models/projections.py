"""Projections of a layer: their tensors in a state dict, and how to extract them, fused or not.

Axes: H query heads, G key heads, E dimensions of a head, D width, K hidden units of the MLP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from joma.errors import BadInput

Role = Literal["query", "key", "value", "output", "mlp_lower", "mlp_gate", "mlp_upper"]
"""The function of a projection. A gated MLP multiplies the outputs of its lower and its gate projection."""

ROLES: tuple[Role, ...] = get_args(Role)
HEAD_ROLES: tuple[Role, ...] = ("query", "key", "value", "output")
"""The roles of attention, which have heads."""


class Heads(NamedTuple):
    """The numbers of heads of a layer.

    Args:
        query: H.
        key: G, which divides H; fewer than H mean grouped queries.
        dim: E, which parts of tensors must have; ``None`` where no configuration states it.
        width: D, likewise.
    """

    query: int
    key: int
    dim: int | None = None
    width: int | None = None


Cut = Callable[[Tensor, Heads], Tensor]
Places = dict[Role, tuple[str, Cut]]
"""For each role, the end of its tensor's name and the function that extracts it."""


@dataclass(frozen=True)
class Projection:
    """One projection of one layer.

    Args:
        layer: 0-based.
        role: its function.
        tensor: name in the state dict of the tensor that holds it (and others, if fused).
        heads: of its layer.
        cut: extracts it.
        part: of an MLP with experts: ``experts`` for a tensor with all of them, ``expert_3``, ``shared_expert``, or
            ``dense`` for an MLP next to them; ``None`` for all other projections.
    """

    layer: int
    role: Role
    tensor: str
    heads: Heads
    cut: Cut
    part: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its tensor and has no heads, so that its spectrum is the tensor's."""
        cut = (
            self.cut.keywords.get("cut") if isinstance(self.cut, partial) and self.cut.func is transposed else self.cut
        )
        return cut is whole

    def of(self, tensor: Tensor) -> Tensor:
        """Extract the projection from its tensor, as a view if possible.

        Args:
            tensor: the tensor with the name ``self.tensor``.

        Returns:
            query (H, E, D), key and value (G, E, D), output (H, D, E): one matrix per head, outputs by inputs. MLP:
            (K, D) for the lower and the gate projection, (D, K) for the upper one; one matrix per expert if stacked.

        Raises:
            BadInput: a shape that does not fit the number of heads or their size.
        """
        try:
            if tensor.dim() != (3 if self.part == "experts" else 2):
                raise ValueError("another number of axes")
            part = self.cut(tensor, self.heads)
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"{self.tensor} of shape {tuple(tensor.shape)} does not split into the {self.role} of "
                f"{self.heads.query} heads ({self.heads.key} for keys)",
                expected="weights and a configuration of the same model",
                remedy="check that config.json was saved with these weights",
            ) from error
        self._require_sizes(tensor, part)
        return part

    def _require_sizes(self, tensor: Tensor, part: Tensor) -> None:
        """Raise ``BadInput`` for a part that fits the number of heads, but not the size of a head or the width."""
        is_upper = self.role in ("output", "mlp_upper")
        width = part.shape[-2 if is_upper else -1]
        if self.heads.width not in (None, width):
            raise BadInput(
                f"{self.tensor} of shape {tuple(tensor.shape)} has the width {width} as the {self.role}, and the "
                f"model's width is {self.heads.width}",
                expected="weights stored as transformers stores them, with the configuration saved with them",
                remedy="if another library wrote them, with inputs and outputs the other way round, transpose them",
            )
        dim = part.shape[-1 if is_upper else -2]
        if self.heads.dim not in (None, dim) and self.role in HEAD_ROLES:
            raise BadInput(
                f"{self.tensor} has {dim} dimensions per head, and the model's heads have {self.heads.dim}: it "
                f"does not hold only the {self.role}",
                expected="a known kind of model, or tensors that hold only the projection in their name",
                remedy="leave out the ranks of heads",
            )

    def pieces(self, matrices: Tensor) -> Iterator[tuple[Projection, Tensor]]:
        """Yield each expert's projection and matrix where several are stacked, and otherwise this one."""
        if self.part != "experts":
            yield self, matrices
            return
        for number, matrix in enumerate(matrices):
            yield replace(self, part=f"expert_{number}"), matrix

    def joined(self, matrices: Tensor) -> Tensor:
        """Join one matrix per head into the whole projection, outputs by inputs.

        Heads are columns of the output projection and rows of the others.
        """
        return matrices.movedim(0, 1).flatten(1) if self.role == "output" else matrices.flatten(0, 1)


@dataclass(frozen=True)
class Family:
    """Models with the same names and layouts of weights.

    Args:
        name: of the family.
        model_types: values of ``model_type`` in ``config.json``.
        layer: the part of a tensor's name before the layer number.
        places: for each role, the part of the name after the layer number, and how to extract it.
    """

    name: str
    model_types: tuple[str, ...]
    layer: str
    places: Places

    @property
    def is_fused(self) -> bool:
        """Whether some tensor holds several projections, so that names do not determine the layout."""
        return len(self._rests) < len(self.places)

    @property
    def attention(self) -> Family:
        """The same family without its MLPs."""
        return replace(self, places={role: place for role, place in self.places.items() if role in HEAD_ROLES})

    def fits(self, names: Collection[str]) -> bool:
        """Whether there are layers and each has all tensors of the family."""
        found = self._found(names)
        layers = {(stack, layer) for stack, layer, _ in found}
        return bool(found) and len(found) == len(layers) * len(self._rests)

    def projections(
        self, names: Collection[str], heads: Heads, *, of_known_kind: bool = True
    ) -> tuple[Projection, ...]:
        """Return the family's projections among a state dict's names, by layer and role; empty if there are none.

        Args:
            names: of the state dict.
            heads: of a layer.
            of_known_kind: whether all layers have attention, as in the kinds of the family.

        Raises:
            BadInput: several stacks of layers, or layers that lack a tensor.
        """
        found, rests = self._found(names), self._rests
        if len(stacks := sorted({stack for stack, _, _ in found})) > 1:
            raise BadInput(
                f"there are several stacks of layers ({', '.join(stack or '(none)' for stack in stacks)})",
                expected="one stack, in which each layer has its own number",
                remedy="pass the names of one stack",
            )
        layers = sorted({layer for _, layer, _ in found})
        if of_known_kind:  # models of unknown kinds may have layers without attention in between
            missing = next((place for place, layer in enumerate(layers) if layer != place), None)
            layers = layers if missing is None else [missing]
        for layer in layers:
            if lacking := [rest for rest in sorted(rests) if (stacks[0], layer, rest) not in found]:
                raise BadInput(
                    f"layer {layer} has no {stacks[0]}{self.layer}.{layer}.{lacking[0]}",
                    expected=f"the {len(rests)} tensors that a layer of the family {self.name} has",
                    remedy="check that the weights are complete: joma scan --verify",
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
        """Return the names of the family's tensors by stack, layer, and the part after the layer number."""
        path = re.compile(rf"(?P<stack>(?:.*\.)?){re.escape(self.layer)}\.(?P<layer>\d+)\.(?P<rest>.+)")
        matches = [match for name in names if (match := path.fullmatch(name))]
        return {(m["stack"], int(m["layer"]), m["rest"]): m[0] for m in matches if m["rest"] in self._rests}


def query_rows(tensor: Tensor, heads: Heads) -> Tensor:
    """Split the outputs into H heads."""
    return tensor.unflatten(0, (heads.query, -1))


def key_rows(tensor: Tensor, heads: Heads) -> Tensor:
    """Split the outputs into G heads."""
    return tensor.unflatten(0, (heads.key, -1))


def output_columns(tensor: Tensor, heads: Heads) -> Tensor:
    """Split the inputs into H heads."""
    return tensor.unflatten(1, (heads.query, -1)).movedim(1, 0)


def whole(tensor: Tensor, heads: Heads) -> Tensor:
    """Return the tensor unchanged."""
    return tensor


def transposed(tensor: Tensor, heads: Heads, cut: Cut) -> Tensor:
    """Extract from a tensor stored as inputs by outputs, as in GPT-2."""
    return cut(tensor.T, heads)


def interleaved(tensor: Tensor, heads: Heads, part: int) -> Tensor:
    """Extract query (0), key (1) or value (2) from a tensor ordered by head first."""
    return tensor.unflatten(0, (heads.query, 3, -1))[:, part]


def stacked(tensor: Tensor, heads: Heads, part: int) -> Tensor:
    """Extract query (0), key (1) or value (2) from a tensor with all queries, then all keys, then all values."""
    blocks = tensor.unflatten(0, (heads.query + 2 * heads.key, -1))
    return blocks.split((heads.query, heads.key, heads.key))[part]


def half(tensor: Tensor, heads: Heads, part: int, cut: Cut = whole) -> Tensor:
    """Extract from the first (0) or second (1) half of the outputs with ``cut``."""
    return cut(tensor.unflatten(0, (2, -1))[part], heads)
