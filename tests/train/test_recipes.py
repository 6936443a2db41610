import json
from dataclasses import replace

import pytest

from joma.errors import BadInput, InvalidArgument
from joma.problem.combinatorial import random_hierarchy
from joma.problem.tree import balanced_tree
from joma.train.decoder import DecoderConfig
from joma.train.recipes import SGD_FACTOR, VARIANTS, Recipe, hierarchy_recipe, paper_figure6, recipe_from_json

RECIPE = Recipe("run", DecoderConfig(100, num_layers=2, dropout=0.1), 50, learning_rate=3e-4, seed=7)


def test_recipe_survives_json():
    assert recipe_from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE


@pytest.mark.parametrize("change", [{"speed": 3}, {"decoder": {"depth": 3}}, {"decoder": 3}])
def test_unknown_settings_are_refused(change):
    with pytest.raises(BadInput, match="no recipe"):
        recipe_from_json(RECIPE.to_json() | change)


def test_probe_steps_are_dense_at_first_then_even_with_the_last():
    recipe = replace(RECIPE, num_steps=47, early_probe_every=3, early_until=10, probe_every=8)
    assert recipe.probe_steps() == [0, 3, 6, 9, 16, 24, 32, 40, 47]
    assert replace(recipe, early_until=0).probe_steps() == [0, 8, 16, 24, 32, 40, 47]
    assert replace(recipe, num_steps=5).probe_steps() == [0, 3, 5]


def test_paper_figure6_has_the_settings_of_the_paper():
    recipe = paper_figure6(4000)
    assert recipe.decoder == DecoderConfig(
        vocabulary_size=4000, width=200, num_heads=1, hidden=200, num_layers=1, activation="relu", dropout=0.2
    )
    assert (recipe.learning_rate, recipe.batch_size, recipe.length, recipe.gradient_clip) == (1e-4, 20, 35, 0.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_differ_only_in_the_named_setting(variant):
    full, other = paper_figure6(500, seed=3), paper_figure6(500, variant=variant, seed=3)
    before, after = (each.to_json() | each.to_json()["decoder"] for each in (full, other))
    differing = {name for name, value in after.items() if value != before[name]} - {"name", "decoder"}
    assert (
        differing
        == {
            "full network": set(),
            "linear MLP": {"activation"},
            "no MLP": {"mlp"},
            "no LayerNorm": {"layer_norm"},
            "frozen value path": {"train_value_path"},
            "constant gradient at the logits": {"loss"},
            "constant gradient at the hidden units": {"loss", "train_output_path"},
            "constant gradient at the logits, linear MLP": {"loss", "activation"},
            "SGD": {"optimizer", "learning_rate"},
            "no residual around the MLP": {"residual"},
            "no residual around attention": {"residual"},
            "no residual": {"residual"},
            "one query": {"one_query", "batch_size", "num_probe_sequences"},
        }[variant]
    )
    assert len({paper_figure6(500, variant=variant, seed=seed).name for seed in range(3)}) == 3


def test_sgd_takes_a_multiple_of_the_learning_rate_of_adam():
    assert paper_figure6(500, variant="SGD", learning_rate=1e-3).learning_rate == SGD_FACTOR * 1e-3


def test_settings_are_passed_to_recipe_and_decoder():
    recipe = paper_figure6(500, num_layers=3, learning_rate=3e-4, num_steps=10, name="mine", output_bias="unigram")
    assert (recipe.decoder.num_layers, recipe.decoder.output_bias) == (3, "unigram")
    assert (recipe.learning_rate, recipe.num_steps, recipe.name) == (3e-4, 10, "mine")
    with pytest.raises(InvalidArgument, match="one of full network"):
        paper_figure6(500, variant="half network")


def test_hierarchy_recipe_has_a_layer_per_level_and_an_output_per_label():
    tree, table = balanced_tree((2, 2, 2, 2), 0.5, num_labels=3), random_hierarchy(8, (6, 8), 2, num_tokens=24)
    for law, num_layers in ((tree, 3), (table, 2)):
        recipe = hierarchy_recipe(law, num_steps=5, seed=4)
        assert (recipe.decoder.num_layers, recipe.decoder.num_logits) == (num_layers, law.num_labels)
        assert (recipe.decoder.vocabulary_size, recipe.length) == (law.num_tokens + 1, law.length)
        assert (recipe.num_steps, recipe.seed, recipe.decoder.dropout) == (5, 4, 0.0)
        assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    names = {hierarchy_recipe(law, num_steps=5, seed=seed).name for law in (tree, table) for seed in (0, 1)}
    assert len(names) == 4
    wide = hierarchy_recipe(tree, num_steps=5, width=1024, hidden=4096, learning_rate=1e-4, batch_size=20)
    assert (wide.decoder.width, wide.decoder.hidden) == (1024, 4096)
    assert (wide.learning_rate, wide.batch_size) == (1e-4, 20)
    assert not hierarchy_recipe(tree, num_steps=5, mlp=False).decoder.mlp


def test_snapshots_include_the_first_and_the_last_step():
    assert replace(RECIPE, snapshot_every=20).snapshot_steps() == [0, 20, 40, 50]
    assert replace(RECIPE, snapshot_every=25).snapshot_steps() == [0, 25, 50]
    assert RECIPE.snapshot_steps() == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a/b"},
        {"num_steps": 0},
        {"batch_size": 0},
        {"length": 1},
        {"seed": 2**63},
        {"snapshot_every": 0},
        {"weight_decay": -0.1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_clip": -1.0},
        {"num_probe_sequences": 3},
        {"early_until": -1},
        {"checkpoint_every": 0},
        {"device": "tpu"},
        {"optimizer": "rmsprop"},
        {"loss": "hinge"},
    ],
)
def test_invalid_recipe_settings_are_refused(change):
    with pytest.raises(InvalidArgument, match=f"`{next(iter(change))}`"):
        replace(RECIPE, **change)
