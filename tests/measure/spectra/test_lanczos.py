import pytest
import torch

from joma.measure.spectra.lanczos import largest
from joma.measure.spectra.spectrum import certified_stable_rank


def gram(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)).to(dtype)
    return weight.T @ weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_iteration_converges_to_the_largest_eigenpairs(dtype, tolerance):
    matrix = gram(400, 200, dtype)
    exact = torch.linalg.eigvalsh(matrix.double()).flip(0)
    *_, last = largest(matrix)
    vectors = last.vectors(5).double()
    allowed = tolerance("krylov.single" if dtype == torch.float32 else "krylov.double")
    assert (torch.from_numpy(last.values[:5].copy()) / exact[:5] - 1).abs().max() <= allowed
    assert (vectors.T @ vectors - torch.eye(5)).abs().max() <= allowed
    residual = torch.linalg.vector_norm(matrix.double() @ vectors - vectors * exact[:5], dim=0) / exact[0]
    assert residual.max() <= allowed


def test_an_eigenvalue_lies_within_each_residual():
    matrix = gram(400, 200)
    exact = torch.linalg.eigvalsh(matrix)
    for found in largest(matrix):
        for value, residual in zip(found.values, found.residuals, strict=True):
            assert (exact - value).abs().min() <= residual + 1e-12 * exact.max()


@pytest.mark.parametrize(
    ("matrix", "values"),
    [
        (torch.eye(200), [1.0]),
        (torch.zeros(200, 200), [0.0]),
        (torch.diag(torch.tensor([4.0, 4.0, 2.0, 0.0, 0.0])), [4.0, 2.0, 0.0]),
    ],
    ids=["identity", "zeros", "three values"],
)
def test_the_iteration_ends_when_the_krylov_space_is_exhausted(matrix, values):
    *_, last = largest(matrix)
    assert last.values.tolist() == pytest.approx(values, abs=1e-5)
    assert last.basis.shape == (len(matrix), len(values))


def test_the_random_state_is_unchanged():
    before = torch.get_rng_state()
    certified_stable_rank(torch.ones(200, 150))
    assert torch.equal(torch.get_rng_state(), before)
