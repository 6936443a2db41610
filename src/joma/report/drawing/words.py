"""Formatting of numbers and verdicts, for terminal and page."""

from __future__ import annotations

import math
import re

from joma.claims.evaluation import Outcome
from joma.intervals import FEWEST, geometric
from joma.records import Criterion, Estimate

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ROUNDING = 1e-8  # relative spreads below it come from floating-point arithmetic
_RELATIONS = {"<=": "≤", ">=": "≥"}

_SCIENTIFIC = re.compile(r"(?<![\w.,])(?<!\w-)(\d(?:\.\d+)?)e[+-]?\d{1,3}(?![\w.]*\d)")
_MINUS, _PERCENT = re.compile(r"(?<![^\s(\[=])-(?=\d)"), re.compile(r"(?<=\d) %")

_LEAST_POWER = -323
"""The lowest power of ten that is not 0 in float64."""

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
    scale, power = _scaled(abs(value), digits)
    value /= scale
    return f"{_rounded(value, max(0, _decimals(value, 0.0, digits)))}{power}"


def log_label(tick: float) -> str:
    """Return a tick of a logarithmic axis: its digits and a power of ten, in full from 0.001 to below 100,000."""
    digits, power = f"{tick:.9e}".split("e")
    if -3 <= int(power) <= 4:
        return f"{tick:.10g}"
    return f"{float(digits):.10g}·10{superscript(int(power))}".removeprefix("1·")


def prose(text: str) -> str:
    """Return a sentence with its numbers written as ``format_number`` writes them: 2·10⁻⁹ for 2e-9, −1 for -1, 5%."""
    text = _SCIENTIFIC.sub(lambda found: format_number(float(found[0]), len(found[1].replace(".", ""))), text)
    return _MINUS.sub("−", _PERCENT.sub("%", text))


def format_extended(value: float) -> str:
    """As ``format_number``, with ∞ for infinity and a dash for NaN."""
    if math.isnan(value):
        return "–"
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else format_number(value)


def format_estimate(estimate: Estimate) -> str:
    """Return the values over seeds in short, with the unit.

    It is mean ± standard deviation to two digits of the latter, for a lognormal number the geometric mean ×/÷ the
    geometric standard deviation, for a binary one how many values are 1, and for equal values this value.
    """
    everywhere = f" in all {estimate.num}" if estimate.is_equal and estimate.num > 1 else ""
    return f"{_over_seeds(estimate)} {estimate.unit}".rstrip() + everywhere


def _over_seeds(estimate: Estimate) -> str:
    if estimate.is_equal:
        return _without_zeros(format_number(estimate.values[0]))
    if estimate.distribution == "binary":
        return f"{sum(estimate.values):.0f} of {estimate.num}"
    if estimate.distribution == "lognormal":
        mean, factor = geometric(estimate.values)
        return f"{format_number(mean, 2)} ×/÷ {_without_zeros(format_number(factor, 2))}"
    mean, spread = estimate.mean, estimate.standard_deviation
    if spread < _ROUNDING * abs(mean):
        return f"{_without_zeros(format_number(mean, 9))} ± {format_number(spread, 2)}"
    return _mean_and_spread(mean, spread)


def explanation(estimate: Estimate) -> str:
    """Return why the values are equal, up to rounding, if they are; empty otherwise."""
    largest = max(map(abs, estimate.values))
    return estimate.why_equal if max(estimate.values) - min(estimate.values) <= _ROUNDING * largest else ""


def format_interval(estimate: Estimate) -> str:
    """Return the 95 % interval, or why there is none."""
    low, high = estimate.interval
    if estimate.distribution == "constant":
        return "does not depend on seeds"
    if estimate.num < FEWEST:
        return f"none for fewer than {FEWEST} values"
    if estimate.is_equal and estimate.distribution != "binary":
        return "none, all values are equal"
    if high - low < _ROUNDING * abs(high):
        return f"{_without_zeros(format_number(estimate.mean, 9))} ± {format_number((high - low) / 2, 2)}"
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


def _power(value: float, digits: int) -> int:
    """The power of ten of the first digit, after rounding to so many digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _scaled(largest: float, digits: int = 4) -> tuple[float, str]:
    """A power of ten to divide by, and its text; 1 for numbers of usual size."""
    power = max(_power(largest, digits), _LEAST_POWER) if largest else 0
    return (1.0, "") if -4 <= power <= 5 else (10.0**power, f"·10{superscript(power)}")


def _mean_and_spread(mean: float, spread: float) -> str:
    scale, power = _scaled(max(abs(mean), spread))
    mean, spread = mean / scale, spread / scale
    decimals = max(0, _decimals(mean, spread, 4))
    text = f"{_rounded(mean, decimals)} ± {_rounded(spread, decimals)}"
    return f"({text}){power}" if power else text


def _decimals(value: float, spread: float, digits: int) -> int:
    """Decimals for two digits of the spread, or without spread for ``digits`` of the value; at most eight digits."""
    if value == 0.0 and spread == 0.0:
        return 0
    first = _power(max(abs(value), spread), digits)
    if spread == 0.0:
        return digits - 1 - first
    return min(1 - math.floor(math.log10(spread)), 7 - first)


def _rounded(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0."):
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
