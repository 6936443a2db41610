"""Check attention kernels: their outputs against plain attention in float64 from the same queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from joma.errors import BadInput
from joma.measure.capture.calls import AttentionCall, Output, rounding_of_kernels
from joma.measure.capture.kernels import observing, unwrapped
from joma.measure.capture.reference import plain_attention
from joma.measure.capture.transformers import is_observable

_BLOCK = 128  # queries at a time
_ROUNDINGS = 4  # of softmax and of the output
_ROOM = 2  # right kernels have used a fifth of the rest at most


@dataclass(frozen=True)
class KernelCheck:
    """The largest error of the attention kernel of one layer on a batch.

    Args:
        layer: its number.
        name: of the module that attends.
        error: the largest difference of an output from ours, in units of the output.
        allowed: what rounding in the kernel's dtype explains, in the same units: of the largest value, twice the sum of
            four roundings, one for each unit of the largest score, and √S for the sum over S keys.
        num_queries: compared; padding and queries that see no key are not.
    """

    layer: int
    name: str
    error: float
    allowed: float
    num_queries: int

    @property
    def is_right(self) -> bool:
        """Whether the error is no larger than allowed; never if it is NaN."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        verdict = "right" if self.is_right else "WRONG"
        return f"layer {self.layer} ({self.name}): {verdict}, error {self.error:.2g} of {self.allowed:.2g} allowed"


@dataclass(frozen=True)
class KernelChecks:
    """The checks of all layers; as text, a line for each.

    Args:
        layers: in order of their numbers.
    """

    layers: tuple[KernelCheck, ...]

    @property
    def is_right(self) -> bool:
        """Whether the kernels of all layers are right."""
        return all(one.is_right for one in self.layers)

    def __str__(self) -> str:
        return "\n".join(map(str, self.layers))


def check_kernels(model: nn.Module, run: Callable[[nn.Module], Any]) -> KernelChecks:
    """Compare the output of each attention kernel call of a model with plain attention in float64.

    Queries, keys and values are those that the kernel receives, so that an error is that of the kernel, and not of the
    layers before it. The masks of kernels that hide theirs (flash, flex, one's own) are those that the model passes to
    ``sdpa`` in a second run.

    Args:
        model: any model that ``observing`` supports, in evaluation mode.
        run: runs the module that it is given on the batch.

    Raises:
        BadInput: no attention was observed, or the model attends in another order with ``sdpa``.
    """
    own: list[AttentionCall] = []
    hides_masks = not is_observable(unwrapped(model))
    with observing(model, lambda call: own.append(_copied(call)), with_outputs=True, takes_any=hides_masks) as inner:
        run(inner)
    if not own:
        raise BadInput(
            f"no attention was observed in {type(inner).__name__}",
            expected="a Transformer that uses transformers' registered attention functions, nn.MultiheadAttention, or "
            "torch's scaled_dot_product_attention",
            remedy="compare its kernel with scaled_dot_product_attention yourself",
        )
    calls: Sequence[AttentionCall] = _with_masks(model, run, own) if hides_masks else own
    found: dict[int, KernelCheck] = {}
    for call in calls:
        one, earlier = _checked(call), found.get(call.layer)
        if earlier is not None:
            worse = max(earlier, one, key=lambda each: each.error / each.allowed)
            one = replace(worse, num_queries=earlier.num_queries + one.num_queries)
        found[call.layer] = one
    return KernelChecks(tuple(found[layer] for layer in sorted(found)))


def _copied(call: AttentionCall) -> AttentionCall:
    """Copy the tensors that a model may change in place."""
    assert call.output is not None  # they were asked for
    v, out = call.output.v.detach().clone(), call.output.out.detach().clone()
    return replace(call, q=call.q.clone(), k=call.k.clone(), output=call.output._replace(v=v, out=out))


def _with_masks(
    model: nn.Module, run: Callable[[nn.Module], Any], own: Sequence[AttentionCall]
) -> Sequence[AttentionCall]:
    """Give calls the masks and settings that the model passes to an observable kernel."""
    seen: list[AttentionCall] = []
    with observing(model, seen.append, substitute=True) as inner:
        run(inner)
    if [(call.name, call.q.shape) for call in seen] != [(call.name, call.q.shape) for call in own]:
        raise BadInput(
            f"{type(inner).__name__} attends in other layers, or in another order, with sdpa than with its own kernel",
            expected="the same calls with both",
            remedy='load it with attn_implementation="sdpa" to check that kernel',
        )
    return [replace(call, q=mine.q, k=mine.k, output=mine.output) for call, mine in zip(seen, own, strict=True)]


def _checked(call: AttentionCall) -> KernelCheck:
    output, num_queries = call.output, call.q.shape[2]
    assert output is not None
    counted = call.queries().every.expand(len(call.q), call.q.shape[1], num_queries)
    errors = [
        torch.zeros((), dtype=torch.float64, device=call.q.device),
        *(
            _errors(call, output, rows, counted[:, :, rows]).max()
            for rows in torch.arange(num_queries, device=call.q.device).split(_BLOCK)
        ),
    ]
    error = torch.stack(errors).max()
    largest_score = _largest_score(call)
    rounding = rounding_of_kernels(output.out)
    size = output.v.double().abs().amax()
    if output.weight is not None:
        size = size * output.weight.detach().double().abs().sum(1).amax()
        size += 0 if output.bias is None else output.bias.detach().double().abs().amax()
    allowed = _ROOM * rounding * float(size) * (_ROUNDINGS + call.k.shape[2] ** 0.5 + largest_score)
    return KernelCheck(call.layer, call.name or "the model", float(error), allowed, int(counted.sum()))


def _errors(call: AttentionCall, output: Output, rows: Tensor, counted: Tensor) -> Tensor:
    """Return the largest error of each query's output, 0 for queries that do not count."""
    expected, _ = plain_attention(call, output.v, rows)
    if output.weight is None:
        return (output.out[:, :, rows] - expected).abs().amax(-1).masked_fill(~counted, 0)
    bias = None if output.bias is None else output.bias.detach().double()
    joined = nn.functional.linear(expected.transpose(1, 2).flatten(2), output.weight.detach().double(), bias)
    return (output.out[:, rows] - joined).abs().amax(-1).masked_fill(~counted.any(1), 0)


def _largest_score(call: AttentionCall) -> float:
    """Return a bound of the products whose sums are scores: no kernel's rounding is larger than theirs."""
    q, k = (part.double().abs() for part in (call.q, call.k))
    k = k.amax(2, keepdim=True).repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return float((q * k).sum(-1).amax()) * (call.q.shape[-1] ** -0.5 if call.scale is None else abs(call.scale))
