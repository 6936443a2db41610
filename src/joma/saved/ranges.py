"""Files that are read in part, on disk or on a hub, and where a tensor lies in one."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from joma.errors import BadInput


class RangedFile(Protocol):
    """A file that can be read in part.

    Args:
        name: for messages.
        size: bytes.
    """

    name: str
    size: int

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes ``start <= place < stop``, all of them."""
        ...


@dataclass
class Meter:
    """Counts the bytes that were really read."""

    bytes_read: int = 0


class _Raw(io.RawIOBase):
    """A ranged file as the standard library wants one."""

    def __init__(self, file: RangedFile) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        if self._place < 0:
            raise OSError("a place before the beginning")
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        stop = min(self._place + len(buffer), self._file.size)
        num_bytes = max(0, stop - self._place)
        buffer[:num_bytes] = self._file.read(self._place, stop) if num_bytes else b""
        self._place += num_bytes
        return num_bytes


def stream(file: RangedFile, at_once: int) -> io.BufferedReader:
    """A ranged file to be read on and on or sought through, ``at_once`` bytes a request."""
    return io.BufferedReader(_Raw(file), at_once)


class LocalFile:
    """A file on this machine."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self.path, self.name, self.size = path, str(path), path.stat().st_size
        self._meter = meter

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes ``start <= place < stop``."""
        content = bytearray(stop - start)
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            there, view = 0, memoryview(content)
            while there < len(content) and (more := file.readinto(view[there:])):
                there += more
        self._meter.bytes_read += there
        if there != len(content):
            raise unreadable(self.name, f"it ends at byte {start + there:,} of {stop:,}")
        return content


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a file.

    Args:
        file: name of the file among the step's files.
        dtype: as stored, or float32 for a quantised one.
        shape: axes in torch's order.
        start, stop: bytes in the file.
        stride: in entries, where rows are not simply one after the other.
        quantised: name of a GGUF type that has to be taken apart.
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
        """Numbers in the tensor."""
        return math.prod(self.shape)


def require_whole(file: RangedFile, places: Mapping[str, TensorPlace]) -> None:
    """Refuse a file that ends before its last tensor does."""
    needed = max((place.stop for place in places.values()), default=0)
    if needed > file.size:
        raise unreadable(file.name, f"it was cut off: {file.size:,} of {needed:,} bytes are there")


def unreadable(name: str, reason: str) -> BadInput:
    """The error for a weight file that is damaged or none at all."""
    return BadInput(
        f"{name} cannot be read: {reason}",
        expected="a whole weight file",
        remedy="fetch or write it again, or leave this step out",
    )
