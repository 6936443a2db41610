"""Find the tensors of a ``.bin`` file without running the pickle inside.

The pickle is interpreted with an allow-list of names, whose stand-ins only describe tensors; anything else is refused
by name. Storages are not read, so tensors can be read by byte ranges as from safetensors.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import torch

from joma.errors import BadInput
from joma.saved.inert import interpreted, require_keys
from joma.saved.ranges import RangedFile, TensorPlace, require_shape, require_whole, stream, unreadable

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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_AROUND = ("state_dict", "model", "module")
"""Keys under which training loops save the weights among other things."""

_OF_TRAINING = ("optim", "sched", "scaler", "rng", "loss", "metric")
"""Parts of the keys of things that are not weights, though they may hold matrices."""

_PLAIN = (
    *(("builtins", "set"), ("__builtin__", "set"), ("_codecs", "encode"), ("argparse", "Namespace")),
    ("torch", "device"),
    *((module, f"{kind}Path") for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
)
"""Classes and functions of settings that are saved next to weights; what they make is ignored."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ALIGNMENT = 64
_DESCRIPTORS = {0, 16, 24}
"""Bytes between the content of a record and the next record."""

_MOST_PICKLE = 1 << 24
"""Bytes of a pickle: 100,000 tensors. Some bytes stand for a hundred times their number of bytes of memory."""

_MOST_NESTED = 8
"""Levels of mappings in which a training loop may have saved the weights."""

_AT_ONCE = 1 << 14
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError, struct.error, RuntimeError, MemoryError)
"""Exceptions of interpreting random bytes; ``MemoryError`` when they state a length beyond the memory."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype


class _Described(NamedTuple):
    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(Exception):
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
        described, contents = _zip(file) if start == b"PK\3\4" else _legacy(file)
        places = {name: _place(key, entry, contents) for name, entry in _named(described, file.name).items()}
        if not places:
            raise ValueError("it names no tensors")
    except _Refused as error:
        raise BadInput(
            f"{file.name} is refused: its pickle {error}, and was not run",
            expected="a pickle that describes only tensors",
            remedy="use the model's safetensors file, or write its state dict alone with torch.save",
        ) from error
    except BadInput:
        raise
    except (zipfile.BadZipFile, ArithmeticError, EOFError, OSError) as error:
        raise unreadable(file.name, f"{type(error).__name__}: {error}") from error
    except _SENSELESS as error:
        raise unreadable(file.name, f"its pickle is malformed ({type(error).__name__}: {error})") from error
    require_whole(file, places)
    return places


def _stand_in(module: str, name: str) -> Any:
    """Return what stands for a class or function of a pickle: nothing of it is imported."""
    if (module, name) == ("collections", "OrderedDict") or name == "AttributeDict":  # Lightning's settings
        return _ordered
    if module in ("torch", "torch.storage") and name in _DTYPES:
        return _DTYPES[name]
    if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
        return dtype
    if module == "torch" and name == "Size":
        return require_shape
    if module == "torch._utils" and name in _REBUILT:
        return _REBUILT[name]
    if (module, name) in _PLAIN:
        return lambda *_: None
    raise _Refused(f"refers to {module}.{name}")


def _storage(pid: Any) -> _Storage:
    kind, dtype, key, *_ = pid
    if kind != "storage" or not isinstance(dtype, torch.dtype) or (len(pid) > 5 and pid[5] is not None):
        raise _Refused(f"refers to a {kind} of {dtype}")
    return _Storage(str(key), dtype)


def _ordered(entries: Any = ()) -> dict[Any, Any]:
    require_keys(key for key, _ in entries)
    return dict(entries)


def _tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> _Described:
    require_shape((offset,))
    return _Described(storage, storage.dtype, offset, require_shape(shape), require_shape(stride))


def _tensor_of_bytes(
    storage: _Storage, offset: int, shape: Any, stride: Any, _: Any, __: Any, dtype: torch.dtype, *___: Any
) -> _Described:
    return _tensor(_Storage(storage.key, dtype), offset, shape, stride)


_REBUILT = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_of_bytes,
    "_rebuild_parameter": lambda data, *_: data,
}


def _named(described: Any, file: str) -> Mapping[str, _Described]:
    """Return the state dict by name: the mapping that holds matrices, within others that a training loop saved."""
    if not isinstance(described, Mapping):
        raise _no_state_dict(file, f"a {type(described).__name__}, not tensors by name")
    held = dict(_mappings_of_tensors(described, (), set()))
    with_matrices = {path: of for path, of in held.items() if any(len(entry.shape) > 1 for entry in of.values())}
    found = with_matrices or held
    usual = [path for path in found if all(name in _AROUND for name in path)]
    # What lies within a usual name is the model, rather than a matrix outside.
    deepest = max(map(len, usual), default=0)
    chosen = [path for path in usual if len(path) == deepest] or list(found)
    if len(chosen) > 1:
        names = ", ".join(".".join(path) or "the outermost" for path in chosen[:4])
        raise _no_state_dict(file, f"several mappings of tensors ({names})")
    return found[chosen[0]] if chosen else {}


def _no_state_dict(file: str, held: str) -> BadInput:
    remedy = "save the state dict of the model alone: torch.save(model.state_dict(), ...)"
    return BadInput(f"{file} holds {held}", expected="one mapping of names to tensors", remedy=remedy)


def _mappings_of_tensors(
    described: Mapping[Any, Any], path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, _Described]]]:
    """Yield the mappings that hold tensors, with the keys that lead to them; those of an optimiser are left out."""
    seen.add(id(described))  # a mapping may hold itself, or one that is held twice
    if found := {str(name): value for name, value in described.items() if isinstance(value, _Described)}:
        yield path, found
    if len(path) < _MOST_NESTED:
        for name, value in described.items():
            of_training = any(part in str(name).lower() for part in _OF_TRAINING)
            if isinstance(value, Mapping) and id(value) not in seen and not of_training:
                yield from _mappings_of_tensors(value, (*path, str(name)), seen)


def _place(key: str, described: _Described, contents: Mapping[str, range]) -> TensorPlace:
    storage, dtype, offset, shape, stride = described
    if len(shape) != len(stride):
        raise ValueError(f"a tensor of shape {shape} with strides {stride}")
    num_entries = math.prod(shape)
    reach = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if num_entries else 0
    within = contents[storage.key]
    start = within.start + offset * dtype.itemsize
    stop = start + reach * dtype.itemsize
    if num_entries and stop > within.stop:
        raise ValueError(f"a tensor of shape {shape} with strides {stride} at {offset} is larger than its storage")
    steps = [math.prod(size or 1 for size in shape[axis + 1 :]) for axis in range(len(shape))]
    dense = all(size == 1 or step == usual for size, step, usual in zip(shape, stride, steps, strict=True))
    return TensorPlace(key, dtype, shape, start, stop, None if dense or not num_entries else stride)


def _zip(file: RangedFile) -> tuple[Any, dict[str, range]]:
    with zipfile.ZipFile(stream(file, _AT_ONCE)) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.infolist()):
            raise ValueError("it has two records with the same name")
        description = next((record for name, record in records.items() if name.endswith("/data.pkl")), None)
        if description is None:
            raise ValueError("it holds no data.pkl")
        folder = description.filename.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in records:
            raise BadInput(
                f"{file.name} is a scripted module, with code as well as weights",
                expected="a state dict",
                remedy="write one: torch.save(torch.jit.load(file).state_dict(), another_file)",
            )
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
            raise ValueError("it is compressed, which torch.save never does")
        if description.file_size > _MOST_PICKLE:
            raise ValueError(f"its data.pkl has {description.file_size:,} bytes")
        order = records.get(f"{folder}byteorder")
        if order is not None and (order.file_size > 6 or archive.read(order) != b"little"):
            raise ValueError("it was written on a big-endian machine")
        described = interpreted(io.BytesIO(archive.read(description)), _stand_in, _storage)
    prefix = f"{folder}data/"
    stored = [record for name, record in records.items() if name.startswith(prefix)]
    starts = _starts(file, stored)
    return described, {
        record.filename.removeprefix(prefix): range(at, at + record.file_size) for record, at in starts.items()
    }


def _starts(file: RangedFile, records: list[zipfile.ZipInfo]) -> dict[zipfile.ZipInfo, int]:
    """Find where each record's content begins.

    Only the local header before each content states it, which costs one request per record. torch aligns all contents
    in the same way, so the first and the last header are read, and the others only if these are not as expected or if
    a record does not end where the next one begins.
    """
    foreseen = {record: _foreseen_start(record) for record in records}
    in_order = sorted(records, key=lambda record: record.header_offset)
    gaps = {after.header_offset - foreseen[one] - one.file_size for one, after in pairwise(in_order)}
    ends = (*in_order[:1], *in_order[-1:])
    if gaps <= _DESCRIPTORS and all(_start(file, record) == foreseen[record] for record in ends):
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


def _legacy(file: RangedFile) -> tuple[Any, dict[str, range]]:
    """Read the older format: five pickles in a row, then each storage's length and content."""
    storages: dict[str, _Storage] = {}

    def recorded(pid: Any) -> _Storage:
        storage = _storage(pid)
        return storages.setdefault(storage.key, storage)

    content: BinaryIO = stream(file, _AT_ONCE, _MOST_PICKLE)
    magic, protocol = (interpreted(content, _stand_in, _storage) for _ in range(2))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise ValueError("it was not written by torch.save")
    interpreted(content, _stand_in, _storage)  # sizes of C types on the machine that wrote it
    described = interpreted(content, _stand_in, recorded)
    keys = [str(key) for key in interpreted(content, _stand_in, _storage)]
    if len(set(keys)) < len(keys):
        raise ValueError("it has a storage twice")
    contents, at = {}, content.tell()
    for key in keys:
        (num_entries,) = struct.unpack("<q", file.read(at, at + 8))
        require_shape((num_entries,))
        contents[key] = range(at + 8, at + 8 + num_entries * storages[key].dtype.itemsize)
        at = contents[key].stop
    return described, contents
