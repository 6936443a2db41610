import math

import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.spectrum import stable_rank


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(30, 30), (200, 40), (40, 200), (3, 5, 20, 30), (1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_agrees_with_the_full_decomposition(shape, dtype, tolerance):
    weight = gaussian(*shape).to(dtype)
    singular = torch.linalg.svdvals(weight.double())
    expected = (singular**2).sum(-1) / singular[..., 0] ** 2
    found = stable_rank(weight)
    assert found.dtype == torch.float64
    assert found.shape == shape[:-2]
    assert ((found - expected) / expected).abs().max() <= tolerance("spectrum.stable_rank")


def test_known_matrices(tolerance):
    rotation = torch.linalg.qr(gaussian(12, 12).double()).Q
    assert stable_rank(3 * rotation).item() == pytest.approx(12, rel=tolerance("spectrum.stable_rank"))
    one_direction = torch.outer(gaussian(9).double(), gaussian(5, seed=1).double())
    assert stable_rank(one_direction).item() == pytest.approx(1, rel=tolerance("spectrum.stable_rank"))
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))).item() == pytest.approx(1.5)


@pytest.mark.parametrize("factor", [1e-170, 1e-30, -7.0, 1e160])
def test_does_not_depend_on_the_unit(factor, tolerance):
    weight = gaussian(20, 30).double()
    expected = stable_rank(weight).item()
    assert stable_rank(weight * factor).item() == pytest.approx(expected, rel=tolerance("spectrum.stable_rank"))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.tensor([[1.0, math.nan], [0.0, math.inf]]), "2 of 4 entries"),
        (torch.zeros(3, 3), "zeros"),
        (torch.stack([torch.eye(2), torch.zeros(2, 2)]), "zeros"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(0, 3), r"shape \(0, 3\)"),
    ],
)
def test_refuses_what_has_no_stable_rank(weight, message):
    with pytest.raises(InvalidArgument, match=message):
        stable_rank(weight)
