import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from joma.measure.latents.alignment import alignment, correlations
from tolerances import TOLERANCES

CORRELATION = TOLERANCES["alignment.correlation"].bound

WAYS = ("best", "one_to_one", "in_sample")
seeds = st.integers(0, 2**32)
num_samples = st.integers(4, 60)
num_units = st.integers(1, 12)
num_latents = st.integers(1, 5)
untied = st.integers(8, 60)  # with two samples in a half every correlation is 1 or -1


def drawn(seed: int, samples: int, columns: int, coarse: bool) -> torch.Tensor:
    """Real numbers, or few different ones, so that constants and ties come up."""
    values = torch.randn(samples, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.7 * values).round() if coarse else values


def agree(one, other) -> bool:
    """Whether two alignments give the same numbers, or none in the same places."""
    for way in WAYS:
        left, right = getattr(one, way), getattr(other, way)
        for number in ("mean", "chance"):
            a, b = getattr(left, number), getattr(right, number)
            if a is not None or b is not None:
                assert a == pytest.approx(b, abs=CORRELATION), (way, number)
        assert [match.reason for match in left.latents] == [match.reason for match in right.latents]
    return True


@settings(max_examples=80, deadline=None)
@given(seeds, num_samples, num_units, num_latents, st.booleans())
def test_scores_are_correlations_and_p_values_probabilities(seed, samples, units, latents, coarse):
    found = alignment(
        drawn(seed, samples, units, coarse), drawn(seed + 1, samples, latents, coarse), num_permutations=5, seed=seed
    )
    for way in WAYS:
        matching = getattr(found, way)
        scores = [match.score for match in matching.latents if match.score is not None]
        assert all(-1 <= score <= 1 for score in scores)
        assert matching.num_without == latents - len(scores)
        assert all(bool(match.reason) == (match.score is None) for match in matching.latents)
        assert all(0 <= unit < units for match in matching.latents for unit in match.units)
        assert (matching.mean is None) == (not scores)
        if scores:
            assert matching.mean == pytest.approx(sum(scores) / len(scores), abs=CORRELATION)
            assert 1 / 6 <= matching.p_value <= 1


@settings(max_examples=60, deadline=None)
@given(seeds, untied, num_units, num_latents, st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_offset_of_a_unit_or_latent_are_nothing(seed, samples, units, latents, scale, offset):
    activations, present = drawn(seed, samples, units, False), drawn(seed + 1, samples, latents, False)
    before = alignment(activations, present, num_permutations=3)
    assert agree(before, alignment(scale * activations + offset, present, num_permutations=3))
    assert agree(before, alignment(activations, scale * present + offset, num_permutations=3))


@settings(max_examples=60, deadline=None)
@given(seeds, untied, num_units, num_latents)
def test_the_order_of_units_is_nothing(seed, samples, units, latents):
    activations, present = drawn(seed, samples, units, False), drawn(seed + 1, samples, latents, False)
    order = torch.randperm(units, generator=torch.Generator().manual_seed(seed))
    before = alignment(activations, present, num_permutations=3)
    after = alignment(activations[:, order], present, num_permutations=3)
    assert agree(before, after)
    for left, right in zip(before.best.latents, after.best.latents, strict=True):
        assert left.units == tuple(int(order[unit]) for unit in right.units)


@settings(max_examples=60, deadline=None)
@given(seeds, num_samples, num_units, num_latents, st.booleans())
def test_in_sample_is_at_least_any_units_correlation(seed, samples, units, latents, coarse):
    activations, present = drawn(seed, samples, units, coarse), drawn(seed + 1, samples, latents, coarse)
    matrix = correlations(activations, present)
    found = alignment(activations, present, num_permutations=1).in_sample
    for match, column in zip(found.latents, matrix.T, strict=True):
        existing = column[~column.isnan()]
        assert (match.score is None) == (not len(existing))
        if len(existing):
            assert match.score == pytest.approx(float(existing.max()), abs=CORRELATION)


@settings(max_examples=60, deadline=None)
@given(seeds, num_samples, num_units, num_latents)
def test_one_to_one_gives_no_unit_twice(seed, samples, units, latents):
    assume(latents <= units)
    found = alignment(drawn(seed, samples, units, False), drawn(seed + 1, samples, latents, False), num_permutations=1)
    for fold in range(2):
        assert len({match.units[fold] for match in found.one_to_one.latents}) == latents


@settings(max_examples=40, deadline=None)
@given(seeds, num_samples, st.integers(2, 8), num_units, num_latents)
def test_groups_add_up_to_the_same_scores(seed, samples, groups, units, latents):
    """What is found does not depend on whether samples are summed over groups; only chance does."""
    member = torch.arange(samples) % min(groups, samples)
    activations = drawn(seed, samples, units, False)
    present = drawn(seed + 1, 8, latents, False)[member]
    found = alignment(activations, present, groups=member, num_permutations=1).in_sample
    expected = alignment(activations, present, num_permutations=1).in_sample
    assert found.mean == pytest.approx(expected.mean, abs=CORRELATION)
