"""Trees read off representations by neighbour joining."""

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.latents.read_off import place_distances, tree_read_off
from joma.measure.trees.joining import tree_of_parents

TRUTH = tree_of_parents((-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6))


def leaves(num: int, keep: float = 0.9, seed: int = 0, width: int = 1) -> torch.Tensor:
    """Signs of the leaves of a binary tree of three levels, each with its parent's with probability ``keep``."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.ones(num, 1)
    for _ in range(3):
        signs = signs.repeat_interleave(2, 1)
        signs = signs * (1 - 2 * (torch.rand(signs.shape, generator=generator) > keep).float())
    return signs[..., None] * torch.linspace(1, 2, width)


def test_tree_of_many_samples_is_the_true_one_and_permuted_leaves_are_far():
    pytest.importorskip("skbio", reason="neighbour joining needs the extra trees")
    found = tree_read_off(leaves(5000), TRUTH)
    assert found.distance == 0
    assert found.permuted > 0.7


def test_unrelated_places_give_an_unrelated_tree():
    pytest.importorskip("skbio", reason="neighbour joining needs the extra trees")
    noise = torch.randn(500, 8, 3, generator=torch.Generator().manual_seed(0))
    assert tree_read_off(noise, TRUTH).distance > 0.5


def test_distance_of_single_units_is_minus_the_logarithm_of_their_correlation(tolerance):
    signs = leaves(20_000)[:, :4]
    expected = -np.log(np.abs(np.corrcoef(signs[..., 0].T.numpy())))
    np.testing.assert_allclose(place_distances(signs), expected, atol=tolerance("read_off.bias"))


def test_distance_does_not_depend_on_scale_shift_or_rotation_of_the_units():
    units = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    units[:, 1:] += units[:, :1]
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    np.testing.assert_allclose(place_distances(units), place_distances(5 * units @ rotation + 2), atol=1e-9)


def test_many_units_do_not_make_independent_places_look_alike():
    units = torch.randn(100, 4, 200, generator=torch.Generator().manual_seed(0))
    far = place_distances(units)[~np.eye(4, dtype=bool)]
    assert far.min() > 0.25 * np.log(100)  # a dependence below 1/√N; the plain estimate has 0.67, a distance of 0.2


@pytest.mark.parametrize(
    ("units", "received"),
    [
        (torch.ones(5, 8), r"shape \(5, 8\)"),
        (torch.ones(5, 2, 3), r"shape \(5, 2, 3\)"),
        (torch.full((5, 8, 3), torch.nan), "NaN"),
    ],
)
def test_bad_input_is_refused(units, received):
    with pytest.raises(InvalidArgument, match=received):
        place_distances(units)


def test_tree_of_other_leaves_is_refused():
    pytest.importorskip("skbio", reason="neighbour joining needs the extra trees")
    with pytest.raises(InvalidArgument, match="7 leaves"):
        tree_read_off(leaves(50)[:, :7], TRUTH)
