"""Intervals over seeds: they fit the number, more seeds never widen them, and they are rarely wrong."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from joma.intervals import LEVEL, geometric, interval, is_contradictory, seeds_to_settle, student
from joma.records import Criterion, Estimate, Verdict
from simulated_claims import FITTING, verdicts

NUM_SEEDS, NUM_CLAIMS = 20, 1000
numbers = st.floats(1e-12, 1e12, allow_subnormal=False)


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("distance", [-0.6, -0.2, 0.0, 0.2, 0.6])
def test_no_clear_verdict_changes_with_more_seeds(name, distance):
    claim = FITTING[name]
    for seed in range(20):
        found = verdicts(claim, seed, claim.true + distance * min(1.0, claim.true), NUM_SEEDS)
        assert found[:2] == [Verdict.UNDECIDED] * 2
        assert all(later is earlier for earlier, later in itertools.pairwise(found) if earlier is not Verdict.UNDECIDED)


@pytest.mark.parametrize("name", FITTING)
def test_at_most_five_in_a_hundred_claims_ever_get_a_wrong_verdict_within_20_seeds(name):
    claim = FITTING[name]
    ends = np.array([interval(claim.values(seed, NUM_SEEDS), claim.distribution) for seed in range(NUM_CLAIMS)])
    allowed = LEVEL + 2 * math.sqrt(LEVEL * (1 - LEVEL) / NUM_CLAIMS)
    assert (ends[:, 0] > claim.true).mean() <= allowed
    assert (ends[:, 1] < claim.true).mean() <= allowed


def test_reading_the_usual_interval_after_every_seed_is_wrong_in_more_than_five_in_a_hundred_claims():
    claim = FITTING["normal"]
    wrong = [
        any(student(values[:num])[1] < claim.true for num in range(3, NUM_SEEDS + 1))
        for values in (claim.values(seed, NUM_SEEDS) for seed in range(NUM_CLAIMS))
    ]
    assert np.mean(wrong) > 0.08


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=3, max_size=20), st.sampled_from(["normal", "lognormal"]))
def test_the_interval_of_more_seeds_lies_within_that_of_fewer(values, distribution):
    ends = [interval(values[:num], distribution) for num in range(1, len(values) + 1)]
    for (low, high), (later_low, later_high) in itertools.pairwise(ends):
        assert low <= later_low <= later_high <= high


def test_the_first_interval_is_students_at_its_level():
    values = (1.0, 2.0, 4.0)
    expected = stats.t.interval(1 - 2 * LEVEL / 3, 2, np.mean(values), stats.sem(values))
    assert interval(values, "normal") == pytest.approx(expected)
    logarithms = np.log(values)
    expected = np.exp(stats.t.interval(1 - 2 * LEVEL / 3, 2, logarithms.mean(), stats.sem(logarithms)))
    assert interval(values, "lognormal") == pytest.approx(tuple(expected))


def test_a_share_has_the_interval_of_clopper_and_pearson():
    found = interval((1.0, 1.0, 1.0), "binary")
    exact = stats.binomtest(3, 3).proportion_ci(1 - 2 * LEVEL / 3, "exact")
    assert found == pytest.approx((exact.low, exact.high))


def test_the_usual_interval_is_that_of_scipy():
    values = (1.0, 2.0, 3.0, 5.0)
    assert student(values) == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert student((2.0,)) == (2.0, 2.0)


def test_equal_values_have_an_interval_only_if_they_are_exact():
    assert interval((0.0,) * 5, "normal") == (-math.inf, math.inf)
    assert interval((0.0,) * 5, "normal", equal_is_exact=True) == (0.0, 0.0)
    assert interval((0.0,) * 2, "normal", equal_is_exact=True) == (-math.inf, math.inf)
    assert interval((0.25,), "constant") == (0.25, 0.25)


def test_a_zero_among_errors_widens_their_interval():
    low, high = interval((1e-9, 2e-9, 3e-9), "lognormal")
    wide_low, wide_high = interval((1e-9, 0.0, 3e-9), "lognormal")
    assert 0 < wide_low < low < high < wide_high


def test_seeds_that_contradict_earlier_ones_leave_the_interval():
    before = (1.0, 1.1, 1.2, 1.15)
    assert interval((*before, *np.linspace(9, 9.1, 16)), "normal")[1] <= interval(before, "normal")[1]


@pytest.mark.parametrize(
    ("values", "distribution", "threshold"),
    [((1.0, 1.2, 1.4), "normal", 1.5), ((1e-9, 5e-8, 4e-8), "lognormal", 1e-7), ((0.0, 1.0, 1.0, 1.0), "binary", 0.3)],
)
def test_as_many_seeds_as_announced_settle_a_number_with_this_mean_and_spread(values, distribution, threshold):
    total = seeds_to_settle(values, distribution, threshold)
    repeated = list(values) * (total // len(values) + 1)
    low, high = interval(repeated, distribution)
    assert not low <= threshold <= high
    low, high = interval(values, distribution)
    assert low <= threshold <= high


def test_seeds_to_settle_counts_from_three_and_gives_up_where_the_number_is_at_the_threshold():
    assert seeds_to_settle((1.0,), "normal", 5.0) == 3
    assert seeds_to_settle((1.0, 2.0, 3.0), "normal", 2.0) is None
    assert seeds_to_settle((1.0, 2.0, 3.0), "lognormal", 0.0) is not None


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-9, 1e200, 1e307])
def test_intervals_of_any_size_are_multiples_of_each_other(size):
    for distribution in ("normal", "lognormal"):
        ends = interval((size, 2 * size, 3 * size), distribution)
        assert [end / size for end in ends] == pytest.approx(interval((1.0, 2.0, 3.0), distribution), rel=1e-9)


def test_values_at_the_ends_of_floating_point_have_an_interval_or_none():
    assert interval((1e308, 1e308, -1e308), "normal") == (-math.inf, math.inf)
    low, high = interval((0.0, 5e-324, 1e-310), "lognormal")
    assert low <= 1e-310 <= high
    assert geometric((5e-324, 1e308))[1] == math.inf
    assert geometric((sys.float_info.max,) * 3)[1] == 1.0


def test_seeds_whose_intervals_do_not_overlap_contradict_each_other():
    near, far = (1.0, 1.001, 0.999), (9.0, 9.1, 8.9, 9.05, 8.95, 9.02, 8.98, 9.01, 8.99, 9.0)
    assert not is_contradictory(near, "normal")
    assert is_contradictory(near + far * 3, "normal")
    assert not is_contradictory((0.0, 1.0, 1.0, 0.0), "binary")
    estimate = Estimate(near + far * 3)
    low, high = estimate.interval
    criterion = Criterion("a size", ">=", (low + high) / 2, "because")
    assert criterion.met_by(estimate) is None
    assert "contradict each other" in criterion.unsettled("the measured number", estimate)
