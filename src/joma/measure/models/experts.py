"""Experts of MLPs, found by the names of their tensors: stacked in one tensor, or each with tensors of its own.

Axes: N experts, D width, K hidden units of an expert.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from torch import Tensor

from joma.errors import BadInput
from joma.measure.models.projections import Heads, Projection, Role
from joma.records import Row

_LAYER = re.compile(
    r"(?P<stack>(?:.*?\.)?)(?:layers|h|blocks|block)\.(?P<layer>\d+)\.(?P<rest>(?!.*att(?:n|ention)).+)"
)
"""The name of a tensor of a layer, except those of attention, which may have experts too (JetMoE)."""

_WEIGHT = r"(?P<name>\w+?)(?:\.weight)?"
_PLACES = {
    "expert": re.compile(rf"(?:.+\.)?experts\.(?:expert_)?(?P<number>\d+)\.{_WEIGHT}"),
    "experts": re.compile(rf"(?:.+\.)?experts\.{_WEIGHT}|(?:block_sparse_moe|moe|mlp)\.(?P<linear>\w+_linear)\.weight"),
    "shared_expert": re.compile(rf"(?:.+\.)?shared_(?:experts?|mlp)\.{_WEIGHT}"),
    "dense": re.compile(rf"(?:mlp|feed_forward)\.{_WEIGHT}"),
}
"""The parts of an MLP with experts, by the names of their tensors after the layer number."""

_ROLES: dict[str, tuple[Role, ...]] = {
    **dict.fromkeys(("gate_up_proj", "input_linear"), ("mlp_gate", "mlp_lower")),
    **dict.fromkeys(("gate_proj", "w1", "wi_0"), ("mlp_gate",)),
    **dict.fromkeys(("up_proj", "w3", "wi_1", "wi", "fc1"), ("mlp_lower",)),
    **dict.fromkeys(("down_proj", "w2", "wo", "fc2", "output_linear"), ("mlp_upper",)),
}
"""What the tensors of an expert hold, by their names; the lower projection without a gate may be named like a gate."""

_TRANSPOSED = ("gpt_oss", "llama4", "llama4_text", "aria", "aria_text", "openai_privacy_filter")
"""Kinds with experts stored as inputs by outputs, where the shape does not show it."""

_INTERLEAVED = ("gpt_oss",)
"""Kinds in which gate and lower projection alternate."""

_OF_EXPERTS = re.compile(r"(?:^|[._])(?:experts?|shared_mlp)(?:[._]|$)")
_NO_MATRIX = re.compile(r"bias|norm|router|scale|(?:^|[._])gate(?:\.weight)?$")


class _Found(NamedTuple):
    layer: int
    part: str
    name: str
    tensor: str


def expert_projections(kind: str, width: Any, names: Collection[str], heads: Heads) -> tuple[Projection, ...]:
    """Return the MLP projections of a model with experts, also those of its dense layers; empty without experts.

    Args:
        kind: the model's ``model_type``.
        width: D, if the configuration states it.
        names: of a state dict.
        heads: of a layer.

    Raises:
        BadInput: several stacks of layers with experts.
    """
    found, stacks = _found(names)
    if len(stacks) > 1:
        raise BadInput(
            f"there are several stacks of layers with experts ({', '.join(sorted(stacks))})",
            expected="one stack, in which each layer has its own number",
            remedy="pass the names of one stack, or measure only attention",
        )
    with_experts = {each.layer for each in found if each.part.startswith("expert")}
    if not with_experts:
        return ()
    gated = {(each.layer, each.part) for each in found if "mlp_lower" in _ROLES[each.name]}
    projections = []
    for layer, part, name, tensor in found:
        roles = _ROLES[name]
        for place, named in enumerate(roles):
            role = "mlp_lower" if named == "mlp_gate" and (layer, part) not in gated else named
            label = None if part == "dense" and layer not in with_experts else part
            size = width if isinstance(width, int) else None
            cut = partial(_matrices, kind=kind, width=size, role=role, half=place if len(roles) > 1 else None)
            projections.append(Projection(layer, role, tensor, heads, cut, label))
    return tuple(sorted(projections, key=lambda one: one.layer))


def unread_experts(names: Iterable[str], found: Iterable[Projection]) -> list[str]:
    """Return the names of tensors of experts that no projection holds; biases and routers are not counted."""
    held = {one.tensor for one in found}
    return [name for name in names if name not in held and _OF_EXPERTS.search(name) and not _NO_MATRIX.search(name)]


def with_means(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, and after them for each layer, projection and metric the mean over its experts."""
    values = defaultdict(list)
    for row in rows:
        if row.group is not None and row.group.startswith("expert_"):
            values[row[:4]].append(row.value)
        yield row
    for (layer, head, projection, metric), of_experts in values.items():
        yield Row(layer, head, projection, metric, fmean(of_experts))


def _found(names: Collection[str]) -> tuple[list[_Found], set[str]]:
    """Return the tensors of MLPs, and the stacks of layers with experts, of which only these are taken."""
    found: list[tuple[str, _Found]] = []
    for match in filter(None, map(_LAYER.fullmatch, names)):
        for part, place in _PLACES.items():
            if (inner := place.fullmatch(match["rest"])) is not None:
                of = inner.groupdict()
                name = of["name"] or of["linear"]
                label = f"expert_{of['number']}" if part == "expert" else part
                if name in _ROLES:
                    found.append((match["stack"], _Found(int(match["layer"]), label, name, match[0])))
                break
    stacks = {stack for stack, each in found if each.part.startswith("expert")}
    return [each for stack, each in found if stack in stacks], stacks


def _matrices(tensor: Tensor, heads: Heads, *, kind: str, width: int | None, role: Role, half: int | None) -> Tensor:
    """Return (…, K, D) or, for the upper projection, (…, D, K): outputs by inputs.

    Raises:
        ValueError: neither axis has the model's width.
    """
    is_upper = role == "mlp_upper"
    outputs, inputs = tensor.shape[-2:]
    of_width, other = (outputs, inputs) if is_upper else (inputs, outputs)
    if width is not None and width not in (of_width, other):
        raise ValueError(f"no axis of {width}")
    is_sure = width is not None and of_width != other
    if tensor.dim() == 3 and (of_width != width if is_sure else kind in _TRANSPOSED):
        tensor = tensor.mT
    if half is None:
        return tensor
    if kind in _INTERLEAVED:
        return tensor[..., half::2, :]
    return tensor.unflatten(-2, (2, -1))[..., half, :, :]
