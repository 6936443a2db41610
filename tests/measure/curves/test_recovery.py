"""Verdicts on curves with a known course."""

import numpy as np
import pytest

from joma.measure.curves.recovery import recovery
from tolerances import TOLERANCES

STEPS = tuple(range(0, 400, 10))


def course(fall: float, rise: float, noise: float = 0.0, groups: int = 1, seed: int = 0) -> np.ndarray:
    """Return curves that fall from 10 by ``fall`` until step 100 and then rise by ``rise``."""
    at = np.array(STEPS)
    mean = np.interp(at, [0, 20, 80, 120, 360, 400], [10, 10, 10 - fall, 10 - fall, 10 - fall + rise, 10 - fall + rise])
    return mean + noise * np.random.default_rng(seed).standard_normal((groups, len(at)))


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(
    ("fall", "rise", "outcome"),
    [
        (4.0, 3.0, "fell and came back"),
        (4.0, 0.0, "fell and stayed low"),
        (0.0, 0.0, "did not fall"),
        (-3.0, 0.0, "did not fall"),
    ],
)
def test_verdicts(groups, fall, rise, outcome):
    found = recovery(STEPS, course(fall, rise, noise=0.01, groups=groups))
    assert found.outcome == outcome
    assert found.num_groups == groups
    if outcome == "fell and came back":
        assert 80 <= found.lowest_step <= 120
        assert found.share.low <= rise / fall <= found.share.high or found.share.value == pytest.approx(
            rise / fall, abs=TOLERANCES["recovery.share"].bound
        )


def test_groups_that_agree_on_the_fall_alone_leave_the_rise_open():
    curves = np.concatenate([course(4.0, 0.6), course(4.0, 0.0), course(4.0, 0.0)])
    assert recovery(STEPS, curves).outcome == "fell; whether it comes back is open"


def test_groups_that_disagree_on_the_fall_leave_it_open():
    curves = np.concatenate([course(4.0, 0.0), course(0.0, 0.0), course(0.0, 0.0)])
    assert recovery(STEPS, curves).outcome == "whether it fell is open"


def test_levels_are_means_over_the_steps_that_are_named_with_them():
    curves = course(4.0, 3.0, noise=0.01, groups=6)
    found, mean, steps = recovery(STEPS, curves), curves.mean(axis=0), np.array(STEPS)
    for level, (first, last) in (
        (found.start, found.start_steps),
        (found.bottom, found.bottom_steps),
        (found.end, found.end_steps),
    ):
        assert level == pytest.approx(mean[(first <= steps) & (steps <= last)].mean())
        assert last > first
    assert found.bottom_steps[0] <= found.lowest_step <= found.bottom_steps[1]
    assert found.end != mean[-1]


def test_noise_rarely_gives_a_recovery():
    outcomes = [recovery(STEPS, course(0.0, 0.0, noise=0.5, seed=seed)).outcome for seed in range(40)]
    assert outcomes.count("fell and came back") <= 4  # 95 % intervals at the minimum of noise


def test_scatter_widens_the_interval_of_one_curve():
    widths = []
    for noise in (0.01, 0.1, 1.0):
        rise = recovery(STEPS, course(4.0, 3.0, noise=noise)).rise
        widths.append(rise.high - rise.low)
    assert widths == sorted(widths)
    assert widths[-1] > 10 * widths[0]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_few_steps_have_no_verdict(num):
    assert recovery(STEPS[:num], course(4.0, 3.0)[:, :num]) is None


@pytest.mark.parametrize("num", [4, 5, 8])
def test_series_of_four_steps_or_more_have_a_verdict(num):
    values = np.array([[10.0, 6.0, 6.0, 9.0, 9.0, 9.0, 9.0, 9.0][:num]] * 3) + np.array([[0.0], [0.01], [-0.01]])
    assert recovery(STEPS[:num], values).outcome == "fell and came back"
