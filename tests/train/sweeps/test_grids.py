"""Grids of settings are read as typed, from mappings and from files, and bad ones are refused with the nearest name."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joma.errors import BadInput
from joma.train.sweeps.grids import ALIASES, KINDS, Interval, grid_of, run_name


def points(over):
    return list(grid_of(over).points())


def test_values_with_commas_form_a_product_in_the_order_of_the_keys():
    grid = grid_of(["lr=1e-4,1e-3", "layers=1,5"])
    assert len(grid) == 4
    assert points(["lr=1e-4,1e-3", "layers=1,5"])[:2] == [
        {"learning_rate": 1e-4, "num_layers": 1},
        {"learning_rate": 1e-4, "num_layers": 5},
    ]
    assert grid.words == ("lr=0.0001,0.001", "layers=1,5")


def test_a_range_has_a_stride_or_a_number_of_values_with_equal_ratios():
    assert grid_of("layers=1:10:3").axes == {"num_layers": (1, 4, 7, 10)}
    assert grid_of("dropout=0:0.3:0.1").axes == {"dropout": (0.0, 0.1, 0.2, 0.3)}
    rates = grid_of("lr=1e-5:1e-2:7log").axes["learning_rate"]
    assert rates[0] == 1e-5
    assert rates[-1] == 1e-2
    assert rates == pytest.approx(np.geomspace(1e-5, 1e-2, 7), rel=1e-3)


@pytest.mark.parametrize("over", ["lr=1e-6:1e-2:100000log", "lr=1e-4:1.01e-4:300log"])
def test_values_of_a_fine_range_with_equal_ratios_are_different(over):
    values = grid_of(over).axes["learning_rate"]
    assert len(set(values)) == len(grid_of(over)) == len(values)


def test_an_interval_is_for_a_search_and_has_no_points():
    grid = grid_of("lr=1e-6:1e-2:log")
    assert grid.axes == {"learning_rate": Interval(1e-6, 1e-2, is_log=True)}
    with pytest.raises(BadInput, match="without a number of values"):
        list(grid.points())


def test_values_have_the_types_of_their_settings():
    over = {"mlp": "false", "activation": "gelu", "words": 500, "lr": 1, "seed": range(2)}
    assert points(over)[0] == {
        "mlp": False,
        "activation": "gelu",
        "vocabulary_size": 500,
        "learning_rate": 1.0,
        "seed": 0,
    }
    assert isinstance(points({"lr": 1})[0]["learning_rate"], float)


def test_files_list_points_or_a_product(tmp_path):
    csv, as_list, product = (tmp_path / name for name in ("grid.csv", "list.json", "product.json"))
    csv.write_text("lr, layers\n1e-3, 2\n1e-2,\n , \n")  # a row without a value is none
    as_list.write_text(json.dumps([{"lr": 1e-3, "layers": 2}, {"lr": 1e-2}]))
    product.write_text(json.dumps({"lr": [1e-3, 1e-2], "layers": [1, 2]}))
    wanted = [{"learning_rate": 1e-3, "num_layers": 2}, {"learning_rate": 1e-2}]
    assert points(str(csv)) == points([str(as_list)]) == points(json.loads(as_list.read_text())) == wanted
    assert len(grid_of(str(product))) == 4


@pytest.mark.parametrize(
    ("over", "problem"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("layer=1", "did you mean 'layers'"),
        ("device=cpu", "`over` is 'device'"),
        ("lr", "is 'lr'"),
        ("lr=", "no value"),
        ({"lr": []}, "no value"),
        ([], "lists no point"),
        (5, "of type int"),
        ("lr=1e-3,0.001", "same value twice"),
        ("layers=1:2:9log", "same value twice"),
        (["lr=1", "learning_rate=2"], "sets learning_rate twice"),
        ([{"lr": 1e-3, "learning_rate": 1e-4}], "sets learning_rate twice"),
        ([{"lr": 1e-3}, {"lr": 0.001}], "twice"),
        ([{"lr": 1e-3, "seed": 7}, {"lr": 1e-2}], "a seed for lr-0.001_seed-7, but none for lr-0.01"),
        ("lr=nan", "'nan'"),
        ("lr=fast", "'fast'"),
        ("layers=1.5", "'1.5'"),
        ("mlp=maybe", "true or false"),
        ("activation=swish", "one of relu"),
        ("lr=1e-2:1e-5:7log", "1:10:1 or 1e-5:1e-2:7log"),
        ("lr=0:1:7log", "7log"),
        ("lr=1:2:1log", "1e-5:1e-2:7log"),
        ("lr=1:2:9999999999log", "more than 1,000,000 values"),
        ("lr=0:1:1e-9", "more than 1,000,000 values"),
        ("lr=0:1:5e-324", "more than 1,000,000 values"),
        ("steps=1:2000000:1", "more than 1,000,000 values .* take a larger stride"),
        ("layers=1:3:0", "1:10:1"),
        ("seed=99999999999999999999", "sets seed to '99999999999999999999'; expected a whole number below 2\\^63"),
        ({"checkpoint_every": 10**20}, "sets checkpoint_every to 100000000000000000000; expected .* below 2\\^63"),
        ("seed=1e30:1e30:1", "below 2\\^63"),
        ({"seed": 10**5000}, "a very large one"),
        ("layers=1:3:0.5", "7log"),
        ("activation=a:b", "7log"),
        ("no-such-file.csv", "cannot be read"),
        (["steps=3", "points.csv"], "is the file 'points.csv' and something else"),
    ],
)
def test_a_bad_grid_is_refused(over, problem):
    with pytest.raises(BadInput, match=problem):
        list(grid_of(over).points())


@pytest.mark.parametrize("content", ["lr,layers\n1", "lr\n1e-3,5\n", "", "lr\n", '"lr\n1'])
def test_a_file_with_rows_of_other_lengths_or_none_is_refused(tmp_path, content):
    path = tmp_path / "grid.csv"
    path.write_text(content)
    with pytest.raises(BadInput):
        grid_of(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grid.csv", "lr,lr\n1e-3,1e-4\n"),
        ("grid.csv", "lr,learning_rate\n1e-3,1e-4\n"),
        ("grid.json", '{"lr": [1e-3], "lr": [1e-4]}'),
        ("grid.json", '[{"lr": 1e-3, "lr": 1e-4}]'),
        ("grid.json", '[{"lr": 1e-3, "learning_rate": 1e-4}]'),
    ],
)
def test_a_file_that_sets_something_twice_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=f"{name} sets learning_rate twice; expected every setting once"):
        grid_of(str(tmp_path / name))


@given(st.lists(st.floats(1e-9, 1e3), min_size=2, max_size=20, unique=True))
def test_different_points_have_different_names_that_are_read_again(rates):
    names = {run_name({"learning_rate": rate}) for rate in rates}
    assert len(names) == len(rates)
    assert grid_of(grid_of({"lr": rates}).words).axes["learning_rate"] == tuple(rates)


def test_the_name_of_a_run_depends_on_its_settings_alone():
    assert (
        run_name({"width": 64, "seed": 2, "num_layers": 5, "learning_rate": 1e-3})
        == "lr-0.001_layers-5_seed-2_width-64"
    )
    assert run_name({"num_layers": 5, "learning_rate": 1e-3}) == run_name({"learning_rate": 1e-3, "num_layers": 5})


def test_long_names_stay_different_and_fit_a_folder():
    settings = {name: 1 for name in KINDS if KINDS[name] is int}
    assert len(run_name(settings)) < 200
    assert run_name(settings) != run_name(settings | {"seed": 2})


def test_short_names_are_of_settings():
    assert set(ALIASES.values()) <= set(KINDS)
