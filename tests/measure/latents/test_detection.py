"""Units are chosen by correlation on some samples and scored by AUC on others."""

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.latents.detection import area, detection, masked_correlations, within_classes


def data(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Parts, and units of which the third follows the first part and the fifth the reverse of the second."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randint(0, 2, (num, 3), generator=generator)
    units = torch.randn(num, 8, generator=generator)
    units[:, 2] += 3 * parts[:, 0]
    units[:, 4] -= 3 * parts[:, 1]
    return units, parts


def test_best_unit_is_chosen_with_its_sign_and_chance_scores_one_half():
    found = detection(data(400, 0), data(2000, 1))
    assert found.units[:2].tolist() == [2, 4]
    assert (found.areas[:2] > 0.95).all()
    assert abs(found.areas[2] - 0.5) < 0.06  # four standard errors of an AUC of 1,000 against 1,000


def test_area_is_the_share_of_pairs_in_the_right_order(tolerance):
    generator = np.random.default_rng(0)
    values, presence = generator.integers(0, 6, 60).astype(float), generator.integers(-1, 2, 60)
    here, without = values[presence == 1], values[presence == 0]
    pairs = (here[:, None] > without).mean() + 0.5 * (here[:, None] == without).mean()
    assert area(values, presence) == pytest.approx(pairs, abs=tolerance("sums.float64"))


@pytest.mark.parametrize("presence", [[1, 1, -1], [0, 0, -1], [-1, -1, -1]])
def test_area_is_missing_where_a_part_is_always_or_never_there(presence):
    assert np.isnan(area(np.arange(3.0), np.array(presence)))


def test_correlations_leave_out_samples_that_do_not_count(tolerance):
    units, parts = data(200, 2)
    parts[::3, 1] = -1
    units[:, 7] = 2.5
    found = masked_correlations(units, parts)
    counts = parts[:, 1] >= 0
    expected = [np.corrcoef(units[counts, unit], parts[counts, 1])[0, 1] for unit in range(7)]
    np.testing.assert_allclose(found[:7, 1], expected, atol=tolerance("sums.float64"))
    assert found[7].tolist() == [0, 0, 0]
    assert (masked_correlations(units + 1e4, parts)[:7] - found[:7]).abs().max() < 1e-3  # float32 units of 1e4


def test_parts_that_the_label_determines_have_no_sample_without_them():
    labels = torch.tensor([0, 0, 1, 1, 2])
    presence = torch.tensor([[1, 1], [1, 0], [0, 0], [0, -1], [0, 1]])
    assert within_classes(presence, labels).T.tolist() == [[1, 1, -1, -1, -1], [1, 0, -1, -1, 1]]


def test_samples_units_and_parts_must_agree():
    (units, parts), other = data(20, 0), data(10, 1)
    for wrong in ((units, parts[:5]), (units[:, :3], parts), (units, parts[:, :2]), (units[:0], parts[:0])):
        with pytest.raises(InvalidArgument, match="scored_on"):
            detection(other, wrong)


def test_by_area_a_unit_must_be_higher_where_the_part_is_and_samples_that_do_not_count_are_left_out():
    units, parts = data(400, 0)
    parts[::3, 2] = -1
    assert detection((units, parts), data(2000, 1), by="area").units[0] == 2
    counts = parts[:, 2] >= 0
    alone = detection((units[counts], parts[counts]), data(2000, 1), by="area")
    assert detection((units, parts), data(2000, 1), by="area").units[2] == alone.units[2]
    others, there = data(2000, 1)
    assert detection((units[:, 4:5], parts), (others[:, 4:5], there), by="area").areas[1] < 0.05
