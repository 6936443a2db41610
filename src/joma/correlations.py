"""How well one quantity over tokens predicts another: weighted correlation, and the share that is left unexplained."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = torch.finfo(torch.float64).tiny


def correlation(first: Tensor, second: Tensor, weights: Tensor | None = None, given: Tensor | None = None) -> Tensor:
    """Return the correlation over the last axis; 0 where one of the two is constant.

    Args:
        first, second: (..., M).
        weights: (M,) of the entries, above 0; ``None`` for equal ones.
        given: (M,) a third quantity: the correlation is that of the parts that are left of the other two after the
            best affine fit of it (partial correlation).
    """
    first, second = _centred(first, weights), _centred(second, weights)
    if given is not None:
        third = torch.nn.functional.normalize(_centred(given, weights), dim=-1)
        first, second = (part - (part @ third)[..., None] * third for part in (first, second))
    return (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1)).clamp_min(_TINY)


def unexplained(
    predicted: Tensor, measured: Tensor, weights: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return ‖measured − scale · predicted‖ / ‖measured‖ over the last axis, both centred.

    Args:
        predicted, measured: (..., M).
        weights: (M,) of the entries, above 0; ``None`` for equal ones.
        scale: of the prediction; ``None`` for the best one that is not negative, with which the result is at most 1.
    """
    predicted, measured = _centred(predicted, weights), _centred(measured, weights)
    products = (predicted * measured).sum(-1, keepdim=True)
    best = (products / predicted.square().sum(-1, keepdim=True).clamp_min(_TINY)).clamp_min(0)
    left = measured - (best if scale is None else scale) * predicted
    return left.norm(dim=-1) / measured.norm(dim=-1).clamp_min(_TINY)


def _centred(values: Tensor, weights: Tensor | None) -> Tensor:
    """The entries minus their weighted mean, times the roots of their weights."""
    shares = values.new_ones(values.shape[-1]) if weights is None else weights
    shares = shares / shares.sum()
    return (values - (values @ shares)[..., None]) * shares.sqrt()
