"""Find the tensors of a ``.bin`` file without running the pickle inside.

The pickle is interpreted with an allow-list of inert classes that can only describe tensors; anything else is refused
by name. Storages are not read, so tensors can be read by byte ranges as from safetensors.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from joma.errors import BadInput
from joma.saved.ranges import RangedFile, TensorPlace, require_whole, stream, unreadable

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_AROUND = ("state_dict", "model", "module")
"""Keys under which training loops save the weights among other things."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ALIGNMENT = 64
_MOST_PICKLE = 1 << 28
_AT_ONCE = 1 << 14
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError, struct.error, NotImplementedError, MemoryError)
"""Exceptions of interpreting random bytes; ``MemoryError`` when they state a length beyond the memory."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


class _Described(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(pickle.UnpicklingError):
    pass


def pickled_places(file: RangedFile, key: str) -> dict[str, TensorPlace]:
    """Find the tensors of a ``.bin`` file from its table of contents and its pickle.

    Args:
        file: written by ``torch.save``, as a zip file or in the format before torch 1.6.
        key: the file's name among those of its step.

    Raises:
        BadInput: damaged, or its pickle refers to anything other than tensors.
    """
    try:
        start = bytes(file.read(0, min(4, file.size)))
        described, starts = _zip(file) if start == b"PK\3\4" else _legacy(file)
        places = {name: _place(key, entry, starts) for name, entry in _named(described).items()}
        if not places:
            raise ValueError("it names no tensors")
    except _Refused as error:
        raise BadInput(
            f"{file.name} is refused: its pickle {error}, and was not run",
            expected="a pickle that describes only tensors",
            remedy="use the model's safetensors file, or ask its publisher for one",
        ) from error
    except BadInput:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile, ArithmeticError, EOFError, OSError, ImportError) as error:
        raise unreadable(file.name, f"{type(error).__name__}: {error}") from error
    except _SENSELESS as error:
        raise unreadable(file.name, f"its pickle is malformed ({type(error).__name__}: {error})") from error
    require_whole(file, places)
    return places


class _Description(pickle.Unpickler):
    """Builds inert records of tensors; refuses to look up anything else."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch" and name == "Size":
            return tuple
        if module == "torch._utils" and name in _REBUILT:
            return _REBUILT[name]
        raise _Refused(f"refers to {module}.{name}")

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or (len(pid) > 5 and pid[5] is not None):
            raise _Refused(f"refers to a {kind} of {dtype}")
        return _Storage(str(key), dtype)


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> _Described:
    return _Described(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


_REBUILT = {"_rebuild_tensor_v2": _tensor, "_rebuild_tensor": _tensor, "_rebuild_parameter": lambda data, *_: data}


def _named(described: Any) -> dict[str, _Described]:
    """Return the tensors by name, from within the mappings in which a training loop may have saved them."""
    while isinstance(described, Mapping):
        found = {str(name): value for name, value in described.items() if isinstance(value, _Described)}
        inner = next((described[name] for name in _AROUND if isinstance(described.get(name), Mapping)), None)
        if found or inner is None:
            return found
        described = inner
    raise ValueError(f"it holds a {type(described).__name__}, not tensors by name")


def _place(key: str, described: _Described, starts: Mapping[str, int]) -> TensorPlace:
    storage, offset, shape, stride = described
    if offset < 0 or any(number < 0 for number in (*shape, *stride)) or len(shape) != len(stride):
        raise ValueError(f"a tensor of shape {shape} with strides {stride} at {offset}")
    num_entries = math.prod(shape)
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if num_entries else 0
    start = starts[storage.key] + offset * storage.dtype.itemsize
    dense = reach == num_entries and torch.empty(shape, device="meta").stride() == stride
    stop = start + reach * storage.dtype.itemsize
    return TensorPlace(key, storage.dtype, shape, start, stop, None if dense or not num_entries else stride)


def _zip(file: RangedFile) -> tuple[Any, dict[str, int]]:
    with zipfile.ZipFile(stream(file, _AT_ONCE)) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("it is compressed, which torch.save never does")
        description = next((record for record in records if record.filename.endswith("/data.pkl")), None)
        if description is None:
            raise ValueError("it holds no data.pkl")
        if description.file_size > _MOST_PICKLE:
            raise ValueError(f"its data.pkl has {description.file_size:,} bytes")
        folder = description.filename.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        with archive.open(description) as pickle_inside:
            described = _Description(pickle_inside).load()
    prefix = f"{folder}data/"
    stored = [record for record in records if record.filename.startswith(prefix)]
    return described, {record.filename.removeprefix(prefix): at for record, at in _starts(file, stored).items()}


def _starts(file: RangedFile, records: list[zipfile.ZipInfo]) -> dict[zipfile.ZipInfo, int]:
    """Find where each record's content begins.

    Only the local header before each content states it, which costs one request per record. torch aligns all contents
    in the same way, so the first and the last header are read, and the others only if these are not as expected.
    """
    foreseen = {record: _foreseen_start(record) for record in records}
    if all(_start(file, record) == foreseen[record] for record in (*records[:1], *records[-1:])):
        return foreseen
    return {record: _start(file, record) for record in records}


def _foreseen_start(record: zipfile.ZipInfo) -> int:
    large = [number >= 0xFFFFFFFF for number in (record.file_size, record.header_offset)]
    extra = 4 + (4 + 8 * sum(large) if any(large) else 0)
    end = record.header_offset + 30 + len(record.filename.encode()) + extra
    return -(-end // _ALIGNMENT) * _ALIGNMENT


def _start(file: RangedFile, record: zipfile.ZipInfo) -> int:
    header = file.read(record.header_offset, record.header_offset + 30)
    if header[:4] != b"PK\3\4":
        raise ValueError(f"{record.filename} is not where the table of contents says")
    name_length, extra_length = struct.unpack("<HH", header[26:])
    return record.header_offset + 30 + name_length + extra_length


def _legacy(file: RangedFile) -> tuple[Any, dict[str, int]]:
    """Read the older format: five pickles in a row, then each storage's length and content."""
    storages: dict[str, _Storage] = {}

    class Recording(_Description):
        def persistent_load(self, pid: Any, /) -> _Storage:
            storage = super().persistent_load(pid)
            return storages.setdefault(storage.key, storage)

    content = stream(file, _AT_ONCE)
    magic, protocol = (_Description(content).load() for _ in range(2))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise pickle.UnpicklingError("it was not written by torch.save")
    _Description(content).load()  # sizes of C types on the machine that wrote it
    described = Recording(content).load()
    starts, at = {}, None
    for key in _Description(content).load():
        at = content.tell() if at is None else at
        (num_entries,) = struct.unpack("<q", file.read(at, at + 8))
        starts[str(key)] = at + 8
        at += 8 + num_entries * storages[str(key)].dtype.itemsize
    return described, starts
