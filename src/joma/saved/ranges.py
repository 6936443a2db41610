"""Files that are read in part, and the position of a tensor in a file."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from joma.errors import BadInput

WRITE_AGAIN = "download or write it again, or leave out this step"
"""The remedy for damaged files."""

_MOST_AXES = 64
_MOST_ENTRIES = (1 << 62) - 1
_MOST_REPEATED = 8
"""How often tensors may use each byte of a file on average: tied weights use them twice."""

_MOST_EXPANDED = 1 << 26
"""Bytes of tensors with the same entries along an axis, which a small file may state."""


class RangedFile(Protocol):
    """A file that can be read in part.

    Args:
        name: for messages.
        size: in bytes.
    """

    name: str
    size: int

    def read(self, start: int, stop: int) -> bytearray:
        """Read all bytes from ``start`` up to but not including ``stop``."""
        ...


@dataclass
class Meter:
    """Counts the bytes that were read from disk or received from a hub."""

    bytes_read: int = 0


class _Raw(io.RawIOBase):
    """A ``RangedFile`` as a raw stream of the standard library."""

    def __init__(self, file: RangedFile, size: int) -> None:
        self._file, self._size, self._place = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if self._place < 0:
            raise OSError("a position before the start of the file")
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        stop = min(self._place + len(buffer), self._size)
        num_bytes = max(0, stop - self._place)
        buffer[:num_bytes] = self._file.read(self._place, stop) if num_bytes else b""
        self._place += num_bytes
        return num_bytes


class _Stream(io.BufferedReader):
    """A buffered stream that allocates no more than its file has, whatever number of bytes is asked for."""

    def __init__(self, raw: _Raw, at_once: int, size: int) -> None:
        super().__init__(raw, at_once)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, self._size))


def stream(file: RangedFile, at_once: int, most: int | None = None) -> io.BufferedReader:
    """Return a buffered, seekable stream of a file.

    Args:
        file: the file.
        at_once: bytes of one request.
        most: bytes after which the stream ends; ``None`` for the whole file.
    """
    size = file.size if most is None else min(most, file.size)
    return _Stream(_Raw(file, size), at_once, size)


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self.path, self.name, self.size = path, str(path), path.stat().st_size
        self._meter = meter

    def read(self, start: int, stop: int) -> bytearray:
        """Read all bytes from ``start`` up to but not including ``stop``."""
        require_within(self, start, stop)
        content = bytearray(stop - start)
        with self.path.open("rb") as file:
            file.seek(start)
            num_read = file.readinto(content)
        self._meter.bytes_read += num_read
        if num_read != len(content):
            raise unreadable(self.name, f"it ends at byte {start + num_read:,} of {stop:,}")
        return content


@dataclass(frozen=True)
class TensorPlace:
    """The position of a tensor in a file.

    Args:
        file: name of the file among the step's files.
        dtype: as stored; float32 for a quantised tensor.
        shape: axes in torch's order.
        start, stop: first byte, and the byte after the last.
        stride: in entries, where the tensor is not contiguous.
        quantised: the GGUF type of a tensor that has to be dequantised.
    """

    file: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    stride: tuple[int, ...] | None = None
    quantised: str | None = None

    @property
    def num_entries(self) -> int:
        """The number of entries of the tensor."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """The size of the tensor in memory, as stored but contiguous."""
        return self.num_entries * self.dtype.itemsize


def require_shape(numbers: Any) -> tuple[int, ...]:
    """Return the sizes of axes, or other counts, that a file states.

    Raises:
        ValueError: no list of whole numbers from 0 on, more axes than torch allows, or more entries than it can count.
    """
    if not isinstance(numbers, list | tuple) or len(numbers) > _MOST_AXES:
        raise ValueError(f"a shape that is no list of at most {_MOST_AXES} sizes")
    if not all(isinstance(number, int) and 0 <= number <= _MOST_ENTRIES for number in numbers):
        raise ValueError("a shape with sizes that are no whole numbers from 0 on, or too large")
    if math.prod(number or 1 for number in numbers) > _MOST_ENTRIES:
        raise ValueError("a shape with too many entries")
    return tuple(numbers)


def require_within(file: RangedFile, start: int, stop: int) -> None:
    """Raise ``BadInput`` for a range of bytes that a file does not have."""
    if not 0 <= start <= stop <= file.size:
        raise unreadable(file.name, f"it ends at byte {file.size:,}, and bytes {start:,} to {stop:,} are needed")


def require_whole(file: RangedFile, places: Mapping[str, TensorPlace]) -> None:
    """Raise ``BadInput`` if a file ends before its last tensor does, or if its tensors would be far larger than it."""
    needed = max((place.stop for place in places.values()), default=0)
    if min((place.start for place in places.values()), default=0) < 0:
        raise unreadable(file.name, "a tensor begins before the file")
    if needed > file.size:
        raise unreadable(file.name, f"it was cut off: {file.size:,} of {needed:,} bytes are there")
    num_bytes = sum(
        place.num_bytes if place.quantised is None else place.stop - place.start for place in places.values()
    )
    if num_bytes > _MOST_REPEATED * file.size + _MOST_EXPANDED:
        raise unreadable(file.name, f"its {file.size:,} bytes state tensors of {num_bytes:,} bytes")


def unreadable(name: str, reason: str) -> BadInput:
    """Return the error for a file that is damaged or is not a weight file."""
    return BadInput(f"{name} cannot be read: {reason}", expected="a complete weight file", remedy=WRITE_AGAIN)
