import json

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.measure.latents.alignment import alignment, alignment_matrix, correlations, max_pooled

WAYS = ("best", "one_to_one", "in_sample")
HELD_OUT = ("best", "one_to_one")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def present(seed: int, *shape: int, share: float = 0.3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


# --- pooling -------------------------------------------------------------------------------------------------------


def test_pooling_takes_the_largest_of_the_positions_that_count():
    activations = torch.tensor([[[1.0, 5.0], [3.0, 2.0]], [[-1.0, -7.0], [-2.0, -3.0]]])
    assert max_pooled(activations).tolist() == [[3, 5], [-1, -3]]
    kept = torch.tensor([[False, True], [True, False]])
    assert max_pooled(activations, kept).tolist() == [[3, 2], [-1, -7]]


def test_the_content_of_padding_has_no_influence():
    activations = normal(0, 2, 3, 4)
    activations[:, 0] = torch.nan
    kept = torch.tensor([[False, True, True]] * 2)
    assert torch.equal(max_pooled(activations, kept), activations[:, 1:].amax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pooling_keeps_the_dtype_and_stops_gradients(dtype):
    pooled = max_pooled(normal(0, 2, 3, 4).to(dtype).requires_grad_())
    assert pooled.dtype == dtype
    assert not pooled.requires_grad


@pytest.mark.parametrize(
    ("activations", "kept", "received"),
    [
        (torch.ones(2, 3), None, r"shape \(2, 3\)"),
        (torch.ones(2, 3, 4, dtype=torch.int64), None, "int64"),
        (torch.ones(2, 0, 4), None, r"shape \(2, 0, 4\)"),
        (torch.ones(2, 3, 4), torch.ones(2, 3), "float32"),
        (torch.ones(2, 3, 4), torch.ones(2, 4, dtype=torch.bool), r"shape \(2, 4\)"),
        (torch.ones(2, 3, 4), torch.tensor([[True] * 3, [False] * 3]), "bool of shape"),
        (torch.full((2, 3, 4), torch.nan), None, "8 of 8"),
    ],
)
def test_invalid_arguments_of_pooling_are_refused(activations, kept, received):
    with pytest.raises(InvalidArgument, match=received):
        max_pooled(activations, kept)


# --- correlations --------------------------------------------------------------------------------------------------


def test_correlations_agree_with_numpy(tolerance):
    units, latents = normal(0, 50, 7).double() * 3 + 100, normal(1, 50, 4).double()
    latents[:, 1] += units[:, 2]
    expected = np.corrcoef(units.numpy(), latents.numpy(), rowvar=False)[:7, 7:]
    assert np.abs(correlations(units, latents).numpy() - expected).max() <= tolerance("alignment.correlation")


def test_bool_latents_count_as_one_and_zero(tolerance):
    units, latents = normal(0, 50, 7), present(1, 50, 4)
    difference = correlations(units, latents) - correlations(units, latents.double())
    assert difference.abs().max() <= tolerance("alignment.correlation")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_converted_before_summation(dtype, tolerance):
    units, latents = (normal(0, 4000, 3) + 30).to(dtype), present(1, 4000, 2)
    found = correlations(units, latents)
    expected = np.corrcoef(units.double().numpy(), latents.numpy(), rowvar=False)[:3, 3:]
    assert found.dtype == torch.float64
    assert np.abs(found.numpy() - expected).max() <= tolerance("alignment.correlation")


def test_only_correlations_with_constants_are_nan(tolerance):
    units, latents = normal(0, 60, 5), present(1, 60, 3)
    units[:, 1], units[:, 3], latents[:, 2] = 0, 0.1, True
    missing = correlations(units, latents).isnan()
    expected = torch.zeros(5, 3, dtype=torch.bool)
    expected[[1, 3]] = True
    expected[:, 2] = True
    assert torch.equal(missing, expected)


def test_rounding_errors_of_reordered_sums_count_as_constant():
    value = torch.tensor(0.1)
    rounded = torch.stack([value, torch.nextafter(value, value + 1), torch.nextafter(value, value - 1)]).repeat(20)
    units = torch.stack([rounded, rounded * 1e6, rounded + 1e-4 * normal(0, 60)], dim=1)
    assert correlations(units, present(1, 60, 1)).isnan()[:, 0].tolist() == [True, True, False]


def test_correlations_of_very_large_and_small_numbers_are_accurate(tolerance):
    units, latents = normal(0, 50, 2).double(), present(1, 50, 2)
    expected = correlations(units, latents)
    for factor in (1e300, 1e-300):
        assert (correlations(units * factor, latents) - expected).abs().max() <= tolerance("alignment.correlation")


# --- planted units -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    """Return twenty units, the last four of which are the latents, scaled and shifted."""
    latents = present(0, 400, 4)
    return alignment(torch.cat([normal(1, 400, 16), 3 * latents - 7.0], dim=1), latents, num_permutations=99)


@pytest.mark.parametrize("way", WAYS)
def test_a_unit_that_is_the_latent_is_found(planted, way, tolerance):
    matching = getattr(planted, way)
    assert [set(match.units) for match in matching.latents] == [{16}, {17}, {18}, {19}]
    assert matching.mean == pytest.approx(1, abs=tolerance("alignment.correlation"))
    assert matching.corrected == pytest.approx(1, abs=tolerance("alignment.correlation"))
    assert matching.p_value == 1 / 100
    assert matching.num_without == 0


def test_only_held_out_scores_have_a_unit_per_fold(planted):
    assert {len(match.units) for match in planted.best.latents + planted.one_to_one.latents} == {2}
    assert {len(match.units) for match in planted.in_sample.latents} == {1}


def test_the_sign_of_a_correlation_counts():
    latents = present(0, 400, 1)
    found = alignment(-latents.double(), latents, num_permutations=9)
    assert found.best.mean == pytest.approx(-1)
    assert found.in_sample.mean == pytest.approx(-1)


def test_one_to_one_assigns_a_unit_to_one_latent_only(tolerance):
    latents = present(0, 600, 1).repeat(1, 2)
    units = torch.cat([latents[:, :1].float(), normal(1, 600, 5)], dim=1)
    found = alignment(units, latents, num_permutations=19)
    assert found.best.mean == pytest.approx(1, abs=tolerance("alignment.correlation"))
    scores = sorted(match.score for match in found.one_to_one.latents)
    assert scores[1] == pytest.approx(1, abs=tolerance("alignment.correlation"))
    assert abs(scores[0]) <= tolerance("alignment.by_chance")
    first, second = found.one_to_one.latents
    assert all(one != other for one, other in zip(first.units, second.units, strict=True))


def test_one_to_one_maximises_the_sum_of_correlations():
    one, two, noise = normal(0, 4000, 3).T
    latents = torch.stack([one, two], dim=1)  # the first unit fits both latents, and the second only one of them
    units = torch.stack([one + two + 0.2 * noise, one + 2 * noise], dim=1)
    found = alignment(units, latents, num_permutations=1)
    assert [set(match.units) for match in found.best.latents] == [{0}, {0}]
    assert [set(match.units) for match in found.one_to_one.latents] == [{1}, {0}]


def test_one_to_one_needs_as_many_units_as_latents():
    found = alignment(normal(0, 40, 2), present(1, 40, 3), num_permutations=9)
    assert found.one_to_one.mean is None
    assert found.one_to_one.p_value is None
    assert found.one_to_one.reason == "fewer units vary (2) than latents (3)"
    assert found.best.mean is not None


def test_held_out_units_are_chosen_on_one_half_and_scored_on_the_other():
    latents = normal(0, 64, 3).double()
    units = normal(1, 64, 40).double()
    found = alignment(units, latents, num_permutations=1)
    for match, latent in zip(found.best.latents, latents.T, strict=True):
        chosen = units[:, list(match.units)]
        on_all = np.corrcoef(chosen.numpy(), latent.numpy()[:, None], rowvar=False)[:2, 2]
        assert match.score < on_all.mean()  # scores on the half on which units were chosen are biased upwards


def test_in_sample_is_the_score_of_the_paper(tolerance):
    units, latents = normal(0, 101, 30), present(1, 101, 4)
    units[:5, 3], units[5:, 3] = 1, 0  # almost always inactive, so it may be constant in one half
    expected = correlations(units, latents).max(0)
    found = alignment(units, latents, num_permutations=3).in_sample
    scores = torch.tensor([match.score for match in found.latents], dtype=torch.float64)
    assert (scores - expected.values).abs().max() <= tolerance("alignment.correlation")
    assert [match.units for match in found.latents] == [(unit,) for unit in expected.indices.tolist()]
    assert found.mean == pytest.approx(float(expected.values.mean()), abs=tolerance("alignment.correlation"))


def test_real_latents_are_found_like_binary_ones(tolerance):
    latents = normal(0, 500, 3)
    found = alignment(torch.cat([normal(1, 500, 8), latents + 0.5 * normal(2, 500, 3)], dim=1), latents)
    expected = 1 / 1.25**0.5  # correlation of a latent with itself plus noise of half its standard deviation
    for way in WAYS:
        assert getattr(found, way).mean == pytest.approx(expected, abs=tolerance("alignment.by_chance"))
        assert getattr(found, way).p_value == 1 / 201


# --- chance --------------------------------------------------------------------------------------------------------


def test_held_out_scores_of_noise_are_zero_with_many_units(tolerance):
    found = alignment(normal(0, 60, 2000), present(1, 60, 6, share=0.5), num_permutations=50)
    assert found.in_sample.mean > 0.4
    assert abs(found.best.mean) <= tolerance("alignment.half_by_chance")
    assert abs(found.in_sample.corrected) <= tolerance("alignment.by_chance")


def test_p_values_of_noise_are_uniform(tolerance):
    def p_values(seed: int) -> list[float]:
        found = alignment(normal(seed, 40, 12), present(seed + 1000, 40, 3), num_permutations=39, seed=seed)
        return [getattr(found, way).p_value for way in WAYS]

    drawn = np.array([p_values(seed) for seed in range(200)])
    levels = np.linspace(0.05, 1, 20)
    shares = (drawn[:, :, None] <= levels + 1e-9).mean(0)
    assert np.abs(shares - levels).max() <= tolerance("alignment.uniform")


def test_the_corrected_score_of_noise_is_zero_on_average(tolerance):
    drawn = [alignment(normal(seed, 60, 50), present(seed + 99, 60, 5), num_permutations=20) for seed in range(60)]
    for way in WAYS:
        mean = np.mean([getattr(found, way).corrected for found in drawn])
        assert abs(mean) <= tolerance("alignment.corrected_noise")


def test_chance_is_the_score_of_permuted_rows(tolerance):
    units, latents = normal(0, 50, 100), present(1, 50, 5)
    found = alignment(units, latents, num_permutations=300).in_sample
    generator = np.random.default_rng(0)
    shuffled = [correlations(units, latents[generator.permutation(50)]).max(0).values for _ in range(300)]
    by_latent = torch.stack(shuffled).mean(0)
    assert found.chance == pytest.approx(float(by_latent.mean()), abs=tolerance("alignment.chance"))
    for match, expected in zip(found.latents, by_latent.tolist(), strict=True):
        assert match.chance == pytest.approx(expected, abs=3 * tolerance("alignment.chance"))
    assert found.corrected == pytest.approx((found.mean - found.chance) / (1 - found.chance))


def test_results_depend_only_on_the_seed():
    units, latents = normal(0, 50, 20), present(1, 50, 3)
    once = alignment(units, latents, num_permutations=20, seed=3)
    torch.manual_seed(7)
    assert alignment(units, latents, num_permutations=20, seed=3) == once
    assert alignment(units, latents, num_permutations=20, seed=4).best.mean != once.best.mean


def test_blocks_of_permutations_change_nothing(monkeypatch, tolerance):
    units, latents = normal(0, 50, 20), present(1, 50, 3)
    whole = alignment(units, latents, num_permutations=20)
    monkeypatch.setattr("joma.measure.latents.alignment._BLOCK", 1)
    parts = alignment(units, latents, num_permutations=20)
    for way in WAYS:
        assert getattr(parts, way).chance == pytest.approx(
            getattr(whole, way).chance, abs=tolerance("alignment.correlation")
        )
        assert getattr(parts, way).p_value == getattr(whole, way).p_value


# --- groups --------------------------------------------------------------------------------------------------------


def a_table(seed: int, num_inputs: int = 20, num_units: int = 1000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return units that are independent of the latents, on samples of few distinct inputs."""
    inputs = torch.arange(400) % num_inputs
    return normal(seed, num_inputs, num_units).relu()[inputs], present(seed + 1, num_inputs, 8)[inputs], inputs


def test_with_few_inputs_only_permutations_of_groups_give_the_chance_level():
    units, latents, inputs = a_table(0)
    naive, grouped = alignment(units, latents), alignment(units, latents, groups=inputs)
    assert grouped.num_groups == 20
    for way in WAYS:
        assert getattr(naive, way).p_value == 1 / 201
        assert getattr(naive, way).corrected > 0.4
        assert getattr(grouped, way).mean > 0.6
        assert getattr(grouped, way).p_value > 0.05


def test_p_values_of_a_table_are_uniform(tolerance):
    drawn = []
    for seed in range(100):
        units, latents, inputs = a_table(2 * seed, num_units=30)
        found = alignment(units, latents, groups=inputs, num_permutations=19)
        drawn.append([getattr(found, way).p_value for way in WAYS])
    levels = np.linspace(0.05, 1, 20)
    shares = (np.array(drawn)[:, :, None] <= levels + 1e-9).mean(0)
    assert np.abs(shares - levels).max() <= tolerance("alignment.uniform")


def test_groups_of_one_sample_equal_no_groups():
    units, latents = normal(0, 50, 20), present(1, 50, 3)
    without = alignment(units, latents, num_permutations=20)
    names = 7 * torch.arange(50) - 100
    for way in WAYS:
        assert getattr(alignment(units, latents, num_permutations=20, groups=names), way) == getattr(without, way)


def test_a_group_is_split_evenly_so_that_its_latents_are_in_both_halves():
    inputs = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    latents = torch.tensor([1.0, 0, 0, 0])[inputs][:, None]
    for seed in range(20):
        found = alignment(normal(seed, 8, 3), latents, groups=inputs, num_permutations=9, seed=seed)
        assert found.best.num_without == 0


# --- undefined correlations ---------------------------------------------------------------------------------------


def test_a_constant_latent_has_no_score_and_is_left_out_of_the_mean(tolerance):
    latents = present(0, 200, 3)
    latents[:, 1] = False
    found = alignment(torch.cat([latents.float(), normal(1, 200, 4)], dim=1), latents, num_permutations=19)
    for way in WAYS:
        matching = getattr(found, way)
        assert matching.latents[1].score is None
        assert matching.latents[1].reason == "the latent is constant"
        assert matching.num_without == 1
        assert matching.mean == pytest.approx(1, abs=tolerance("alignment.correlation"))


def test_a_latent_present_once_has_only_an_in_sample_score():
    latents = torch.zeros(50, 2, dtype=torch.bool)
    latents[7, 0], latents[::3, 1] = True, True
    found = alignment(normal(1, 50, 4), latents, num_permutations=9)
    for way in HELD_OUT:
        assert getattr(found, way).latents[0].reason == "the latent is constant in one half"
    assert found.in_sample.latents[0].score is not None


def test_constant_units_are_never_chosen():
    units = torch.cat([torch.zeros(80, 3), torch.full((80, 2), 0.3), -present(0, 80, 1).float()], dim=1)
    found = alignment(units, present(0, 80, 1), num_permutations=9)
    assert found.num_constant_units == 5
    for way in WAYS:  # the only varying unit has a correlation of -1, below the 0 that a constant would get
        assert set(getattr(found, way).latents[0].units) == {5}


def test_constant_units_give_a_reason_instead_of_a_score():
    found = alignment(torch.ones(20, 3), present(0, 20, 2), num_permutations=9)
    for way in WAYS:
        matching = getattr(found, way)
        assert (matching.mean, matching.chance, matching.corrected, matching.p_value) == (None,) * 4
        assert matching.reason == "every unit is constant"
        assert {match.reason for match in matching.latents} == {"every unit is constant"}


def test_a_unit_active_once_has_no_held_out_score():
    units = torch.zeros(20, 1)
    units[3] = 1
    found = alignment(units, present(0, 20, 2), num_permutations=9)
    assert found.best.reason == "every unit is constant in one half of the samples"
    assert found.in_sample.mean is not None


def test_a_chance_level_of_one_gives_no_corrected_score():
    inputs = torch.arange(40) % 2
    units = torch.stack([inputs, 1 - inputs], dim=1).double()  # for either assignment of the latent, a unit fits
    found = alignment(units, inputs.bool()[:, None], groups=inputs, num_permutations=19)
    assert found.best.p_value == 1
    assert found.best.corrected is None
    assert found.best.reason == "the chance level is 1"


def test_permutations_without_a_score_count_as_reaching_the_mean():
    latents = torch.tensor([True, True, False, False])[:, None]  # after a permutation, one half may be constant
    drawn = [alignment(normal(seed, 4, 2), latents, num_permutations=1, seed=seed).best for seed in range(60)]
    silent = [found for found in drawn if found.mean is not None and found.chance is None]
    assert silent
    assert all(found.p_value == 1 and found.reason == "no permutation has a score" for found in silent)


# --- several layers, and invalid arguments ----------------------------------------------------------------------------


def test_the_matrix_shows_which_layer_represents_which_level():
    lower, upper = present(0, 300, 4), present(1, 300, 2)
    layers = [torch.cat([level.float(), normal(2, 300, 9)], dim=1) for level in (lower, upper)]
    matrix = alignment_matrix(layers, [lower, upper], num_permutations=19)
    found = [[cell.best.p_value == 1 / 20 and cell.best.mean > 0.99 for cell in row] for row in matrix]
    assert found == [[True, False], [False, True]]
    assert matrix[0][1] == alignment(layers[0], upper, num_permutations=19)


def test_an_alignment_survives_json(planted):
    data = json.loads(json.dumps(planted.to_json(), allow_nan=False))
    assert data["one_to_one"]["latents"][2]["units"] == [18, 18]
    assert data["best"]["p_value"] == planted.best.p_value
    assert data["num_samples"] == 400


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_an_accelerator_gives_the_same_alignment(tolerance):
    units, latents = normal(0, 400, 300), present(1, 400, 8)
    here, there = alignment(units, latents), alignment(units.cuda(), latents)
    for way in WAYS:
        for number in ("mean", "chance", "p_value"):
            assert getattr(getattr(there, way), number) == pytest.approx(
                getattr(getattr(here, way), number), abs=tolerance("alignment.correlation")
            )


UNITS, LATENTS = normal(0, 10, 3), present(1, 10, 2)


@pytest.mark.parametrize(
    ("units", "latents", "settings", "message"),
    [
        (UNITS.index_fill(0, torch.tensor([2]), torch.nan), LATENTS, {}, "`units` is NaN or infinite in 3 of 30"),
        (UNITS, LATENTS.double().fill_(torch.inf), {}, "`latents` is NaN or infinite in 20 of 20"),
        (UNITS, LATENTS[:9], {}, "`latents` is of 9 samples"),
        (UNITS[:3], LATENTS[:3], {}, "`units` is of 3 samples"),
        (UNITS[:, :0], LATENTS, {}, "`units` is float32 of shape"),
        (UNITS, LATENTS[:, :0], {}, "`latents` is bool of shape"),
        (UNITS, LATENTS.int(), {}, "`latents` is int32"),
        (UNITS > 0, LATENTS, {}, "`units` is bool"),
        (UNITS, LATENTS[:, 0], {}, r"`latents` is bool of shape \(10,\)"),
        (UNITS, LATENTS.to(torch.complex64), {}, "`latents` is complex64"),
        (UNITS, LATENTS, {"num_permutations": 0}, "`num_permutations` is 0"),
        (UNITS, LATENTS, {"num_permutations": 2.5}, "`num_permutations` is 2.5"),
        (UNITS, LATENTS, {"groups": torch.arange(9)}, r"`groups` is int64 of shape \(9,\)"),
        (UNITS, LATENTS, {"groups": torch.arange(10.0)}, "`groups` is float32"),
        (UNITS, LATENTS, {"groups": torch.zeros(10, dtype=torch.int64)}, "that name one group"),
        (UNITS, LATENTS, {"groups": torch.arange(10) // 5}, "a group with different latents"),
    ],
)
def test_bad_input_is_named(units, latents, settings, message):
    with pytest.raises(InvalidArgument, match=message):
        alignment(units, latents, **settings)


def test_an_empty_matrix_is_refused():
    with pytest.raises(InvalidArgument, match="`levels` is empty"):
        alignment_matrix([UNITS], [])
