"""Formatting of numbers and verdicts, for terminal and page."""

from __future__ import annotations

import math

from joma.claims.evaluation import Outcome
from joma.records import Criterion, Estimate

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_RELATIONS = {"<=": "≤", ">=": "≥"}


SKIPPED, NOT_EVALUATED = "skipped", "not evaluated"
"""Texts for claims without a verdict: a requirement is missing; the evaluation failed."""


def verdict_text(outcome: Outcome) -> str:
    """Return the verdict, or the text for a claim without one."""
    if outcome.agreement:
        return outcome.agreement.verdict.value
    return SKIPPED if outcome.skipped else NOT_EVALUATED


def capitalized(text: str) -> str:
    """Return ``text`` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def superscript(number: int) -> str:
    """Return an integer in superscript digits."""
    return str(number).translate(_SUPERSCRIPTS)


def format_number(value: float, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits, with a power of ten if it is very small or very large."""
    return _mantissa_and_power(value, 0.0, digits)


def format_extended(value: float) -> str:
    """As ``format_number``, with ∞ for infinity and a dash for NaN."""
    if math.isnan(value):
        return "–"
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else format_number(value)


def format_estimate(estimate: Estimate) -> str:
    """Return mean ± standard deviation over seeds, to two digits of the latter, with the unit; or a single value."""
    spread = estimate.standard_deviation
    several = estimate.num > 1
    text = _mantissa_and_power(estimate.mean, spread, 4, with_spread=several)
    return f"{text if several else _without_zeros(text)} {estimate.unit}".rstrip()


def format_interval(estimate: Estimate) -> str:
    """Return the 95 % interval of the mean, or a note that there is only one value."""
    if estimate.num == 1:
        return "one value, no interval"
    low, high = estimate.interval
    digits = _digits_to_distinguish(low, high)
    return f"{format_number(low, digits)} to {format_number(high, digits)}"


def format_num(estimate: Estimate) -> str:
    """Return the number of values of an estimate."""
    return f"n = {estimate.num}"


def format_criterion(criterion: Criterion) -> str:
    """Return relation and threshold, such as ``≤ 0.05``, without trailing zeros."""
    return f"{_RELATIONS[criterion.relation]} {_without_zeros(format_number(criterion.threshold))}"


def format_bytes(num: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if num < 1000:
            return f"{num:.3g} {unit}"
        num /= 1000
    return f"{num:.3g} TB"


def format_seconds(seconds: float) -> str:
    """Return a duration in s, min or h, rounded."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _mantissa_and_power(value: float, spread: float, digits: int, *, with_spread: bool = False) -> str:
    largest = max(abs(value), spread)
    if largest == 0.0:
        return "0 ± 0" if with_spread else "0"
    power = math.floor(math.log10(largest))
    if -4 <= power <= 5:
        power = 0
    value, spread = value / 10.0**power, spread / 10.0**power
    decimals = max(0, _decimals(value, spread, digits))
    text = _rounded(value, decimals)
    if with_spread:
        text = f"{text} ± {_rounded(spread, decimals) if spread else '0'}"
    if not power:
        return text
    return f"({text})·10{superscript(power)}" if with_spread else f"{text}·10{superscript(power)}"


def _decimals(value: float, spread: float, digits: int) -> int:
    """Decimals for two digits of the spread, or without spread for ``digits`` of the value; at most eight digits."""
    if value == 0.0 and spread == 0.0:
        return 0
    first = math.floor(math.log10(max(abs(value), spread)))
    if spread == 0.0:
        return digits - 1 - first
    return min(1 - math.floor(math.log10(spread)), 7 - first)


def _rounded(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if float(text) == 0.0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _without_zeros(text: str) -> str:
    number, times, power = text.partition("·")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{times}{power}"


def _digits_to_distinguish(low: float, high: float) -> int:
    if low == high:
        return 4
    lost = math.log10(max(abs(low), abs(high)) / (high - low))
    return min(9, max(3, 2 + math.ceil(lost)))
