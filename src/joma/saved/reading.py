"""Read tensors of a weight file by byte ranges: only the requested ones, and without running a pickle.

The positions of tensors are found here for safetensors, in ``pickled`` for ``.bin`` and in ``gguf`` for GGUF.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from joma.errors import BadInput
from joma.saved.gguf import dequantised
from joma.saved.ranges import WRITE_AGAIN, RangedFile, TensorPlace, require_shape, require_whole, unreadable

Name = TypeVar("Name", bound=Hashable)

_MOST_HEADER = 1 << 24
"""Bytes of JSON that is decoded: 100,000 tensors. Decoded JSON takes up to thirty times as many bytes of memory."""

_POINTER = b"version https://git-lfs"
GAP = 1 << 16
"""Largest gap in bytes between two requested tensors that are read in one request."""

_LONGEST = 1 << 26
"""Largest request in bytes, unless a single tensor is larger; it bounds the memory for a second copy."""

_FIRST_READ = 1 << 14
_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def safetensors_places(file: RangedFile, key: str, guess: int = _FIRST_READ) -> dict[str, TensorPlace]:
    """Find the tensors of a safetensors file from its header.

    Args:
        file: the file.
        key: the file's name among those of its step.
        guess: how many bytes to read at first; a second request is needed if the header is longer.

    Raises:
        BadInput: malformed, or shorter than its header states.
    """
    if file.size < 8:
        raise unreadable(file.name, f"it has {file.size} bytes, too few for a header")
    first = file.read(0, min(guess, file.size))
    if first.startswith(_POINTER):
        raise BadInput(
            f"{file.name} is not the file but a pointer of Git LFS to it",
            expected="the file",
            remedy="fetch it: git lfs pull",
        )
    (length,) = struct.unpack("<Q", first[:8])
    end = 8 + length
    if length > _MOST_HEADER:
        raise unreadable(file.name, f"its header would have {length:,} bytes; it is not a safetensors file")
    if end > file.size:
        raise unreadable(file.name, f"it was cut off inside its header, after {file.size:,} of {end:,} bytes")
    header = first[8:end] if end <= len(first) else first[8:] + file.read(len(first), end)
    try:
        decoded = _object(json.loads(header, object_pairs_hook=_unique))
        entries = {name: entry for name, entry in decoded.items() if name != "__metadata__"}
        if other := {str(entry["dtype"]): name for name, entry in entries.items()}.keys() - _SAFETENSORS_DTYPES.keys():
            raise _packed(file.name, entries, min(other))
        places = {name: _place(key, entry, end) for name, entry in entries.items()}
        _require_in_a_row(places, end, file.size)
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(file.name, f"its header is malformed ({type(error).__name__}: {error})") from error
    require_whole(file, places)
    return places


def json_of(file: RangedFile) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        BadInput: no JSON, or too long.
    """
    try:
        if file.size > _MOST_HEADER:
            raise ValueError(f"it has {file.size:,} bytes")
        content = bytes(file.read(0, file.size))
        return _object(json.loads(content))
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        problem = f"{file.name} cannot be read ({error})"
        raise BadInput(problem, expected="a JSON object", remedy=WRITE_AGAIN) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has an entry twice")
    return found


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"it holds a {type(data).__name__}")
    return data


def _packed(file: str, entries: Mapping[str, Mapping], dtype: str) -> BadInput:
    name = next(name for name, entry in entries.items() if entry["dtype"] == dtype)
    return BadInput(
        f"{file} holds {name} in {dtype}, a packed type or one that torch does not have",
        expected="weights in float32, float16 or bfloat16",
        remedy="dequantise them with the tool that wrote them, or take the weights from before they were quantised",
    )


def _require_in_a_row(places: Mapping[str, TensorPlace], start: int, size: int) -> None:
    """Raise ``ValueError`` for tensors with gaps or overlaps, which the library of safetensors refuses."""
    for name in sorted(places, key=lambda name: (places[name].start, places[name].stop)):
        if places[name].start != start:
            raise ValueError(f"{name} does not begin where the tensor before it ends")
        start = places[name].stop
    if start < size:
        raise ValueError(f"{size - start:,} bytes after the last tensor")


def _place(key: str, entry: Mapping, base: int) -> TensorPlace:
    dtype, shape = _SAFETENSORS_DTYPES[entry["dtype"]], require_shape(entry["shape"])
    start, stop = require_shape(entry["data_offsets"])
    if start > stop or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{stop - start} bytes for {shape} of {dtype}")
    return TensorPlace(key, dtype, shape, base + start, base + stop)


def read_places(file: RangedFile, places: Mapping[Name, TensorPlace], gap: int = GAP) -> dict[Name, Tensor]:
    """Read tensors of one file, with one request for tensors that are close to each other.

    Args:
        file: the file that holds all of them.
        places: their positions by name.
        gap: largest gap in bytes between two tensors that are read in one request.
    """
    found = {}
    for start, stop, names in _spans(places, gap):
        content = memoryview(file.read(start, stop))
        for name in names:
            place = places[name]
            found[name] = tensor_from(content[place.start - start : place.stop - start], place)
    return {name: found[name] for name in places}


def tensor_from(content: memoryview, place: TensorPlace) -> Tensor:
    """Return a tensor from its bytes, of which it keeps a copy."""
    if not place.num_entries:
        return torch.empty(place.shape, dtype=place.dtype)
    if place.quantised is not None:
        return dequantised(content, place)
    flat = torch.frombuffer(content, dtype=torch.uint8).clone().view(place.dtype)
    if place.stride is None:
        return flat.view(place.shape)
    return flat.as_strided(place.shape, place.stride).contiguous()


def beginning(place: TensorPlace, num_entries: int) -> TensorPlace:
    """Return the first entries of a tensor as a flat tensor; all of it if it is quantised or not contiguous."""
    if place.quantised is not None or place.stride is not None or place.num_entries <= num_entries:
        return place
    return replace(place, shape=(num_entries,), stop=place.start + num_entries * place.dtype.itemsize)


def ends(place: TensorPlace, num_entries: int) -> tuple[TensorPlace, ...] | None:
    """Return the first and the last entries of a tensor as flat tensors, or all of a short one.

    A quantised tensor, and one that is not contiguous, can only be read whole: ``None``.
    """
    if place.quantised is not None or place.stride is not None:
        return None
    if place.num_entries <= 2 * num_entries:
        return (place,)
    last = replace(place, shape=(num_entries,), start=place.stop - num_entries * place.dtype.itemsize)
    return beginning(place, num_entries), last


def _spans(places: Mapping[Name, TensorPlace], gap: int) -> Iterator[tuple[int, int, list[Name]]]:
    """Yield ranges of bytes with the names of the tensors in them; tensors with a small gap share a range."""
    start, stop = 0, -1
    names: list[Name] = []
    for name in sorted(places, key=lambda name: places[name].start):
        place = places[name]
        if names and (place.start - stop > gap or place.stop - start > _LONGEST):
            yield start, stop, names
            names = []
        start, stop = (place.start, place.stop) if not names else (start, max(stop, place.stop))
        names.append(name)
    if names:
        yield start, stop, names


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ by more than the rounding to the shorter of their dtypes."""
    if one.shape != other.shape:
        return True
    coarse = min((one.dtype, other.dtype), key=lambda dtype: dtype.itemsize)
    ours, theirs = (tensor.to(coarse).contiguous().view(torch.uint8) for tensor in (one, other))
    return not torch.equal(ours, theirs)


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Describe the first tensor that has a NaN or an infinity; ``None`` if there is no such tensor."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (num := int((~tensor.float().isfinite()).sum())):
            return f"{name} is NaN or infinite in {num:,} of {tensor.numel():,} entries"
    return None
