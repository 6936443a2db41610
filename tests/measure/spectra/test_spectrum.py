import math

import pytest
import torch

from joma.errors import InvalidArgument, RunFailed
from joma.measure.spectra import spectrum
from joma.measure.spectra.spectrum import (
    certified_stable_rank,
    effective_rank,
    singular_values,
    spectral_norm,
    stable_rank,
)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_spectrum(sigma: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return a random matrix (num_rows, len(sigma)) with these singular values, in float64."""
    left = torch.linalg.qr(gaussian(num_rows, len(sigma)).double()).Q
    right = torch.linalg.qr(gaussian(len(sigma), len(sigma), seed=1).double()).Q
    return left * sigma @ right


SPECTRA = {
    "no gap": gaussian(400, 300),
    "wide": gaussian(200, 900),
    "heavy tail": with_spectrum(torch.arange(1, 301).double() ** -0.7, 300),
    "ten within 1e-7": with_spectrum(torch.cat([1 - 1e-8 * torch.arange(10).double(), torch.rand(190).double()]), 260),
    "spread over 1e-5": with_spectrum(1 - 1e-5 * torch.rand(200).double(), 200),
    "all alike": torch.linalg.qr(gaussian(200, 200).double()).Q,
    "one direction": torch.outer(gaussian(300), gaussian(150, seed=1)),
    "one entry": torch.zeros(200, 160).index_put_((torch.tensor(3), torch.tensor(5)), torch.tensor(-2.0)),
    "half precision": gaussian(300, 200).half(),
    "bfloat16": gaussian(300, 200).bfloat16(),
    "heads": gaussian(2, 3, 150, 140),
    "small heads": gaussian(2, 3, 16, 70),
    "not contiguous": gaussian(300, 400).T[::2, ::2],
    "tiny": gaussian(200, 200) * 1e-38,
    "huge": gaussian(200, 200).double() * 1e300,
}


@pytest.mark.parametrize("kind", SPECTRA)
def test_bounds_enclose_the_full_decomposition_and_are_tight(kind, tolerance):
    weight, allowed = SPECTRA[kind], tolerance("spectrum.stable_rank")
    peak = weight.double().abs().amax()
    singular = torch.linalg.svdvals(weight.double() / peak)
    exact_rank = singular.square().sum(-1) / singular[..., 0].square()
    for found, exact in ((spectral_norm(weight), singular[..., 0] * peak), (certified_stable_rank(weight), exact_rank)):
        assert found.value.shape == weight.shape[:-2]
        assert (found.lower <= exact * (1 + allowed)).all()
        assert (found.upper >= exact * (1 - allowed)).all()
        assert (found.lower <= found.value).all()
        assert (found.value <= found.upper).all()
        assert ((found.upper - found.lower) <= 2 * tolerance("spectrum.certified") * found.value).all()
    assert ((stable_rank(weight) / exact_rank - 1).abs() <= tolerance("spectrum.certified")).all()


def test_bounds_enclose_exactly_known_values():
    hadamard = torch.ones(1, 1)
    while len(hadamard) < 256:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    for found, exact in ((spectral_norm(hadamard), 16), (certified_stable_rank(hadamard), 256)):
        assert found.lower < exact < found.upper


def test_a_zero_matrix_in_a_batch_has_norm_zero():
    found = spectral_norm(torch.stack([torch.zeros(150, 140), torch.eye(150, 140)]))
    assert [bound[0].item() for bound in found] == [0, 0, 0]
    assert found.lower[1] < 1 < found.upper[1]


@pytest.fixture
def in_double_alone(monkeypatch):
    """Switch off deflation in single precision."""
    monkeypatch.setattr(spectrum, "enclosed", lambda matrix, relative: None)


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.usefixtures("in_double_alone")
def test_deflation_and_the_float64_gram_matrix_agree(kind, tolerance):
    weight = SPECTRA[kind]
    alone = certified_stable_rank(weight)
    singular = torch.linalg.svdvals(weight.double() / weight.double().abs().amax())
    exact = singular.square().sum(-1) / singular[..., 0].square()
    assert (alone.lower <= exact * (1 + tolerance("spectrum.stable_rank"))).all()
    assert (alone.upper >= exact * (1 - tolerance("spectrum.stable_rank"))).all()
    assert ((alone.upper - alone.lower) <= 2 * tolerance("spectrum.certified") * alone.value).all()


@pytest.mark.usefixtures("in_double_alone")
def test_an_estimate_that_is_too_low_is_rejected(monkeypatch, tolerance):
    weight = gaussian(300, 200)
    exact = torch.linalg.svdvals(weight.double())[:1]
    five_power_iterations = exact**2 / 1.15
    monkeypatch.setattr(spectrum, "_guesses", lambda gram, relative: iter([five_power_iterations, exact**2]))
    assert spectral_norm(weight).value.item() == pytest.approx(exact.item(), rel=tolerance("spectrum.stable_rank"))
    monkeypatch.setattr(spectrum, "_guesses", lambda gram, relative: iter([exact**2 * (1 - 1e-6)]))
    with pytest.raises(RunFailed, match="rounding"):
        spectral_norm(weight)


@pytest.mark.usefixtures("in_double_alone")
def test_an_estimate_that_is_too_high_raises(monkeypatch):
    weight = gaussian(300, 200)
    too_high = torch.linalg.svdvals(weight.double())[:1] ** 2 * (1 + 1e-6)
    monkeypatch.setattr(spectrum, "_guesses", lambda gram, relative: iter([too_high]))
    with pytest.raises(RunFailed, match="1e-06"):
        spectral_norm(weight)


@pytest.mark.usefixtures("in_double_alone")
def test_without_convergence_all_eigenvalues_are_computed(monkeypatch, tolerance):
    monkeypatch.setattr(spectrum, "largest", lambda gram: iter(()))
    weight = gaussian(300, 200)
    exact = torch.linalg.svdvals(weight.double())[0].item()
    assert spectral_norm(weight).value.item() == pytest.approx(exact, rel=tolerance("spectrum.stable_rank"))


@pytest.mark.parametrize("strength", [1.01, 1 + 1e-5])
def test_a_direction_orthogonal_to_the_start_is_found(strength, tolerance):
    start = torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    hidden = gaussian(200, seed=1).double()
    hidden -= start * (start @ hidden) / (start @ start)
    weight = torch.eye(200).double() + (strength - 1) * torch.outer(hidden, hidden) / (hidden @ hidden)
    found = spectral_norm(weight)
    assert found.lower < strength < found.upper
    assert found.value.item() == pytest.approx(strength, rel=tolerance("spectrum.certified"))


def test_reduced_precision_settings_change_nothing():
    weight = gaussian(400, 300)
    expected = certified_stable_rank(weight)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert certified_stable_rank(weight) == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("in_double_alone")
def test_a_large_matrix_is_converted_in_parts(monkeypatch, tolerance):
    weight = gaussian(1000, 150)
    expected = stable_rank(weight)
    monkeypatch.setattr(spectrum, "CHUNK", 1)
    assert (stable_rank(weight) / expected - 1).abs() <= tolerance("spectrum.stable_rank")


@pytest.mark.parametrize("relative", spectrum.ACCURACY.bad_values)
def test_an_unreachable_accuracy_is_refused(relative):
    with pytest.raises(InvalidArgument, match="relative"):
        spectral_norm(torch.eye(3), relative)


def test_singular_values_and_effective_rank(tolerance):
    sigma = torch.tensor([4.0, 2.0, 1.0, 1.0]).double()
    weight = with_spectrum(sigma, 7)
    assert (singular_values(weight) - sigma).abs().max() <= tolerance("spectrum.stable_rank") * 4
    by_hand = 2 ** (1 / 2 * 1 + 1 / 4 * 2 + 2 * 1 / 8 * 3)  # entropy in bits of shares 1/2, 1/4, 1/8, 1/8
    allowed = tolerance("spectrum.effective_rank")
    assert effective_rank(weight).item() == pytest.approx(by_hand, rel=allowed)
    rotation = torch.linalg.qr(gaussian(2, 12, 12).double()).Q
    assert effective_rank(1e-200 * rotation).tolist() == pytest.approx([12, 12], rel=allowed)
    assert effective_rank(torch.diag(torch.tensor([3.0, 0.0, 0.0]))).item() == pytest.approx(1, rel=allowed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("kind", ["no gap", "heads", "small heads", "bfloat16"])
def test_bounds_from_an_accelerator_enclose_the_full_decomposition_too(kind, tolerance):
    weight, allowed = SPECTRA[kind], tolerance("spectrum.stable_rank")
    there = certified_stable_rank(weight.cuda())
    assert there.value.is_cuda
    value, lower, upper = (bound.cpu() for bound in there)
    singular = torch.linalg.svdvals(weight.double())
    exact = singular.square().sum(-1) / singular[..., 0].square()
    assert (lower <= exact * (1 + allowed)).all()
    assert (upper >= exact * (1 - allowed)).all()
    assert ((upper - lower) <= 2 * tolerance("spectrum.certified") * value).all()
    if kind == "small heads":  # all their eigenvalues are computed
        assert ((value / exact - 1).abs() <= allowed).all()


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


def test_stable_ranks_of_known_matrices(tolerance):
    rotation = torch.linalg.qr(gaussian(12, 12).double()).Q
    assert stable_rank(3 * rotation).item() == pytest.approx(12, rel=tolerance("spectrum.stable_rank"))
    one_direction = torch.outer(gaussian(9).double(), gaussian(5, seed=1).double())
    assert stable_rank(one_direction).item() == pytest.approx(1, rel=tolerance("spectrum.stable_rank"))
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))).item() == pytest.approx(1.5)


@pytest.mark.parametrize("factor", [1e-170, 1e-30, -7.0, 1e160])
def test_the_stable_rank_does_not_depend_on_scale(factor, tolerance):
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
        (torch.ones(2, 3, dtype=torch.int64), "int64"),
    ],
)
@pytest.mark.parametrize("measure", [stable_rank, certified_stable_rank, effective_rank])
def test_matrices_without_a_stable_rank_are_refused(measure, weight, message):
    with pytest.raises(InvalidArgument, match=message) as refused:
        measure(weight)
    assert refused.value.function == measure.__name__


@pytest.mark.parametrize("measure", [spectral_norm, singular_values])
def test_nan_entries_are_counted_in_the_error(measure):
    with pytest.raises(InvalidArgument, match=f"{measure.__name__}.*1 of 9"):
        measure(torch.diag(torch.tensor([1.0, -math.inf, 2.0])))
