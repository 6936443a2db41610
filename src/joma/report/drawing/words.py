"""How numbers and verdicts are written for people: one place for the terminal and the page."""

from __future__ import annotations

import math

from joma.claims.evaluation import Outcome
from joma.records import Criterion, Estimate

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_RELATIONS = {"<=": "≤", ">=": "≥"}


SKIPPED, NOT_EVALUATED = "skipped", "not evaluated"
"""In place of a verdict: what the claim needs is out of reach; the claim could not be evaluated."""


def verdict_text(outcome: Outcome) -> str:
    """The verdict, or what stands in place of one."""
    if outcome.agreement:
        return outcome.agreement.verdict.value
    return SKIPPED if outcome.skipped else NOT_EVALUATED


def capitalized(text: str) -> str:
    """``text`` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def superscript(number: int) -> str:
    """An integer in raised digits."""
    return str(number).translate(_SUPERSCRIPTS)


def format_number(value: float, digits: int = 4) -> str:
    """``value`` with ``digits`` significant digits, as a power of ten where it is very small or very large."""
    return _mantissa_and_power(value, 0.0, digits)


def format_extended(value: float) -> str:
    """``value`` as by ``format_number``, ∞ where it is infinite, a dash where there is none."""
    if math.isnan(value):
        return "–"
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else format_number(value)


def format_estimate(estimate: Estimate) -> str:
    """Mean ± standard deviation over seeds, rounded where the spread begins, with the unit.

    One value alone has no spread and is written without one.
    """
    spread = estimate.standard_deviation
    several = estimate.num > 1
    text = _mantissa_and_power(estimate.mean, spread, 4, with_spread=several)
    return f"{text if several else _without_zeros(text)} {estimate.unit}".rstrip()


def format_interval(estimate: Estimate) -> str:
    """The 95 % interval of the mean, or that there is only one value."""
    if estimate.num == 1:
        return "one value, no interval"
    low, high = estimate.interval
    digits = _digits_to_tell_apart(low, high)
    return f"{format_number(low, digits)} to {format_number(high, digits)}"


def format_num(estimate: Estimate) -> str:
    """How many values an estimate rests on."""
    return f"n = {estimate.num}"


def format_criterion(criterion: Criterion) -> str:
    """The side and the threshold, such as ``≤ 0.05``; a threshold was chosen, so it carries no zeros at its end."""
    return f"{_RELATIONS[criterion.relation]} {_without_zeros(format_number(criterion.threshold))}"


def format_bytes(num: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if num < 1000:
            return f"{num:.3g} {unit}"
        num /= 1000
    return f"{num:.3g} TB"


def format_seconds(seconds: float) -> str:
    """A duration at the precision that a person cares about."""
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
    """Two digits of the spread where there is one, else ``digits`` of the value; at most eight in all."""
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


def _digits_to_tell_apart(low: float, high: float) -> int:
    if low == high:
        return 4
    lost = math.log10(max(abs(low), abs(high)) / (high - low))
    return min(9, max(3, 2 + math.ceil(lost)))
