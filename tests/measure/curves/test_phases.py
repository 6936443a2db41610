"""Phases of entropy curves: known change points, noise, outliers, collapse; and controls that have none."""

import numpy as np
import pytest

from joma.errors import InvalidArgument
from joma.measure.curves.phases import COLLAPSED, stages

STEPS = np.arange(0, 3001, 50)
DIP = np.interp(STEPS, [0, 600, 1500, 3000], [4.0, 4.0, 1.5, 2.5])


def phases_of(values, steps=STEPS):
    return [stage.phase for stage in stages(steps.tolist(), values.tolist())]


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_change_points_of_a_dip_are_found_within_their_intervals(noise):
    values = DIP + np.random.default_rng(0).normal(0, noise, len(DIP))
    found = stages(STEPS.tolist(), values.tolist())
    assert [stage.phase for stage in found] == ["scanning", "sparsifying", "densifying"]
    for stage, true in zip(found[1:], (600, 1500), strict=True):
        assert stage.since_low - 50 <= true <= stage.since_high + 50
        assert stage.since_low <= stage.since <= stage.since_high
    assert found[0].since == 0
    assert found[-1].until == 3000


def test_one_noisy_probe_changes_no_phase():
    values = DIP + np.random.default_rng(1).normal(0, 0.02, len(DIP))
    for place in (1, 5, 20, 40, 55, len(DIP) - 2):
        spoilt = values.copy()
        spoilt[place] += 2.0
        assert phases_of(spoilt) == ["scanning", "sparsifying", "densifying"]


def test_noise_about_a_constant_is_idle_in_nearly_every_draw():
    generator = np.random.default_rng(2)
    found = [phases_of(4 + generator.normal(0, 0.05, len(STEPS))) for _ in range(200)]
    assert sum(phases != ["idle"] for phases in found) <= 4


@pytest.mark.parametrize("num", [8, 61])
@pytest.mark.parametrize("noise", [0.01, 0.4])
def test_noise_of_any_size_is_idle_with_few_and_many_probes(num, noise):
    generator = np.random.default_rng(5)
    found = [phases_of(4 + generator.normal(0, noise, num), STEPS[:num]) for _ in range(200)]
    assert sum(phases != ["idle"] for phases in found) <= 10


@pytest.mark.parametrize(("after", "phase"), [(2.0, "sparsifying"), (4.0, "densifying")])
def test_a_jump_between_two_levels_is_a_movement(after, phase):
    values = np.where(STEPS < 1500, 3.0, after) + np.random.default_rng(6).normal(0, 0.02, len(STEPS))
    found = stages(STEPS.tolist(), values.tolist())
    assert [stage.phase for stage in found] == ["scanning", phase, "idle"]
    assert (found[0].until, found[1].since, found[1].until, found[2].since) == (1450, 1500, 1500, 1550)
    assert (found[1].since_low, found[1].since_high) == (1450, 1500)


def test_a_fast_start_is_no_outlier():
    steps = np.arange(0, 701, 100)
    assert phases_of(np.array([4.0, 2.5, 1.1, 1.0, 1.01, 1.0, 0.99, 1.0]), steps)[0] == "sparsifying"


def test_steps_in_random_order_have_no_dip():
    generator = np.random.default_rng(3)
    found = [phases_of(generator.permutation(DIP + generator.normal(0, 0.02, len(DIP)))) for _ in range(50)]
    assert ["scanning", "sparsifying", "densifying"] not in found


def test_collapse_begins_where_entropy_stays_below_its_share():
    values = 4 * np.exp(-STEPS / 300)
    last = stages(STEPS.tolist(), values.tolist())[-1]
    assert last.phase == "collapsed"
    assert last.since == STEPS[np.argmax(values < 4 * COLLAPSED)]
    assert last.until == 3000


def test_a_fall_that_stops_above_the_collapse_is_idle_afterwards():
    assert phases_of(np.interp(STEPS, [0, 500, 3000], [4.0, 1.0, 1.0])) == ["sparsifying", "idle"]


def test_a_slow_fall_over_the_whole_run_is_sparsifying():
    assert phases_of(4 - STEPS / 3000 * 0.5)[-1] == "sparsifying"


def test_zero_everywhere_is_collapsed():
    assert phases_of(np.zeros(len(STEPS))) == ["collapsed"]


def test_long_curves_are_thinned_and_keep_their_phases():
    steps = np.arange(0, 100_001, 5)
    values = np.interp(steps, [0, 20_000, 50_000, 100_000], [4.0, 4.0, 1.5, 2.5])
    noisy = values + np.random.default_rng(4).normal(0, 0.05, len(steps))
    found = stages(steps.tolist(), noisy.tolist())
    assert [stage.phase for stage in found] == ["scanning", "sparsifying", "densifying"]
    assert abs(found[1].since_low - 20_000) < 2_000


def test_few_probes_have_no_phases():
    assert stages([0, 1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0, 0.5]) == []


@pytest.mark.parametrize(("steps", "values"), [([0, 2, 1], [1.0] * 3), ([0, 1], [1.0, np.nan]), ([0, 1], [1.0])])
def test_unsorted_steps_and_missing_values_are_refused(steps, values):
    with pytest.raises(InvalidArgument, match="ascending steps"):
        stages(steps, values)
