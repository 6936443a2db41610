"""Sweeps after the paper's figures: their grids and sizes, and in what a sweep differs from the paper."""

import pytest

from joma.errors import BadInput
from joma.train.sweeps.grids import grid_of
from joma.train.sweeps.recipes import FIGURES, PAPER_WORDS, PROFILES, against_paper, figure_named, recipes_of

NUM_WORDS = {None: PAPER_WORDS, 500: 500}


def of_paper(name: str):
    points = [point | {"seed": seed} for point in FIGURES[name].grid("paper").points() for seed in range(3)]
    return recipes_of(name, "paper", points, NUM_WORDS, "cpu")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_runs_with_different_names_in_every_profile(name, profile):
    points = [point | {"seed": 0} for point in FIGURES[name].grid(profile).points()]
    recipes = recipes_of(name, profile, points, NUM_WORDS, "cpu")
    assert len({recipe.name for recipe in recipes}) == len(recipes) > 2


def test_the_paper_profile_has_the_sizes_of_the_paper():
    figure6, figure8 = of_paper("figure6"), of_paper("figure8")
    assert {recipe.decoder.num_layers for recipe in figure6} == set(range(1, 11))
    assert {recipe.learning_rate for recipe in figure6} == {1e-4}
    assert {recipe.decoder.num_layers for recipe in figure8} == {5}
    rates = [recipe.learning_rate for recipe in figure8]
    assert (min(rates), max(rates)) == (1e-6, 1e-2)
    for recipe in (*figure6, *figure8):
        assert (recipe.num_steps, recipe.batch_size, recipe.length) == (20 * 2_928, 20, 35)
        assert recipe.decoder.vocabulary_size == 28_782


def test_only_a_reduced_sweep_says_in_what_it_differs():
    assert against_paper("figure8", of_paper("figure8"), "wikitext2") == ""
    quick = recipes_of("figure8", "quick", [{"vocabulary_size": 500, "seed": 0}], NUM_WORDS, "cpu")
    said = against_paper("figure8", quick, "python-docs")
    for part in ("text python-docs (wikitext2)", "words 500 (28,782)", "steps 1,500 (58,560)", "seeds 1 (3)"):
        assert part in said
    assert "layers" not in said  # five in both


def test_every_setting_of_training_that_differs_from_the_paper_is_named():
    points = [{"width": 32, "optimizer": "sgd", "seed": 0}, {"width": 64, "probe_every": 7, "seed": 0}]
    said = against_paper("figure8", recipes_of("figure8", "paper", points, NUM_WORDS, "cpu"), "wikitext2")
    assert "width 32 to 64, 2 values (200), optimizer adam and sgd (adam)" in said
    assert "probe" not in said


def test_points_that_give_the_same_run_are_refused():
    points = grid_of([{"layers": 5, "lr": 1e-3}, {"lr": 1e-3}]).points()
    with pytest.raises(BadInput, match="are the same run"):
        recipes_of("figure8", "quick", list(points), NUM_WORDS, "cpu")


def test_settings_that_do_not_fit_together_are_refused():
    with pytest.raises(BadInput, match="num_heads"):
        recipes_of("figure8", "quick", [{"num_heads": 3}], NUM_WORDS, "cpu")


def test_an_unknown_figure_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'figure8'"):
        figure_named("figur8")
