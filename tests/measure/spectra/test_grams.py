"""Spectra from sums of Gram matrices are those of the whole matrix (in two processes: watch/test_sharded)."""

import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.spectra.grams import Gram, effective_rank_of, spectral_norm_of, stable_rank_of, summed_gram
from joma.measure.spectra.spectrum import certified_stable_rank, effective_rank, spectral_norm

MATRIX = torch.randn(300, 150, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_sum_over_shards_has_the_spectrum_of_the_whole_matrix(axis, group):
    matrix = MATRIX if axis == 0 else MATRIX.T.contiguous()
    shards = [
        summed_gram(shard, axis, 300, group) for shard in (*matrix.split([100, 200], axis), matrix.narrow(axis, 0, 0))
    ]
    gram = Gram(shards[0].matrix + shards[1].matrix, 300)
    for found, expected in (
        (stable_rank_of(gram), certified_stable_rank(MATRIX)),
        (spectral_norm_of(gram), spectral_norm(MATRIX)),
    ):
        assert found.lower <= found.value <= found.upper
        assert max(found.lower, expected.lower) <= min(found.upper, expected.upper)
        assert found.upper - found.lower <= 2e-6 * found.value
    assert effective_rank_of(gram).item() == pytest.approx(effective_rank(MATRIX).item(), rel=1e-9)


@pytest.mark.parametrize(("value", "says"), [(0.0, "a matrix of zeros"), (torch.nan, "NaN or infinite")])
def test_matrices_without_a_rank_are_refused_as_whole_ones_are(value, says):
    for measure in (stable_rank_of, spectral_norm_of, effective_rank_of):
        with pytest.raises(InvalidArgument, match=says):
            measure(Gram(torch.full((3, 3), value, dtype=torch.float64), 5))
