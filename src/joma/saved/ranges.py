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

    def __init__(self, file: RangedFile) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        if self._place < 0:
            raise OSError("a position before the start of the file")
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        stop = min(self._place + len(buffer), self._file.size)
        num_bytes = max(0, stop - self._place)
        buffer[:num_bytes] = self._file.read(self._place, stop) if num_bytes else b""
        self._place += num_bytes
        return num_bytes


def stream(file: RangedFile, at_once: int) -> io.BufferedReader:
    """Return a buffered, seekable stream of a file that reads ``at_once`` bytes in one request."""
    return io.BufferedReader(_Raw(file), at_once)


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self.path, self.name, self.size = path, str(path), path.stat().st_size
        self._meter = meter

    def read(self, start: int, stop: int) -> bytearray:
        """Read all bytes from ``start`` up to but not including ``stop``."""
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


def require_whole(file: RangedFile, places: Mapping[str, TensorPlace]) -> None:
    """Raise ``BadInput`` if a file ends before its last tensor does."""
    needed = max((place.stop for place in places.values()), default=0)
    if needed > file.size:
        raise unreadable(file.name, f"it was cut off: {file.size:,} of {needed:,} bytes are there")


def unreadable(name: str, reason: str) -> BadInput:
    """Return the error for a file that is damaged or is not a weight file."""
    return BadInput(f"{name} cannot be read: {reason}", expected="a complete weight file", remedy=WRITE_AGAIN)
