"""Which queries are padding: those that the batch marks, or else those whose keys the mask hides.

Axes: B sequences, H heads, L queries, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from joma.measure.attention.visibility import Visibility

_MARKS = {
    "attention_mask": True,
    "src_key_padding_mask": False,
    "decoder_attention_mask": True,
    "tgt_key_padding_mask": False,
}
"""Arguments of models that mark each token, and whether they are true for tokens or for padding."""

_OF_DECODERS = ("decoder_", "tgt")


class Marks(NamedTuple):
    """What a batch marks as padding.

    Args:
        by_argument: (B, L) bool by the name of the argument; False for padding.
        is_of_two: whether there are an encoder and a decoder, whose sequences differ.
        is_silent: whether the batch has no mask at all, for a model of transformers, which takes one.
    """

    by_argument: Mapping[str, Tensor] = {}
    is_of_two: bool = False
    is_silent: bool = False

    @classmethod
    def by(cls, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Marks:
        """Read it from the arguments of a model; nothing from arguments that the model will refuse."""
        given = dict(kwargs)
        with suppress(TypeError, ValueError):
            given |= signature(model.forward).bind_partial(*args).arguments
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        marks = {
            name: (value != 0) == is_true
            for name, is_true in _MARKS.items()
            if (value := tensors.get(name)) is not None
        }
        of_decoder = [name.startswith(_OF_DECODERS) for name in tensors]
        configs = (getattr(module, "config", None) for module in model.modules())
        is_of_two = any(getattr(config, "is_encoder_decoder", False) is True for config in configs)
        is_of_two |= any(of_decoder) and not all(of_decoder)
        has_mask = any("mask" in name and value is not None for name, value in given.items())
        is_silent = _takes_marks(model) and not has_mask
        return cls({name: mark for name, mark in marks.items() if mark.dim() == 2}, is_of_two, is_silent)

    def of_queries(self, shape: tuple[int, int], *, is_cross: bool) -> list[Tensor]:
        """Return the marks that may be those of (B, L) queries."""
        return [
            mark
            for name, mark in self.by_argument.items()
            if mark.shape == shape and not (is_cross and self.is_of_two and not name.startswith(_OF_DECODERS))
        ]


def marked_models(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the transformers models within a module that is none: the arguments of each say what is padding."""
    for child in model.children() if not _takes_marks(model) else ():
        if _takes_marks(child):
            yield child
        else:
            yield from marked_models(child)


def _takes_marks(model: nn.Module) -> bool:
    return hasattr(model, "config") and "attention_mask" in signature(model.forward).parameters


class Padding(NamedTuple):
    """The queries that are padding.

    Args:
        is_padding: (B or 1, H or 1, L) bool.
        doubt: why this is a guess; empty if it is known.
    """

    is_padding: Tensor
    doubt: str = ""


class _Keys(NamedTuple):
    """Which keys are seen, (B or 1, H or 1, S) bool.

    Args:
        by_any: that a query sees.
        by_others: that the query of another position sees.
        by_earlier: that an earlier query sees.
    """

    by_any: Tensor
    by_others: Tensor
    by_earlier: Tensor

    @property
    def looks_ahead(self) -> Tensor:
        """Whether queries see later keys up to the last key that others see, so not in a prefix alone."""
        places = torch.arange(self.by_others.shape[-1], device=self.by_others.device)
        last = places.where(self.by_others, 0).amax(-1, keepdim=True)
        return self.by_earlier.gather(-1, last)


def padding_of(visibility: Visibility, like: Tensor, marks: Marks, *, is_cross: bool, is_guess: bool) -> Padding:
    """Return the queries that are padding.

    What the batch marks is padding, unless only what it marks is seen. In self-attention without marks, a query whose
    key is hidden from all queries is padding; one that only sees itself, or whose key only itself sees although others
    look past it, is taken for padding that a mask lets see itself, so that no softmax is over nothing. In a batch
    without masks none is padding: the model chooses the keys that it hides.

    Args:
        visibility: of the keys.
        like: queries, (B, H, L, E).
        marks: of the batch.
        is_cross: whether keys belong to another sequence than queries.
        is_guess: whether ``is_cross`` is a guess.
    """
    of_queries = marks.of_queries((like.shape[0], visibility.num_queries), is_cross=is_cross)
    nothing = torch.zeros(1, 1, visibility.num_queries, dtype=torch.bool, device=like.device)
    is_square = like.shape[0] == visibility.num_queries  # marks may be of queries by keys
    is_of_queries = bool(of_queries) and (is_cross or not (marks.is_of_two or is_square))
    has_keys = visibility.num_queries == visibility.num_keys and visibility.mask is not None
    if is_of_queries and not (has_keys and is_guess):
        return Padding(~of_queries[0][:, None])
    if not has_keys:
        return Padding(nothing)
    keys = _keys(visibility, like)
    if is_of_queries:
        mark = of_queries[0][:, None]
        if is_cross and not mark.all() and bool((keys.by_any == mark).all()):
            return Padding(nothing, _OF_KEYS)
        is_contrary = (keys.by_others.any(-1) & ~(keys.by_others & mark).any(-1)).any()  # true for padding
        if is_cross or not is_contrary:
            return Padding(~mark)
    fitting = [mark for mark in of_queries if not (keys.by_others & ~mark[:, None]).any()]
    if fitting:
        return Padding(~min(fitting, key=lambda mark: int(mark.sum()))[:, None])
    hidden = ~keys.by_any
    if is_cross:
        return Padding(nothing, _CROSS if is_guess and bool(hidden.any()) else "")
    itself = _only_itself(visibility, like, keys)
    if marks.is_silent:
        return Padding(nothing, _SILENT if (hidden | itself).any() else "")
    if itself.any():
        return Padding(hidden | itself, _ITSELF)
    return Padding(hidden, _SELF if (is_guess and bool(hidden.any())) or _is_scattered(hidden) else "")


_CROSS = "all queries count, because they differ from the keys, but some keys are hidden as padding is"
_OF_KEYS = "all queries count, because they differ from the keys, and what the batch marks are the keys"
_SELF = "queries whose keys are hidden from all queries are left out, as if they were padding"
_SILENT = "all queries count, because the batch has no mask, but some keys are hidden as padding is"
_ITSELF = "queries whose keys no other query sees are left out, as if they were padding"


def _is_scattered(hidden: Tensor) -> bool:
    """Whether the keys that are seen are no single run, so that some hidden ones are neither first nor last."""
    seen = ~hidden
    num_runs = seen[..., 0] + (seen[..., 1:] & hidden[..., :-1]).sum(-1)
    return bool((num_runs > 1).any())


def _keys(visibility: Visibility, like: Tensor) -> _Keys:
    num, parts = visibility.num_queries, []
    positions = torch.arange(num, device=like.device)
    one_row = visibility.is_whole and not visibility.is_causal
    for rows in [slice(0, 1)] if one_row else visibility.row_blocks():
        bias = visibility.bias(rows, slice(0, num), like)
        assert bias is not None  # there is a mask
        visible = (bias > -torch.inf).expand(*bias.shape[:2], rows.stop - rows.start, num)
        if one_row:  # which holds for every query
            seen = visible[..., 0, :]
            return _Keys(seen, seen & (num > 1), seen & (positions > 0))
        back = positions[rows, None] - positions
        parts.append([visible.any(-2), (visible & (back != 0)).any(-2), (visible & (back < 0)).any(-2)])
    return _Keys(*(torch.stack(part).any(0) for part in zip(*parts, strict=True)))


def _only_itself(visibility: Visibility, like: Tensor, keys: _Keys) -> Tensor:
    """Return the queries whose keys only they see, and that seem to be padding; (B or 1, H or 1, L)."""
    alone = keys.by_any & ~keys.by_others
    if not alone.any():
        return alone
    census = visibility.census(like)
    first = census.first.expand(*census.first.shape[:2], visibility.num_queries)
    last = torch.full_like(first[..., :1], visibility.num_queries)
    later = torch.cat([first, last], -1).flip(-1).cummin(-1).values.flip(-1)[..., 1:]
    passed = alone & (later < torch.arange(visibility.num_queries, device=like.device))
    passed[..., 1:] |= alone[..., 1:] & passed[..., :-1]  # the last one, which no query can look past
    found = alone & ((census.num_visible == 1) | passed | keys.looks_ahead)
    return found & keys.by_others.any(-1, keepdim=True)
