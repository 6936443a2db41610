"""Formatting of numbers."""

import math
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joma.records import Criterion, Estimate
from joma.report.drawing.words import (
    explanation,
    format_criterion,
    format_estimate,
    format_interval,
    format_number,
    format_seconds,
    log_label,
    prose,
    verdict_text,
)
from tolerances import TOLERANCES


@pytest.mark.parametrize(
    ("values", "unit", "text"),
    [
        ((1.5, 1.6, 1.55), "nats", "1.550 ± 0.050 nats"),
        ((0.43, 0.47, 0.51), "", "0.470 ± 0.040"),
        ((3e-13, 5e-13), "", "(4.0 ± 1.4)·10⁻¹³"),
        ((0.04, -0.06, 0.02), "", "0.000 ± 0.053"),
        ((-1.25, -1.25), "", "−1.25 in all 2"),
        ((0.0, 0.0), "nats", "0 nats in all 2"),
        ((0.9999999999998945, 0.99999999999995), "", "1 ± 3.9·10⁻¹⁴"),
        ((1.54,), "nats", "1.54 nats"),
        ((1500.0, 1700.0), "", "1,600 ± 141"),
        ((2.5e9,), "", "2.5·10⁹"),
    ],
)
def test_an_estimate_is_rounded_where_its_spread_begins(values, unit, text):
    assert format_estimate(Estimate(values, unit)) == text


def test_an_error_is_written_with_factors_and_a_binary_number_as_a_count():
    assert format_estimate(Estimate((1e-9, 1e-8, 1e-7), "s", "lognormal")) == "1.0·10⁻⁸ ×/÷ 10 s"
    assert format_estimate(Estimate((1.0, 0.0, 1.0), "", "binary")) == "2 of 3"


def test_equal_values_are_explained_only_where_they_are_equal_up_to_rounding():
    assert explanation(Estimate((1.0, 1.0 - 1e-14), why_equal="a correlation of 1")) == "a correlation of 1"
    assert explanation(Estimate((1.0, 0.9), why_equal="a correlation of 1")) == ""


def read(text: str) -> float:
    number, _, power = text.replace("−", "-").replace(",", "").partition("·10")
    return float(number) * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)


@given(st.floats(-1e200, 1e200, allow_subnormal=False))
def test_a_number_reads_back_to_four_digits(value):
    assert math.isclose(read(format_number(value)), value, rel_tol=TOLERANCES["report.four_digits"].bound)


@pytest.mark.parametrize("value", [5e-324, -5e-324, 1.5e-323, 2.5e-310, sys.float_info.min, 1.797e308])
def test_numbers_at_the_ends_of_float64_are_written(value):
    mantissa, power = format_number(value).replace("−", "-").split("·10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert float(f"{mantissa}e{exponent}") == pytest.approx(value, rel=TOLERANCES["report.four_digits"].bound, abs=0)


@pytest.mark.parametrize(
    ("value", "text"), [(9.9999e99, "1.000·10¹⁰⁰"), (-999999.9, "−1.000·10⁶"), (9.9996, "10.00"), (0.99996, "1.000")]
)
def test_a_number_that_rounds_up_to_a_power_of_ten_has_as_many_digits_as_others(value, text):
    assert format_number(value) == text


@given(st.lists(st.floats(-1e100, 1e100, allow_subnormal=False), min_size=1, max_size=4))
def test_every_estimate_can_be_written(values):
    text = format_estimate(Estimate(tuple(values)))
    assert re.fullmatch(r"[−()±·,\d. ⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+( in all \d)?", text)
    assert ("±" in text) == (min(values) < max(values))


def test_the_ends_of_an_interval_are_written_differently():
    assert format_interval(Estimate((1.0000001, 1.0000003, 1.0000002))) == "0.999999892 to 1.00000051"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate((1.0, 2.0)), "none for fewer than 3 values"),
        (Estimate((1.0, 1.0, 1.0)), "none, all values are equal"),
        (Estimate((1.0,), distribution="constant"), "does not depend on seeds"),
        (Estimate((1.0, 1.0, 1.0), distribution="binary"), "0.255 to 1.00"),
        (Estimate((1.0, 1.0 - 1e-13, 1.0)), "1 ± 1.8·10⁻¹³"),
    ],
)
def test_an_interval_that_is_no_usual_one_says_why(estimate, text):
    assert format_interval(estimate) == text


def test_a_criterion_has_its_relation_and_no_trailing_zeros():
    assert format_criterion(Criterion("q", "<=", 0.05, "r")) == "≤ 0.05"
    assert format_criterion(Criterion("q", ">=", 1e-8, "r")) == "≥ 1·10⁻⁸"
    assert format_criterion(Criterion("q", ">=", 200.0, "r")) == "≥ 200"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (75.0, "75 s"), (119.9, "2 min"), (3600.0, "60 min"), (9000.0, "2 h 30 min")],
)
def test_durations_are_rounded(seconds, text):
    assert format_seconds(seconds) == text


def test_a_claim_without_evidence_has_no_verdict(outcomes):
    words = {outcome.claim.id: verdict_text(outcome) for outcome in outcomes}
    assert words == {
        "theorem1.exp": "holds",
        "theorem1.softmax": "not evaluated",
        "text.sparse_then_dense": "holds",
        "text.mechanism": "does not hold",
        "text.rank_drop": "undecided",
    }
    assert verdict_text(replace(outcomes[0], agreement=None, skipped="no network")) == "skipped"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("constant to 5e-11 of the motion", "constant to 5·10⁻¹¹ of the motion"),
        ("by 2.9e-03 of the limit, 1e-04 later", "by 0.0029 of the limit, 0.0001 later"),
        ("from -1 to 4 %, at (-0.5)", "from −1 to 4%, at (−0.5)"),
        ("gpt-2, step-3, v1e5x, 0x1e5, 2024-11-28", "gpt-2, step-3, v1e5x, 0x1e5, 2024-11-28"),
        ("the run layers-1_lr-1e-04_seed-0 at 1e-04", "the run layers-1_lr-1e-04_seed-0 at 0.0001"),
    ],
)
def test_numbers_in_sentences_are_written_as_in_tables(text, written):
    assert prose(text) == written


def test_thousands_are_separated():
    assert format_number(-12345.0) == "−12,345"


@pytest.mark.parametrize(
    ("tick", "label"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (1e-3, "0.001"),
        (5e4, "50000"),
        (1e5, "10⁵"),
        (2e5, "2·10⁵"),
        (1e-12, "10⁻¹²"),
        (2.304e-7, "2.304·10⁻⁷"),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_short(tick, label):
    assert log_label(tick) == label
