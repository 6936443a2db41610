"""Falls and rises are measured on whole curves, and noise has none."""

import numpy as np
import pytest

from joma.errors import InvalidArgument
from joma.measure.curves.rebound import deepest_dip, fall_then_rise, rebound, rebounds, steps_stood_for, stretches

PROBES = np.arange(60)
SHAPE = 2.5 - 1.0 * np.minimum(PROBES, 15) / 15 + 0.4 * np.clip(PROBES - 15, 0, 45) / 45


def noisy(shape, num_seeds=4, scale=0.05, seed=0):
    return shape + np.random.default_rng(seed).normal(0, scale, (num_seeds, len(shape)))


def test_the_fit_of_a_falling_then_rising_curve_is_the_curve():
    np.testing.assert_allclose(fall_then_rise(SHAPE), SHAPE, atol=1e-12)


def test_fit_is_at_least_as_close_as_any_other_fall_then_rise():
    curve = noisy(SHAPE, 1)[0]
    best = ((fall_then_rise(curve) - curve) ** 2).sum()
    assert best <= ((SHAPE - curve) ** 2).sum()
    assert (np.diff(np.sign(np.diff(fall_then_rise(curve)))) >= 0).sum() >= 1


def test_fall_and_rise_of_a_noisy_curve_are_found(tolerance):
    found = rebounds(noisy(SHAPE))
    assert np.mean([entry.fall for entry in found]) == pytest.approx(1.0, abs=tolerance("rebound.noisy"))
    assert np.mean([entry.rise for entry in found]) == pytest.approx(0.36, abs=tolerance("rebound.noisy"))
    assert all(abs(entry.bottom_idx - 15) <= 4 for entry in found)


@pytest.mark.parametrize("seed", range(5))
def test_probes_in_random_order_have_no_rebound(seed, tolerance):
    generator = np.random.default_rng(seed)
    curves = noisy(SHAPE, 8, seed=seed)
    found = rebounds(np.stack([generator.permutation(row) for row in curves]))
    real = rebounds(curves)
    sizes = np.array([entry.size for entry in found])
    assert sizes.mean() < tolerance("rebound.by_chance") * np.mean([entry.size for entry in real])


def test_fluctuations_that_differ_between_seeds_cancel():
    steps = np.random.default_rng(3).normal(0, 0.1, (40, 60))
    sizes = [entry.size for entry in rebounds(2 + steps.cumsum(axis=1))]
    flattered = [rebound(curve, stretches(curve)).size for curve in 2 + steps.cumsum(axis=1)]
    assert np.mean(sizes) < 0.05 < np.mean(flattered)


def test_a_curve_that_only_falls_has_no_rise():
    falling = noisy(np.linspace(2.5, 1.0, 60), scale=0.01)
    assert all(entry.rise < 0.05 < entry.fall for entry in rebounds(falling))


def test_probes_are_weighted_by_the_steps_they_represent():
    steps = [0, 10, 20, 30, 100, 200, 300]
    np.testing.assert_allclose(steps_stood_for(steps), [10, 10, 10, 40, 85, 100, 100])


def test_too_few_probes_and_nan_are_refused():
    with pytest.raises(InvalidArgument, match="at least 9 probes"):
        stretches(np.ones(8))
    with pytest.raises(InvalidArgument, match="finite numbers"):
        rebounds(np.array([[1.0] * 20, [np.nan] * 20]))


@pytest.mark.parametrize(
    ("values", "depth"),
    [
        ([3.0, 2.0, 1.0, 0.0], 0.0),
        ([0.0, 1.0, 2.0], 0.0),
        ([3.0, 1.0, 2.0, 0.5], 1.0),
        ([2.0, 0.5, 3.0, 2.9], 1.5),
        ([1.0], 0.0),
    ],
)
def test_the_deepest_dip_needs_a_rise(values, depth):
    assert deepest_dip(np.array(values)) == pytest.approx(depth)


@pytest.mark.parametrize("seed", range(20))
def test_stretches_of_any_curve_lie_one_after_the_other(seed):
    generator = np.random.default_rng(seed)
    num = int(generator.integers(9, 40))
    where = stretches(np.cumsum(generator.choice([-1.0, 0.0, 1.0], num)))
    assert where.start.start == 0 < where.start.stop <= where.bottom.start
    assert where.bottom.start + 3 <= where.bottom.stop <= where.end.start <= num - 3
    assert where.end.stop == num


def test_a_curve_lowest_at_its_end_has_a_negative_rise_and_at_its_start_a_negative_fall():
    falling = np.linspace(1, 0, 12) + 0.01 * np.random.default_rng(0).normal(size=(3, 12))
    assert all(found.rise < -0.1 and found.fall > 0.5 for found in rebounds(falling))
    assert all((found.lowest, found.lowest_idx) == (found.end, 10) for found in rebounds(falling))
    assert all(found.fall < -0.1 and found.rise > 0.5 for found in rebounds(falling[:, ::-1]))


def test_a_curve_that_ends_exactly_where_it_began_is_read_at_its_ends():
    where = stretches(np.abs(np.linspace(-1, 1, 21)))
    assert (where.start, where.bottom, where.end) == (slice(0, 1), slice(9, 12), slice(18, 21))
