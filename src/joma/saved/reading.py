"""Tensors out of a weight file by byte ranges: only what is asked for is read, and no pickle is ever run.

Where tensors lie is found here for safetensors, in ``pickled`` for ``.bin`` and in ``gguf`` for GGUF.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from joma.saved.gguf import dequantised
from joma.saved.ranges import RangedFile, TensorPlace, require_whole, unreadable

_MOST_HEADER = 100_000_000
_GAP = 1 << 16
"""Bytes between two wanted tensors that are cheaper to read along than to ask twice for."""

_LONGEST = 1 << 26
"""Bytes of one request, unless a single tensor is larger: what is read twice over in memory stays small."""

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
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def safetensors_places(file: RangedFile, key: str, guess: int = _FIRST_READ) -> dict[str, TensorPlace]:
    """What a safetensors file holds and where, from its header alone.

    Args:
        file: the file.
        key: the name its tensors' places carry.
        guess: bytes to read at first, in the hope that the header is no longer.

    Raises:
        BadInput: malformed, or shorter than its header says.
    """
    if file.size < 8:
        raise unreadable(file.name, f"it has {file.size} bytes, too few for a header")
    first = file.read(0, min(guess, file.size))
    (length,) = struct.unpack("<Q", first[:8])
    end = 8 + length
    if length > _MOST_HEADER:
        raise unreadable(file.name, f"its header would be {length:,} bytes long; this is no safetensors file")
    if end > file.size:
        raise unreadable(file.name, f"it was cut off inside its header, after {file.size:,} of {end:,} bytes")
    header = first[8:end] if end <= len(first) else first[8:] + file.read(len(first), end)
    try:
        entries = json.loads(header)
        places = {name: _place(key, entry, end) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(file.name, f"its header is malformed ({type(error).__name__}: {error})") from error
    require_whole(file, places)
    return places


def _place(key: str, entry: Mapping, base: int) -> TensorPlace:
    dtype, shape = _SAFETENSORS_DTYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
    start, stop = map(int, entry["data_offsets"])
    if not 0 <= start <= stop or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{stop - start} bytes for {shape} of {dtype}")
    return TensorPlace(key, dtype, shape, base + start, base + stop)


def read_places(file: RangedFile, places: Mapping[str, TensorPlace]) -> dict[str, Tensor]:
    """Read tensors of one file, with neighbouring ones in one go.

    Args:
        file: the file that all places lie in.
        places: by tensor name.
    """
    found = {}
    for start, stop, names in _spans(places):
        content = memoryview(file.read(start, stop))
        for name in names:
            place = places[name]
            found[name] = tensor_from(content[place.start - start : place.stop - start], place)
    return {name: found[name] for name in places}


def tensor_from(content: memoryview, place: TensorPlace) -> Tensor:
    """A tensor from the very bytes that a place stands for; it keeps no more than its own alive."""
    if not place.num_entries:
        return torch.empty(place.shape, dtype=place.dtype)
    if place.quantised is not None:
        return dequantised(content, place)
    flat = torch.frombuffer(content, dtype=torch.uint8).clone().view(place.dtype)
    if place.stride is None:
        return flat.view(place.shape)
    return flat.as_strided(place.shape, place.stride).contiguous()


def beginning(place: TensorPlace, num_entries: int) -> TensorPlace:
    """The first entries of a tensor as a tensor of its own, where they lie together; otherwise the whole."""
    whole = place.quantised is not None or place.stride is not None
    if whole or place.num_entries <= num_entries:
        return place
    stop = place.start + num_entries * place.dtype.itemsize
    return TensorPlace(place.file, place.dtype, (num_entries,), place.start, stop)


def _spans(places: Mapping[str, TensorPlace]) -> Iterator[tuple[int, int, list[str]]]:
    """Ranges that hold all places, joined where little lies between."""
    start, stop, names = 0, -1, []
    for name in sorted(places, key=lambda name: places[name].start):
        place = places[name]
        if names and (place.start - stop > _GAP or place.stop - start > _LONGEST):
            yield start, stop, names
            names = []
        start, stop = (place.start, place.stop) if not names else (start, max(stop, place.stop))
        names.append(name)
    if names:
        yield start, stop, names


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Describe the first tensor that has a NaN or an infinity; ``None`` if there is no such tensor."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (num := int((~tensor.float().isfinite()).sum())):
            return f"{name} is NaN or infinite in {num:,} of {tensor.numel():,} entries"
    return None
