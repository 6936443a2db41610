"""Grids of settings: values, ranges and products as they are typed, lists of points from files, and names of runs."""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from joma.domains import as_sequence, choose
from joma.errors import BadInput, cause_of
from joma.files import expanded
from joma.serialization import decoded, shaped
from joma.train.decoder import DecoderConfig
from joma.train.recipes import Recipe

Value = bool | int | float | str
Point = dict[str, Value]
"""The settings of a run by the names of the fields of ``Recipe`` and ``DecoderConfig``."""

Over = str | Sequence[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A grid as it is given: texts (``lr=1e-4,1e-3`` or a file), a mapping from keys to values, or a list of points."""

ALIASES = {"lr": "learning_rate", "layers": "num_layers", "words": "vocabulary_size", "steps": "num_steps"}
"""Short names of settings."""

SYNTAX = (
    "KEY=VALUES with values such as 1e-4,1e-3, a range first:last:stride, or first:last:7log for 7 values with equal "
    "ratios; or a .csv or .json file with one point a row"
)
MOST_VALUES = 1_000_000
_NOT_SWEPT = ("name", "decoder", "device", "num_outputs", "num_threads", "shuffle_tokens")
_FILES = (".csv", ".json")
_FIRST_IN_NAMES, _LONGEST_NAME = ("learning_rate", "num_layers", "seed"), 120


def _kinds() -> dict[str, Any]:
    hints = get_type_hints(Recipe) | get_type_hints(DecoderConfig)
    names = [field.name for kind in (DecoderConfig, Recipe) for field in fields(kind)]
    return {name: hints[name] for name in names if name not in _NOT_SWEPT}


KINDS: Mapping[str, Any] = _kinds()
"""The types of the settings that can be swept, by name."""


@dataclass(frozen=True)
class Interval:
    """All values from ``low`` to ``high``, for a search.

    Args:
        low, high: both included.
        is_log: whether ratios count instead of differences.
    """

    low: float
    high: float
    is_log: bool = False


@dataclass(frozen=True)
class Grid:
    """The points of a sweep: the product of ``axes``, or those ``listed``.

    Args:
        axes: values by setting.
        listed: points, in place of axes.
        words: the grid as ``--over`` takes it.
    """

    axes: Mapping[str, Sequence[Value] | Interval]
    listed: tuple[Point, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that the grid sets, in their order."""
        return tuple(dict.fromkeys(name for point in self.listed for name in point)) or tuple(self.axes)

    def __len__(self) -> int:
        return len(self.listed) or math.prod(len(self._values(name)) for name in self.axes)

    def points(self) -> Iterator[Point]:
        """Yield the points; the last axis changes fastest.

        Raises:
            BadInput: an axis is an interval, which only a search takes.
        """
        if self.listed:
            yield from self.listed
            return
        for values in itertools.product(*(self._values(name) for name in self.axes)):
            yield dict(zip(self.axes, values, strict=True))

    def _values(self, name: str) -> Sequence[Value]:
        values = self.axes[name]
        if isinstance(values, Interval):
            problem = f"`over` sets {name} to an interval ({values.low:g}:{values.high:g}), without a number of values"
            remedy = "write first:last:stride or first:last:7log, or search the interval with `search`"
            raise BadInput(problem, expected=SYNTAX, remedy=remedy)
        return values


def grid_of(over: Over) -> Grid:
    """Return the grid that is given.

    Raises:
        BadInput: an unknown setting (with the nearest name), a value of another type, no value, a setting or point
            given twice, or a file that cannot be read.
    """
    if isinstance(over, Mapping):
        return _product(over.items())
    given = (over,) if isinstance(over, str) else as_sequence(over, "sweep", "over", SYNTAX)
    words = [entry for entry in given if isinstance(entry, str)]
    return _typed(words) if words and len(words) == len(given) else _listed(given, "`over`")


def _typed(words: list[str]) -> Grid:
    """Read a grid as it is typed: one file, or settings with their values."""
    if len(words) == 1 and Path(words[0]).suffix.lower() in _FILES:
        grid = _from_file(expanded(words[0]))
        return Grid(grid.axes, grid.listed, (words[0],))
    if file := next((word for word in words if Path(word).suffix.lower() in _FILES and "=" not in word), None):
        problem = f"`over` is the file {file!r} and something else"
        remedy = "write other settings into the file"
        raise BadInput(problem, expected="one file, or only KEY=VALUES", remedy=remedy)
    pairs = [word.partition("=") for word in words]
    if odd := next((word for word, (_, sign, _) in zip(words, pairs, strict=True) if not sign), None):
        raise BadInput(f"`over` is {odd!r}", expected=SYNTAX, remedy="write lr=1e-4,1e-3, for example")
    return _product([(key.strip(), values) for key, _, values in pairs])


def _from_file(path: Path) -> Grid:
    try:
        text = path.read_text(encoding="utf-8-sig")
        once = partial(_once, where=str(path))
        content = decoded(text, once) if path.suffix.lower() == ".json" else _rows(text, once)
        if isinstance(content, Mapping):
            return grid_of(content)
        return _listed(shaped(content, list[dict[str, Any]]), str(path))
    except BadInput:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(
            f"{path} cannot be read ({cause_of(error)})",
            expected="a .csv file with a column for each setting, or a .json file with a list of points",
            remedy="correct it, or write the grid with KEY=VALUES",
        ) from error


def _rows(text: str, once: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> list[dict[str, Any]]:
    reader = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
    keys, *rows = [[cell.strip() for cell in row] for row in reader if row] or [[]]
    if odd := next((row for row in rows if len(row) != len(keys)), None):
        raise ValueError(f"row {rows.index(odd) + 1} has not as many cells as there are columns")
    return [once([(key, cell) for key, cell in zip(keys, row, strict=True) if cell]) for row in rows if any(row)]


def _once(pairs: Iterable[tuple[Any, Any]], where: str = "`over`") -> dict[str, Any]:
    """Return what is given for each setting; raise ``BadInput`` if a setting is given twice, also by a short name."""
    found: dict[str, Any] = {}
    for key, given in pairs:
        if (name := setting_of(str(key))) in found:
            remedy = "leave one out, or name all its values at once"
            raise BadInput(f"{where} sets {name} twice", expected="every setting once", remedy=remedy)
        found[name] = given
    return found


def _product(pairs: Iterable[tuple[Any, Any]]) -> Grid:
    axes = {name: _values_of(name, given) for name, given in _once(pairs).items()}
    words = tuple(f"{_short(name)}={_as_typed(values)}" for name, values in axes.items())
    return Grid(axes, words=words)


def _listed(given: Sequence[Any], where: str) -> Grid:
    points: dict[frozenset[tuple[str, Value]], Point] = {}
    for entry in given:
        if not isinstance(entry, Mapping):
            problem = f"{where} holds {entry!r:.60}"
            raise BadInput(problem, expected=SYNTAX, remedy="give a list of mappings from settings to values")
        point = {name: _value(name, value) for name, value in _once(entry.items(), where).items()}
        if points.setdefault(frozenset(point.items()), point) is not point:
            raise BadInput(f"{where} lists {run_name(point)} twice", expected="every point once", remedy="remove one")
    if not points:
        raise BadInput(f"{where} lists no point, so there is no run", expected="one or more", remedy="add a point")
    seeded = [point for point in points.values() if "seed" in point]
    if seeded and (other := next((point for point in points.values() if "seed" not in point), None)):
        problem = f"{where} names a seed for {run_name(seeded[0])}, but none for {run_name(other)}"
        remedy = "name one for each point, or for none, and give the number of `seeds`"
        raise BadInput(problem, expected="seeds for all points or for none", remedy=remedy)
    return Grid({}, tuple(points.values()))


def setting_of(key: str) -> str:
    """Return the setting with a name or short name; otherwise raise ``InvalidArgument`` with the nearest one."""
    known = ALIASES | {name: name for name in KINDS}
    return choose(key, known, "sweep", "over")


def _values_of(name: str, given: Any) -> Sequence[Value] | Interval:
    """Return the values of an axis: from a text, a list or a single value."""
    if isinstance(given, str) and ":" in given:
        return _range(name, given)
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, Sequence | range | np.ndarray):
        parts = [parts]
    entries = parts.tolist() if isinstance(parts, np.ndarray) else list(parts)
    values = [_value(name, entry.strip() if isinstance(entry, str) else entry) for entry in entries if entry != ""]
    return _distinct(name, values, given)


def _distinct(name: str, values: Sequence[Value], given: Any) -> Sequence[Value]:
    if not values:
        problem = f"`over` sets {name} to no value ({given!r:.40}), so there is no run"
        raise BadInput(problem, expected=SYNTAX, remedy="name a value")
    if len(set(values)) < len(values):
        problem = f"`over` sets {name} to the same value twice ({given!r:.60})"
        raise BadInput(problem, expected="different values", remedy="leave one out, or take fewer values")
    return tuple(values)


def _range(name: str, given: str) -> Sequence[Value] | Interval:
    """Read ``first:last:stride``, ``first:last:7log``, or for a search ``first:last`` and ``first:last:log``."""
    first_text, last_text, *how = [part.strip() for part in given.split(":")]
    first, last = (_number(name, text, given) for text in (first_text, last_text))
    is_log = bool(how) and how[0].endswith("log")
    count = how[0].removesuffix("log") if is_log else ""
    if len(how) > 1 or last < first or (is_log and first <= 0):
        raise _bad_range(name, given)
    if not how or (is_log and not count):
        return Interval(first, last, is_log)
    if is_log:
        num = int(count[:20]) if count.isdecimal() else 0
        _require_number(num, 2, name, given)
        found = np.geomspace(first, last, num).tolist()
        finest = math.log(last / first) / num or 1.0
        digits = max(4, math.ceil(-math.log10(finest)) + 2)  # names of runs stay short, and neighbours different
        inner = [float(f"{value:.{digits}g}") for value in found[1:-1]]
        return _distinct(name, [_whole_or_float(name, value) for value in (first, *inner, last)], given)
    stride = _number(name, how[0], given)
    num_values = (last - first) / stride + 1e-9 + 1 if stride > 0 else 0
    _require_number(num_values, 1, name, given)
    values = [float(f"{first + stride * place:.12g}") for place in range(math.floor(num_values))]
    return _distinct(name, [_whole_or_float(name, value) for value in values], given)


def _require_number(num: float, least: int, name: str, given: str) -> None:
    """Require a number of values of a range from ``least`` to ``MOST_VALUES``."""
    if num >= MOST_VALUES + 1:
        problem = f"`over` sets {name} to more than {MOST_VALUES:,} values ({given!r:.60})"
        remedy = "take a larger stride, or a number of values with equal ratios such as 7log"
        raise BadInput(problem, expected=f"at most {MOST_VALUES:,} values", remedy=remedy)
    if num < least:
        raise _bad_range(name, given)


def _whole_or_float(name: str, value: float) -> Value:
    return round(value) if KINDS[name] is not float else float(value)


def _number(name: str, text: str, given: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise _bad_range(name, given) from error
    is_numeric = KINDS[name] in (int, float) or int in get_args(KINDS[name])
    if not math.isfinite(value) or not is_numeric or (KINDS[name] is not float and value != round(value)):
        raise _bad_range(name, given)
    if KINDS[name] is not float:
        _require_size(name, value, given)
    return value


def _bad_range(name: str, given: str) -> BadInput:
    return BadInput(f"`over` sets {name} to {given!r:.60}", expected=SYNTAX, remedy="write 1:10:1 or 1e-5:1e-2:7log")


def _value(name: str, given: Any) -> Value:
    """Return a value of a setting's type, from a text too."""
    kind = KINDS[name]
    try:
        value = shaped(_parsed(given, kind) if isinstance(given, str) else given, kind)
    except ValueError as error:
        raise BadInput(
            f"`over` sets {name} to {given!r:.60}", expected=_expected(kind), remedy="correct the value"
        ) from error
    if kind is float:
        return float(value)
    _require_size(name, value, given)
    return value


def _require_size(name: str, value: Value, given: Any) -> None:
    """Require that a table can hold a number of a setting with whole values."""
    if isinstance(value, int | float) and not -(2**63) <= value < 2**63:
        shown = "a very large one" if isinstance(given, int) and given.bit_length() > 999 else f"{given!r:.60}"
        problem = f"`over` sets {name} to {shown}"
        raise BadInput(problem, expected="a whole number below 2^63 in size", remedy="take a smaller one")


def _parsed(text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is float:
        return float(text)
    return int(text)


def _expected(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return {bool: "true or false", float: "a finite number"}.get(kind, "a whole number")


def _short(name: str) -> str:
    return next((alias for alias, of in ALIASES.items() if of == name), name)


def _as_typed(values: Sequence[Value] | Interval) -> str:
    if isinstance(values, Interval):
        return f"{_text(values.low)}:{_text(values.high)}" + (":log" if values.is_log else "")
    return ",".join(map(_text, values))


def _text(value: Value) -> str:
    """Return a value in short, as ``grid_of`` reads it again."""
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def run_name(settings: Mapping[str, Value]) -> str:
    """Return a name for the folder of a run, such as ``lr-0.001_layers-5_seed-0``.

    It depends on the settings alone, not on their order or on other points of the grid.
    """
    ordered = [*_FIRST_IN_NAMES, *(name for name in KINDS if name not in _FIRST_IN_NAMES)]
    parts = [f"{_short(name)}-{_text(settings[name])}" for name in ordered if name in settings]
    name = "_".join(parts) or "run"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
