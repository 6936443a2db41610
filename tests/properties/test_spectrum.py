import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joma.measure.spectra.spectrum import certified_stable_rank, effective_rank, spectral_norm, stable_rank
from tolerances import TOLERANCES

RANK = TOLERANCES["spectrum.stable_rank"].bound
CERTIFIED = TOLERANCES["spectrum.certified"].bound

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 40)


def drawn(seed: int, *shape: int, decay: float = 0.0) -> torch.Tensor:
    """Random entries whose columns shrink as a power: from no gap at all to one direction above the rest."""
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return weight * torch.arange(1, shape[-1] + 1) ** -decay


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, st.floats(0, 4))
def test_ranks_lie_between_one_and_the_number_of_directions(seed, num_rows, num_columns, decay):
    weight = drawn(seed, num_rows, num_columns, decay=decay)
    stable, effective = stable_rank(weight).item(), effective_rank(weight).item()
    assert 1 - RANK <= stable <= min(num_rows, num_columns) * (1 + RANK)
    assert 1 - RANK <= effective <= min(num_rows, num_columns) * (1 + RANK)


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes)
def test_stable_rank_knows_no_side(seed, num_rows, num_columns):
    weight = drawn(seed, num_rows, num_columns)
    assert abs(stable_rank(weight.T).item() / stable_rank(weight).item() - 1) <= RANK


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(129, 220), st.integers(129, 220), st.floats(0, 2), st.integers(-30, 30))
def test_bounds_enclose_the_truth_on_either_way_to_it(seed, num_rows, num_columns, decay, exponent):
    weight = drawn(seed, num_rows, num_columns, decay=decay) * 10.0**exponent
    for part in (weight, weight[:, :60]):
        exact = torch.linalg.svdvals(part)
        norm, rank = spectral_norm(part), certified_stable_rank(part)
        assert norm.lower <= exact[0] * (1 + RANK)
        assert norm.upper >= exact[0] * (1 - RANK)
        assert norm.upper - norm.lower <= 2 * CERTIFIED * norm.value
        exact_rank = (exact / exact[0]).square().sum()
        assert rank.lower <= exact_rank * (1 + RANK)
        assert rank.upper >= exact_rank * (1 - RANK)
