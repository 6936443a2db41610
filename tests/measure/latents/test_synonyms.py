"""Sensitivity of representations to exchanging synonyms."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.latents.synonyms import sensitivities, synonym_sensitivity


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_unchanged_representation_is_insensitive_and_an_unrelated_one_is_at_one(tolerance):
    units = normal(0, 2000, 3, 5)
    assert synonym_sensitivity(units, units) == 0
    assert synonym_sensitivity(units, normal(1, 2000, 3, 5)) == pytest.approx(1, abs=tolerance("synonyms.unrelated"))


def test_it_is_the_mean_over_all_pairs_of_different_samples():
    units, exchanged = normal(0, 20, 4).double(), normal(1, 20, 4).double()
    pairs = torch.cdist(units, units).square().sum() / (20 * 19)
    expected = (units - exchanged).square().sum(1).mean() / pairs
    assert synonym_sensitivity(units, exchanged) == pytest.approx(float(expected))


def test_half_of_the_units_changed_gives_a_half(tolerance):
    units = normal(0, 2000, 10)
    exchanged = torch.cat([units[:, :5], normal(1, 2000, 5)], 1)
    assert synonym_sensitivity(units, exchanged) == pytest.approx(0.5, abs=tolerance("synonyms.unrelated"))


def test_constant_representation_has_none():
    constant = torch.full((5, 3), 0.1)
    assert synonym_sensitivity(constant, constant) is None


def test_table_has_a_row_for_each_layer_and_a_number_for_each_exchange():
    layers = [normal(0, 30, 4), normal(1, 30, 2)]
    table = sensitivities(layers, [layers, [part.flip(0) for part in layers], layers])
    assert [len(row) for row in table] == [3, 3]
    assert [row[0] for row in table] == [0, 0]
    assert all(row[1] > 0.5 for row in table)


@pytest.mark.parametrize(
    ("units", "exchanged", "received"),
    [
        (torch.ones(5, 2), torch.ones(5, 3), r"shape \(5, 3\)"),
        (torch.ones(1, 2), torch.ones(1, 2), r"shape \(1, 2\)"),
        (torch.ones(5, 2, dtype=torch.int64), torch.ones(5, 2), "int64"),
        (torch.full((5, 2), torch.nan), torch.ones(5, 2), "NaN"),
    ],
)
def test_bad_input_is_refused(units, exchanged, received):
    with pytest.raises(InvalidArgument, match=received):
        synonym_sensitivity(units, exchanged)


def test_exchange_with_other_layers_is_refused():
    with pytest.raises(InvalidArgument, match="exchanged"):
        sensitivities([torch.ones(5, 2)], [[]])
