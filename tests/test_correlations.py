"""Weighted and partial correlation, and the unexplained share, against plain definitions."""

import math

import numpy as np
import pytest
import torch

from joma.correlations import correlation, unexplained

COUNTS = torch.tensor([1, 3, 2, 5, 1, 4])


@pytest.fixture
def drawn():
    return torch.randn(3, 2, len(COUNTS), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_weighting_by_counts_equals_repeating_the_entries(drawn, tolerance):
    first, second, _ = drawn
    repeated = [part.repeat_interleave(COUNTS, -1) for part in (first, second)]
    expected = [np.corrcoef(one, two)[0, 1] for one, two in zip(*repeated, strict=True)]
    assert correlation(first, second, COUNTS.double()).tolist() == pytest.approx(
        expected, abs=tolerance("sums.float64")
    )
    assert torch.allclose(correlation(first, second, COUNTS.double()), correlation(*repeated))


def test_partial_correlation_is_that_of_the_residuals_of_two_regressions(drawn, tolerance):
    first, second, given = drawn[:, 0]
    design = np.stack([np.ones(len(given)), given], 1)
    left = [part - design @ np.linalg.lstsq(design, part, rcond=None)[0] for part in (first.numpy(), second.numpy())]
    found = float(correlation(first, second, given=given))
    assert found == pytest.approx(np.corrcoef(*left)[0, 1], abs=tolerance("sums.float64"))


def test_a_common_cause_correlates_two_quantities_only_until_it_is_given():
    generator = torch.Generator().manual_seed(0)
    cause, *noise = torch.randn(3, 2000, generator=generator, dtype=torch.float64)
    first, second = (cause + 0.3 * part for part in noise)
    assert float(correlation(first, second)) > 0.8
    assert abs(float(correlation(first, second, given=cause))) < 4 / math.sqrt(2000)


def test_constants_have_no_correlation_and_explain_nothing():
    values = torch.arange(4.0, dtype=torch.float64)
    assert float(correlation(values, torch.ones_like(values))) == 0
    assert float(unexplained(torch.ones_like(values), values)) == 1


def test_the_best_scale_leaves_what_the_correlation_does_not_explain(drawn, tolerance):
    first, second, _ = drawn
    weights = COUNTS.double()
    explained = correlation(first, second, weights).clamp_min(0).square()
    left = unexplained(first, second, weights)
    assert left.square().tolist() == pytest.approx((1 - explained).tolist(), abs=tolerance("sums.float64"))


def test_a_given_scale_is_kept_and_a_shift_does_not_count(drawn, tolerance):
    values = drawn[0]
    assert unexplained(values + 7, 2 * values, scale=1.0).tolist() == pytest.approx(
        [0.5, 0.5], abs=tolerance("sums.float64")
    )
