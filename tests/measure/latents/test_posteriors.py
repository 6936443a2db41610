"""Predictions of latents against exact posteriors."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.latents.posteriors import against_posterior, against_posteriors

POSTERIOR = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.1, 0.8]], dtype=torch.float64)


def test_posterior_itself_has_no_divergence_and_the_best_accuracy():
    found = against_posterior(POSTERIOR.log(), POSTERIOR)
    assert found.divergence_nats == pytest.approx(0, abs=1e-12)
    assert found.accuracy == found.best_accuracy == pytest.approx(0.75)


def test_divergence_and_accuracy_of_a_wrong_prediction_are_those_of_the_definition():
    predicted = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=torch.float64)
    found = against_posterior(predicted.log(), POSTERIOR)
    kept = POSTERIOR > 0
    by_hand = (POSTERIOR[kept] * (POSTERIOR[kept] / predicted[kept]).log()).sum() / 2
    assert found.divergence_nats == pytest.approx(float(by_hand))
    assert (found.accuracy, found.accuracy_gap) == (pytest.approx(0.55), pytest.approx(0.2))


def test_excluded_value_that_may_occur_has_an_infinite_cross_entropy():
    predicted = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).log()
    assert against_posterior(predicted, POSTERIOR).cross_entropy_nats == float("inf")


def test_levels_are_compared_one_by_one():
    uniform = torch.full((2, 4, 3), 1 / 3)
    first, second = against_posteriors([POSTERIOR.log(), uniform.log()], [POSTERIOR, uniform])
    assert (first.lowest_nats, second.lowest_nats) == (
        pytest.approx(float(torch.special.entr(POSTERIOR).sum() / 2)),
        pytest.approx(1.0986, abs=1e-4),
    )


@pytest.mark.parametrize(
    ("predicted", "posterior", "received"),
    [
        (torch.zeros(2, 3), POSTERIOR, "sums that differ"),
        (POSTERIOR.log(), POSTERIOR * 2, "sums that differ"),
        (POSTERIOR.log(), POSTERIOR[:1], r"shape \(1, 3\)"),
        (torch.zeros(3), torch.zeros(3), r"shape \(3,\)"),
        (torch.full((2, 3), torch.nan), POSTERIOR, "sums that differ"),
    ],
)
def test_bad_input_is_refused(predicted, posterior, received):
    with pytest.raises(InvalidArgument, match=received):
        against_posterior(predicted, posterior)


def test_other_number_of_levels_is_refused():
    with pytest.raises(InvalidArgument, match="posteriors"):
        against_posteriors([POSTERIOR.log()], [])
