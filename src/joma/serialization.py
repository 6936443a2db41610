"""JSON and YAML, decoded in one place, checked against a declared shape, and protected by a checksum.

Whatever a file holds, the result is data of the declared shape or a ``ValueError``: data that is nested without end
or holds no finite numbers gets no further.
"""

from __future__ import annotations

import json
import math
import types
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MOST_NESTED = 100
"""Levels of lists and mappings that a text may have; joma's own files have fewer than ten."""

CHECKSUM = "crc32"
"""The entry of a mapping that holds the checksum of the others."""

_WORDS = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", type(None): "null"}


def decoded(text: str | bytes, mapping: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> Any:
    """Decode JSON.

    Args:
        text: the JSON.
        mapping: makes a mapping of its pairs; if ``None``, the last pair with a key counts.

    Raises:
        ValueError: no JSON, NaN or infinity, which JSON does not have, or more than ``MOST_NESTED`` levels.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=mapping)
    except RecursionError as error:
        raise _too_deep() from error
    level = [data]
    for _ in range(MOST_NESTED):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [entry for part in inner for entry in part if isinstance(entry, dict | list)]
        if not level:
            return data
    raise _too_deep()


def decoded_yaml(text: str) -> Any:
    """Decode YAML without tags, and without aliases, which can stand for data of any size or within itself.

    Raises:
        ValueError: no YAML, tags, aliases, or more than ``MOST_NESTED`` levels.
    """
    import yaml

    require_plain_yaml(text)
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML ({' '.join(str(error).split())})") from error


def require_plain_yaml(text: str) -> None:
    """Raise ``ValueError`` for text that is no YAML, and for YAML that ``decoded_yaml`` refuses."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"*{event.anchor} refers to another part of the text")
            if getattr(event, "tag", None) is not None:
                raise ValueError(f"the tag {event.tag} asks for more than texts, numbers, lists and mappings")
            if depth > MOST_NESTED:
                raise _too_deep()
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"it is not YAML ({' '.join(str(error).split())})") from error


def shaped(data: Any, shape: type[T], *, ignored: Collection[str] = ()) -> T:
    """Return plain data as an instance of a type.

    Records (dataclasses and named tuples) are built from mappings of their fields; lists become tuples where the type
    is one.

    Args:
        data: what ``decoded`` returns.
        shape: a record, ``dict[str, Any]``, ``tuple[float, ...]`` or ``int``.
        ignored: names of entries that may stand in the mapping of a record without being a field.

    Raises:
        ValueError: the data has another shape, with the first place where it differs.
    """
    return _shaped(data, shape, "", ignored)


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with its checksum as the last entry.

    Raises:
        ValueError, TypeError: NaN or infinity, which JSON does not have, or an entry that is no plain data.
    """
    return {**body, CHECKSUM: _checksum(body)}


def unsealed(data: Any) -> dict[str, Any]:
    """Return the mapping that was ``sealed``; raise ``ValueError`` if it has no checksum or a wrong one."""
    body = dict(shaped(data, dict[str, Any]))
    found = body.pop(CHECKSUM, None)
    if found is None:
        raise ValueError("it has no checksum")
    if found != _checksum(body):
        raise ValueError("its checksum does not match its content")
    return body


def _checksum(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, allow_nan=False).encode())


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which JSON does not have")


def _too_deep() -> ValueError:
    return ValueError(f"it has more than {MOST_NESTED} levels of lists and mappings")


def _shaped(data: Any, shape: Any, place: str, ignored: Collection[str]) -> Any:
    origin, parts = get_origin(shape) or shape, get_args(shape)
    if shape is Any:
        return data
    if origin in (Union, types.UnionType):
        return _one_of(data, parts, place, ignored)
    if origin is Literal:
        if isinstance(data, str) and data in parts:
            return data
        raise _other(data, f"one of {', '.join(map(str, parts))}", place)
    if is_dataclass(origin) or hasattr(origin, "_fields"):
        return _record(data, origin, place, ignored)
    if origin in (dict, Mapping):
        if not isinstance(data, Mapping):
            raise _other(data, "a mapping", place)
        kind = parts[1] if parts else Any
        return dict(data) if kind is Any else {k: _shaped(v, kind, f"{place}.{k}", ignored) for k, v in data.items()}
    if origin in (list, tuple, Sequence):
        return _sequence(data, origin, parts, place, ignored)
    if not _is_scalar(data, origin):
        raise _other(data, _WORDS.get(origin, str(origin)), place)
    return data


def _is_scalar(data: Any, kind: Any) -> bool:
    if isinstance(data, bool):  # which Python counts as a whole number
        return kind is bool
    if kind is float:
        try:
            return isinstance(data, int | float) and math.isfinite(data)
        except OverflowError:
            return False
    return isinstance(data, kind)


def _one_of(data: Any, shapes: Sequence[Any], place: str, ignored: Collection[str]) -> Any:
    problem = _other(data, "null", place)
    for shape in shapes:
        try:
            return _shaped(data, shape, place, ignored)
        except ValueError as error:
            problem = problem if shape is type(None) else error
    raise problem


def _sequence(data: Any, origin: Any, parts: tuple[Any, ...], place: str, ignored: Collection[str]) -> Any:
    if not isinstance(data, list | tuple):
        raise _other(data, "a list", place)
    kind = parts[0] if parts else Any
    are_floats = kind is float and set(map(type, data)) == {float} and all(map(math.isfinite, data))
    if not are_floats and kind is not Any:
        data = [_shaped(entry, kind, f"{place}[{index}]", ignored) for index, entry in enumerate(data)]
    return list(data) if origin is list else tuple(data)


def _record(data: Any, kind: Any, place: str, ignored: Collection[str]) -> Any:
    if not isinstance(data, Mapping):
        raise _other(data, "a mapping", place)
    hints, required = _fields_of(kind)
    unknown, missing = set(data) - hints.keys() - set(ignored), required - set(data)
    if unknown or missing:
        what = [*(f"no {name}" for name in sorted(missing)), *(f"unknown {name}" for name in sorted(unknown))]
        raise ValueError(f"{place.lstrip('.') or kind.__name__} has {', '.join(what)}")
    return kind(
        **{name: _shaped(data[name], hint, f"{place}.{name}", ignored) for name, hint in hints.items() if name in data}
    )


@cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """The fields of a record with their types, and the names of those without a default."""
    hints = get_type_hints(kind)
    if hasattr(kind, "_fields"):
        return hints, set(hints) - kind._field_defaults.keys()
    known = [field for field in fields(kind) if field.init]
    bare = {field.name for field in known if field.default is MISSING and field.default_factory is MISSING}
    return {field.name: hints[field.name] for field in known}, bare


def _other(data: Any, expected: str, place: str) -> ValueError:
    found = repr(data) if isinstance(data, str | int | float | bool | None) else f"a {type(data).__name__}"
    return ValueError(f"{place.lstrip('.') or 'it'} is {found[:60]}, not {expected}")
