"""Valid ranges of parameters: the check, its message, and bad values for tests."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

from joma.errors import InvalidArgument

Option = TypeVar("Option")


@dataclass(frozen=True)
class Domain:
    """A set of real numbers that a parameter may take.

    Args:
        required: the range in words, for messages and docstrings.
        contains: whether a finite or infinite number (never NaN) is in the range.
        bad_values: numbers just outside, for tests.
        remedy: a way to correct the argument.
    """

    required: str
    contains: Callable[[float], bool] = field(repr=False)
    bad_values: tuple[float, ...]
    remedy: str

    def check(self, value: Any, function: str, parameter: str) -> float:
        """Return one real number as a float; raise ``InvalidArgument`` unless it is in the domain, as NaN never is."""
        try:
            number = math.nan if isinstance(value, str | bytes | bytearray) else float(value)
            received = repr(value)[:60] if isinstance(value, str | bytes | bytearray) else f"{number:g}"
        except (TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError):
            number, received = math.nan, f"{repr(value)[:60]}, of type {type(value).__name__}"
        if math.isnan(number) or not self.contains(number):
            raise InvalidArgument(function, parameter, required=self.required, received=received, remedy=self.remedy)
        return number


POSITIVE = Domain(
    "a finite number above 0",
    lambda value: 0 < value < math.inf,
    (0.0, -1.0, math.inf, math.nan),
    "pass a positive number, such as 1.0",
)
NON_NEGATIVE = Domain(
    "a number of at least 0 (infinity is allowed)",
    lambda value: value >= 0,
    (-1e-9, math.nan),
    "pass 0 or more",
)
FINITE = Domain("a finite number", math.isfinite, (math.inf, -math.inf, math.nan), "pass a finite number")
POLARITY = Domain(
    "a number in [-1, 1]",
    lambda value: -1 <= value <= 1,
    (-1.0001, 1.0001, math.nan),
    "a polarity is a correlation: keep it within [-1, 1]",
)
TEMPERATURE = Domain(
    "a number from 1e-80 to 1e80",
    lambda value: 1e-80 <= value <= 1e80,
    (0.0, -1.0, 5e-324, 1e-81, 1e81, math.inf, math.nan),
    "pass 1.0, for example; scale the logits with it",
)
SQUARABLE = Domain(
    "a number of at most 1e100 in size, whose square can be divided by a temperature",
    lambda value: abs(value) <= 1e100,
    (1e101, -math.inf, math.inf, math.nan),
    "check the unit, or for divergence",
)
FRACTION = Domain(
    "a number in [0, 1)", lambda value: 0 <= value < 1, (-0.1, 1.0, math.nan), "pass a fraction, such as 0.2"
)
PROBABILITY = Domain(
    "a number in (0, 1]",
    lambda value: 0 < value <= 1,
    (0.0, 1.0001, math.nan),
    "pass 1.0 if it always happens",
)


def is_whole(value: object, low: int, high: float = math.inf) -> bool:
    """Return whether ``value`` is an integer (not a bool) from ``low`` to ``high``."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_whole(
    value: object, function: str, parameter: str, *, low: int = 1, high: float = math.inf, remedy: str = "pass a count"
) -> None:
    """Raise ``InvalidArgument`` unless ``value`` is an integer from ``low`` to ``high``."""
    if not is_whole(value, low, high):
        if hasattr(value, "__index__") and not isinstance(value, int):  # an array's entry, which JSON refuses
            remedy = f"pass int({parameter})"
        required = f"a whole number of at least {low}" + (f" and at most {high}" if high < math.inf else "")
        raise InvalidArgument(function, parameter, required=required, received=repr(value), remedy=remedy)


def as_sequence(value: Any, function: str, parameter: str, required: str) -> tuple[Any, ...]:
    """Return the entries of a list, tuple, array or range as a tuple.

    Raises:
        InvalidArgument: anything else, such as ``None``, a number, text, or a mapping.
    """
    try:
        if not isinstance(value, str | bytes | Mapping | Set):
            return tuple(value.tolist() if hasattr(value, "tolist") else value)
    except (TypeError, RuntimeError, NotImplementedError):
        pass
    received = f"{repr(value)[:60]}, of type {type(value).__name__}"
    raise InvalidArgument(function, parameter, required=required, received=received, remedy="pass a list")


def check_seed(value: object, function: str) -> None:
    """Raise ``InvalidArgument`` unless ``value`` is a seed that every source of random numbers takes."""
    check_whole(value, function, "seed", low=0, high=2**63 - 1, remedy="pass 0, 1, 2, ...")


def check_flag(value: object, function: str, parameter: str) -> None:
    """Raise ``InvalidArgument`` unless ``value`` is ``True`` or ``False``."""
    if not isinstance(value, bool):
        received = repr(value)[:60]
        raise InvalidArgument(function, parameter, required="True or False", received=received, remedy="pass a bool")


def choose(name: str, options: Mapping[str, Option], function: str, parameter: str) -> Option:
    """Return the option of that name; otherwise raise ``InvalidArgument`` with the nearest name."""
    if isinstance(name, str) and name in options:
        return options[name]
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.3)
    raise InvalidArgument(
        function,
        parameter,
        required=f"one of {', '.join(options)}",
        received=repr(name),
        remedy=f"did you mean {near[0]!r}?" if near else f"pass {next(iter(options))!r}, for example",
    )
