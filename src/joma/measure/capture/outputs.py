"""Compare the outputs of a model while it is observed with its outputs otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from joma.errors import BadInput
from joma.measure.capture.calls import rounding_of_kernels


def agree(seen: Any, plain: Any, kept: Tensor | None = None) -> bool:
    """Whether two outputs of a model are equal at every position, up to reordered sums.

    Args:
        seen, plain: a tensor, or any nesting of tensors and other values, which are not compared.
        kept: (B, L) bool; the positions to compare in tensors of this shape (B, L, …), all by default.
    """
    ours, theirs = _numbers(seen), _numbers(plain)
    shapes = [part.shape for part in theirs]
    return [part.shape for part in ours] == shapes and all(
        _close(*((part[kept] if kept is not None and part.shape[:2] == kept.shape else part) for part in pair))
        for pair in zip(ours, theirs, strict=True)
    )


def changed_by_observation(model: nn.Module, plain: Any, run: Callable[[], Any]) -> BadInput:
    """Return the error for a model whose outputs change while it is observed, with the likely cause.

    Args:
        model: the model.
        plain: its output.
        run: runs the model unobserved again.
    """
    name = type(model).__name__
    remedy = "pass its queries and keys to joma.attention_statistics yourself, or measure only its weights"
    if not agree(run(), plain):
        problem, expected = f"{name} gives other outputs when it is run again", "the same outputs for the same inputs"
    else:
        problem = f"{name} computes something else while its attention is observed"
        expected = "a model that takes its attention function only from the registry of transformers"
    return BadInput(problem, expected=expected, remedy=remedy)


def _numbers(output: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()]


def _close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether the rows of two tensors, which may be NaN at the same places, are equal up to reordered sums."""
    error = (ours - theirs).double().masked_fill((ours == theirs) | (ours.isnan() & theirs.isnan()), 0)
    size = theirs.double().nan_to_num(0, 0, 0)
    error, size = (part.reshape(*part.shape[:-1], -1).norm(dim=-1) for part in (error, size))
    return bool((error <= rounding_of_kernels(ours) ** 0.5 * size).all())
