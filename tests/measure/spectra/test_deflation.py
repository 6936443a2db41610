import pytest
import torch

from joma.measure.spectra import deflation
from joma.measure.spectra.deflation import enclosed


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact_square(weight: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(weight.double())[0].square())


def decaying(rows: int, columns: int, power: float) -> torch.Tensor:
    return gaussian(rows, columns) * torch.arange(1, columns + 1) ** -power


MATRICES = {
    "no gap": gaussian(700, 500),
    "no gap, float64": gaussian(300, 200).double(),
    "tall": gaussian(5000, 150),
    "square": gaussian(300, 300),
    "as trained": decaying(600, 300, 0.4),
    "one direction": torch.outer(gaussian(400), gaussian(150, seed=1)),
    "wide, stood upright": gaussian(200, 900).T,
    "three alike on top": torch.cat([7 * torch.eye(200)[:3], 0.1 * gaussian(400, 200)]),
}


@pytest.mark.parametrize("relative", [1e-4, 1e-6])
@pytest.mark.parametrize("kind", MATRICES)
def test_bounds_enclose_the_full_decomposition(kind, relative, tolerance):
    weight = MATRICES[kind]
    found, exact = enclosed(weight, relative), exact_square(weight)
    allowed = tolerance("spectrum.stable_rank")
    assert found is not None
    assert found.lower <= exact * (1 + allowed)
    assert found.upper >= exact * (1 - allowed)
    assert found.upper - found.value <= relative * found.value
    assert found.value == pytest.approx(exact, rel=relative)
    trace = float(weight.double().square().sum())
    assert abs(found.trace - trace) <= found.trace_doubt + allowed * trace


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(300, 200), torch.eye(200), torch.linalg.qr(gaussian(300, 200))[0]],
    ids=["zeros", "identity", "rotation"],
)
def test_matrices_without_a_bound_give_none(weight):
    assert enclosed(weight, 1e-6) is None


def test_unreachable_accuracy_gives_none():
    assert enclosed(gaussian(3000, 400), 1e-10) is None


def test_a_missed_direction_makes_the_factorisation_fail(monkeypatch):
    """If the iteration misses the strongest direction, no wrong bound is returned."""
    weight = decaying(600, 300, 0.4)
    *_, first = torch.linalg.svd(weight, full_matrices=False)
    others = weight - weight @ torch.outer(first[0], first[0])
    found_elsewhere = list(deflation.largest(others.T @ others))
    monkeypatch.setattr(deflation, "largest", lambda gram: iter(found_elsewhere))
    assert enclosed(others, 1e-6) is not None
    assert enclosed(weight, 1e-6) is None


@pytest.mark.parametrize("part", ["_thin", "_shift"])
def test_an_estimate_of_c_that_is_too_low_is_rejected(monkeypatch, part):
    """A wrong estimate of c, or of the distance that the bound needs, gives no bound instead of a wrong one."""
    weight, original = gaussian(300, 200), getattr(deflation, part)

    def optimistic(*arguments):
        result = original(*arguments)
        if part == "_thin" or result is None:
            return result if part == "_shift" else result._replace(away=1.1 * result.top)
        return result._replace(below=0.8 * result.below)

    monkeypatch.setattr(deflation, part, optimistic)
    assert enclosed(weight, 1e-6) is None


@pytest.mark.parametrize("columns", [150, 500, 1300])
def test_the_factorisation_fails_exactly_for_matrices_that_are_not_positive(columns):
    weight = gaussian(2 * columns, columns)
    gram = weight.T @ weight
    top = float(torch.linalg.eigvalsh(gram.double())[-1])
    assert deflation._lies_above(1.001 * top, -gram)
    assert not deflation._lies_above(0.999 * top, -gram)


@pytest.mark.parametrize("columns", [150, 500, 1300])
def test_rounding_errors_of_the_gram_matrix_stay_within_their_bound(columns):
    weight = gaussian(2000, columns)
    gram, exact = deflation._gram(weight).double(), weight.double().T @ weight.double()
    bound = (deflation._part(columns) + 2000 / deflation._part(columns) + 8) * deflation.SINGLE_UNIT * exact.trace()
    assert torch.linalg.matrix_norm(gram - exact, 2) <= bound
    assert torch.equal(gram, gram.T)
