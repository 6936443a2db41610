"""The measurement of text.theorem1 on models in which Theorem 1 is exact, and its comparison of networks."""

import pytest
import torch

from joma.claims.text.motion import Layer, course
from joma.claims.text.theorem1 import (
    CRITERION,
    _by_another_seed,
    _conclusion,
    _findings,
    _networks_chart,
    _over_training,
)
from joma.claims.theorem1.flow import model_of, run
from joma.train.words import WordsOfLayer


def layers_of(kind, seeds=(0, 1), shift=0.0):
    """The one-layer model of the theory along its gradient flow, as if a decoder had been measured, one per seed."""
    trajectory = run(model_of(kind, "tanh", list(seeds)), list(seeds))
    num_tokens = trajectory.token_weights.shape[-2]
    ids, counts = torch.arange(num_tokens), torch.arange(1.0, 1 + num_tokens).double()
    layers = []
    for seed in seeds:
        snapshots = tuple(
            WordsOfLayer(
                ids,
                counts,
                trajectory.attention_logits[at, seed].double() + shift * at,
                trajectory.mean_attention[at, seed],
                trajectory.token_weights[at, seed][None],
                trajectory.token_weights[at, seed][None],
                float(trajectory.weights[at, seed].square().sum()),
                torch.ones(num_tokens).double(),
            )
            for at in range(0, len(trajectory.times), 10)
        )
        layers.append(Layer(tuple(range(len(snapshots))), ids, snapshots))
    return layers


@pytest.fixture(scope="module")
def exact():
    return layers_of("exp")


def test_the_first_term_alone_predicts_exponential_attention_exactly_in_any_weighting(exact, tolerance):
    for layer in exact:
        for beyond_frequency in (False, True):
            found = layer.agreement(layer.mlp_term, beyond_frequency=beyond_frequency)
            assert (1 - found).abs().max() < tolerance("simulation.solver")
        assert (layer.mlp_term - layer.measured).abs().max() < tolerance("simulation.solver")


def test_the_controls_fail_where_the_prediction_is_exact(exact):
    permuted = _over_training(exact, Layer.permuted)
    (other,) = _by_another_seed(exact)
    assert max(permuted.values) < CRITERION.threshold
    assert max(other.estimate.values) < CRITERION.threshold


def test_a_shift_of_all_logits_does_not_count(exact, tolerance):
    shifted = layers_of("exp", shift=3.0)
    for one, two in zip(exact, shifted, strict=True):
        difference = one.agreement(one.predicted) - two.agreement(two.predicted)
        assert difference.abs().max() < tolerance("simulation.solver")


def test_the_whole_formula_is_the_sum_of_its_terms_and_predicts_softmax_attention_better_than_permuted(tolerance):
    for layer in layers_of("softmax"):
        whole = layer.agreement(layer.predicted)
        assert (layer.mlp_term + layer.mean_term - layer.predicted).abs().max() < tolerance("sums.float64")
        assert whole.mean() > CRITERION.threshold
        assert layer.permuted().mean() < CRITERION.threshold


def test_one_seed_has_no_other_to_compare_with(exact):
    assert _by_another_seed(exact[:1]) == ()
    names = [finding.name for finding in _findings(exact[:1])]
    assert not any("seed" in name for name in names)
    measured = _over_training(exact[:1], lambda layer: layer.agreement(layer.predicted))
    assert "another seed" not in _conclusion(measured, (), _findings(exact[:1]))


def test_a_course_has_a_value_per_seed_and_snapshot_after_the_start(exact):
    found = course(exact, lambda layer: layer.agreement(layer.predicted))
    assert found.values.shape == (2, len(exact[0].snapshots) - 1)
    assert found.steps == exact[0].steps[1:]


def test_the_chart_of_several_networks_has_a_curve_for_each(exact):
    chart = _networks_chart({"one": exact, "another": exact[:1]})
    assert [curve.label for curve in chart.curves] == ["one", "another"]
    assert [curve.low is None for curve in chart.curves] == [False, True]
