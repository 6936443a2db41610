"""Domains accept valid values and refuse their bad values; unknown options name the nearest one."""

import math

import numpy as np
import pytest
import torch

from joma import domains
from joma.domains import (
    FINITE,
    FRACTION,
    NON_NEGATIVE,
    POLARITY,
    POSITIVE,
    PROBABILITY,
    SQUARABLE,
    TEMPERATURE,
    Domain,
    check_flag,
    check_whole,
    choose,
)
from joma.errors import InvalidArgument

ALL = {name: value for name, value in vars(domains).items() if isinstance(value, Domain)}
INSIDE = {
    POSITIVE: (5e-324, 1.0, 1.7e308),
    NON_NEGATIVE: (0.0, -0.0, 1.0, math.inf),
    FINITE: (-1.7e308, 0.0, 1.7e308),
    TEMPERATURE: (1e-80, 1.0, 1e80),
    SQUARABLE: (-1e100, 0.0, 1e100),
    POLARITY: (-1.0, 0.0, 1.0),
    FRACTION: (0.0, 0.5, math.nextafter(1.0, 0.0)),
    PROBABILITY: (5e-324, 0.5, 1.0),
}


def test_every_domain_is_tested():
    assert set(INSIDE) == set(ALL.values())


@pytest.mark.parametrize("name", ALL)
def test_values_inside_the_domain_pass(name):
    domain = ALL[name]
    for value in INSIDE[domain]:
        assert domain.contains(value)
        domain.check(value, "f", "x")  # raises for a bad value


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, domain in ALL.items() for bad in domain.bad_values])
def test_bad_values_are_refused_with_requirement_and_remedy(name, bad):
    domain = ALL[name]
    with pytest.raises(InvalidArgument) as refused:
        domain.check(bad, "blow_up_time", "gap")
    message = str(refused.value)
    assert message.startswith(f"blow_up_time: `gap` is {bad:g}")
    assert domain.required in message
    assert domain.remedy in message
    assert (refused.value.function, refused.value.parameter) == ("blow_up_time", "gap")


@pytest.mark.parametrize("name", ALL)
def test_nan_is_a_bad_value_of_every_domain(name):
    assert any(map(math.isnan, ALL[name].bad_values))
    with pytest.raises(InvalidArgument, match="is nan"):
        ALL[name].check(math.nan, "f", "x")


@pytest.mark.parametrize(
    "odd", [None, "1.0", b"1", [1.0], 1j, {}, 10**400, torch.ones(2), torch.ones(2, device="meta")]
)
def test_what_is_no_real_number_is_refused(odd):
    with pytest.raises(InvalidArgument, match=r"f: `x` is .*; expected a finite number above 0"):
        POSITIVE.check(odd, "f", "x")


@pytest.mark.parametrize("number", [1, 1.0, np.float32(1), np.array(1.0), torch.tensor(1.0)])
def test_a_number_of_any_library_is_returned_as_a_float(number):
    assert type(POSITIVE.check(number, "f", "x")) is float


@pytest.mark.parametrize("odd", [None, 1, "yes", torch.tensor(True)])
def test_what_is_no_bool_is_refused_as_a_flag(odd):
    check_flag(True, "f", "x")
    with pytest.raises(InvalidArgument, match="expected True or False"):
        check_flag(odd, "f", "x")


OPTIONS = {"relu": 1, "tanh": 2, "linear": 3}


def test_an_option_is_found_by_name():
    assert choose("tanh", OPTIONS, "f", "activation") == 2


@pytest.mark.parametrize(("wrong", "near"), [("Tanh", "tanh"), ("relu ", "relu"), ("liner", "linear")])
def test_an_unknown_option_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(InvalidArgument, match=f"did you mean '{near}'"):
        choose(wrong, OPTIONS, "f", "activation")


@pytest.mark.parametrize("wrong", ["", "qqqq", 7])
def test_an_option_unlike_all_others_is_refused_with_all_options(wrong):
    with pytest.raises(InvalidArgument, match="expected one of relu, tanh, linear; pass 'relu', for example"):
        choose(wrong, OPTIONS, "f", "activation")


@pytest.mark.parametrize("wrong", [None, ["relu"], {"relu": 1}])
def test_an_option_that_is_not_a_string_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="expected one of relu, tanh, linear"):
        choose(wrong, OPTIONS, "f", "activation")


def test_a_whole_number_of_an_array_is_refused_with_the_conversion():
    check_whole(3, "joma.f", "count")
    with pytest.raises(InvalidArgument, match=r"pass int\(count\)"):
        check_whole(np.int64(3), "joma.f", "count")
    with pytest.raises(InvalidArgument, match="pass a count"):
        check_whole(0, "joma.f", "count")
