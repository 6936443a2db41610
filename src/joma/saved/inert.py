"""Interpret a pickle without running it: nothing is imported, and only given functions are called.

The opcodes are those of a state dict and of the plain data next to it. Time and memory are proportional to the length
of the pickle, whatever numbers it states.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

_MOST_OPERATIONS = 1 << 19
"""Operations of one pickle; a tensor takes about 40."""

_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = ("BINPUT", "LONG_BINPUT", "PUT"), ("BINGET", "LONG_BINGET", "GET")


def interpreted(content: BinaryIO, find: Callable[[str, str], Any], load: Callable[[Any], Any]) -> Any:
    """Return the object that a pickle describes.

    Args:
        content: begins with the pickle and is left after it.
        find: returns what stands for a class or function, from its module and name: a value, or a function that is
            called instead; it raises an error for anything else.
        load: returns what stands for a persistent id.

    Raises:
        ValueError: no pickle, one with other opcodes, or one that is too long.
        Exception: whatever ``find``, the functions it returns and ``load`` raise.
    """
    machine = _Machine(find, load)
    for count, (opcode, value, _) in enumerate(pickletools.genops(content)):
        if count + machine.copied > _MOST_OPERATIONS:
            raise ValueError(f"it has more than {_MOST_OPERATIONS:,} operations")
        machine.step(opcode.name, value)
    return machine.pop()


class _Machine:
    """The stack and the memo of an interpreted pickle; ``copied`` counts arguments that functions may have copied."""

    def __init__(self, find: Callable[[str, str], Any], load: Callable[[Any], Any]) -> None:
        self._find, self._load, self.copied = find, load, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, value: Any) -> None:
        """Carry out one operation."""
        if name in _VALUES or name in _CONSTANTS:
            self._stack.append(_CONSTANTS.get(name, value))
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _PUT or name == "MEMOIZE":
            self._memo[len(self._memo) if value is None else value] = self._top()
        elif name in _GET:
            self._stack.append(self._memo[value])
        elif name in _TUPLES:
            self._stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in ("TUPLE", "LIST", "DICT"):
            self._collect(name)
        elif name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            self._extend(name)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            last, first = (self.pop(), self.pop()) if value is None else reversed(value.split(" ", 1))
            self._stack.append(self._find(str(first), str(last)))
        elif name == "BINPERSID":
            self._stack.append(self._load(self.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            self._call()
        elif name == "BUILD":
            self.pop()  # attributes of an object, such as the versions of modules that a state dict has
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it has the opcode {name}")

    def pop(self) -> Any:
        """Take the last object from the stack."""
        self._top()
        return self._stack.pop()

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("an operation lacks its argument")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _collect(self, name: str) -> None:
        found = self._since_mark()
        if name == "DICT":
            self._stack.append({})
            _set(self._stack[-1], found)
        else:
            self._stack.append(tuple(found) if name == "TUPLE" else found)

    def _extend(self, name: str) -> None:
        found = self._since_mark() if name.endswith("S") else [self.pop()]
        if name == "SETITEM":
            found.insert(0, self.pop())
        target = self._top()
        if name.startswith("SET"):
            _set(target, found)
        elif isinstance(target, list):
            target.extend(found)
        else:
            raise ValueError(f"it appends to a {type(target).__name__}")

    def _call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not callable(function) or not isinstance(arguments, tuple):
            raise ValueError(f"it calls a {type(function).__name__}")
        self.copied += sum(len(given) for given in arguments if isinstance(given, list | tuple | dict))
        self._stack.append(function(*arguments))


def _set(target: Any, entries: list[Any]) -> None:
    if not isinstance(target, dict) or len(entries) % 2:
        raise ValueError(f"it sets entries of a {type(target).__name__}")
    require_keys(entries[::2])
    target.update(zip(entries[::2], entries[1::2], strict=True))


def require_keys(keys: Iterable[Any]) -> None:
    """Raise ``ValueError`` for keys other than texts and numbers: the hash of nested tuples may exhaust the stack."""
    if other := next((key for key in keys if not isinstance(key, str | int | float | None)), None):
        raise ValueError(f"it has a {type(other).__name__} as a key")
