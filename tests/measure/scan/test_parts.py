"""Faults in single tensors of one step are found; unusual but honest training runs have no errors."""

import random
from dataclasses import replace

import pytest
import torch
from planted_faults import FAULTS, Base, Saved, matrices, replaced, some, write
from small_trainings import HONEST, Training, train

from joma.measure.scan.verification import Verification, verify
from joma.saved.series import open_series

SMALL = Training(num_layers=4, width=32, steps=tuple(range(0, 60, 4)))
STEP = 20


@pytest.fixture(scope="module")
def base() -> Base:
    """Train a small model twice, with two seeds."""
    return Base(SMALL, train(SMALL), train(replace(SMALL, seed=1)))


@pytest.fixture
def verified(tmp_path):
    """Return a function that writes a series and verifies it."""

    def run(series: Saved) -> Verification:
        return verify(open_series(write(series, tmp_path / "run")))

    return run


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found_at_its_step(base, verified, kind):
    series = dict(base.series)
    FAULTS[kind](base, series, STEP, random.Random(1))
    found = verified(series)
    assert STEP in {row.step for row in found.rows}
    allowed = {"neighbours exchanged": {STEP, STEP + 4}, "another training from here on": None}.get(kind, {STEP})
    assert allowed is None or {row.step for row in found.rows if row.severity == "error"} <= allowed


@pytest.mark.parametrize("step", [0, SMALL.steps[-1]])
@pytest.mark.parametrize("foreign", [False, True])
def test_a_part_of_other_weights_is_found_at_both_ends(base, verified, step, foreign):
    series = dict(base.series)
    other = base.others[step] if foreign else base.series[STEP]
    replaced(series, step, other, some(series[step], random.Random(2)))
    (row,) = [row for row in verified(series).rows if row.kind == "part"]
    assert (row.step, row.severity) == (step, "error")


def test_a_part_that_equals_the_step_before_is_reported_where_it_does_not_fit(base, verified):
    series = dict(base.series)
    names = [name for name in series[STEP] if ".2." in name]
    series[STEP] = series[STEP] | {name: series[STEP - 4][name] for name in names}
    (row,) = verified(series).rows
    assert (row.step, row.kind, row.severity) == (STEP, "part", "error")
    assert f"{len(names)} of {len(series[STEP])} tensors are exactly those of step {STEP - 4}" in row.evidence


@pytest.mark.parametrize("step", [0, SMALL.steps[-1]])
def test_an_entry_far_from_its_neighbour_is_found_at_both_ends(base, verified, step):
    name, series = matrices(base.series[0])[3], dict(base.series)
    changed = series[step][name].clone()
    changed.view(-1)[7] = 1.0
    series[step] = series[step] | {name: changed}
    (row,) = verified(series).rows
    assert (row.step, row.kind, row.severity) == (step, "damaged", "error")
    assert row.evidence.startswith(f"one entry of {name} is 1, but ")


def test_a_frozen_matrix_that_differs_in_one_step_is_found(verified):
    series = train(replace(SMALL, trained="bias|norm"))
    name = matrices(series[0])[3]
    series[STEP] = series[STEP] | {name: series[STEP][name].flip(0)}
    (row,) = verified(series).rows
    assert (row.step, row.kind, row.severity) == (STEP, "part", "error")
    assert name in row.evidence


def test_a_matrix_of_zeros_in_step_0_is_found_unless_all_layers_begin_with_it(base, verified, tmp_path):
    name = matrices(base.series[0])[2]
    series = base.series | {0: base.series[0] | {name: torch.zeros_like(base.series[0][name])}}
    assert [(row.step, row.kind) for row in verified(series).rows] == [(0, "part")]
    adapted = train(replace(SMALL, adapters=2))
    assert not adapted[0]["gpt_neox.layers.0.attention.dense.lora_B.default.weight"].any()
    assert verify(open_series(write(adapted, tmp_path / "adapted"))).rows == ()


@pytest.mark.parametrize(
    "name",
    [
        "spike of 30 times",
        "spike of 30 times before the last step",
        "restarts",
        "small rate, in bfloat16",
        "biases and norms alone",
        "unfrozen at a step",
        "tied weights, in float16",
        "adapters",
    ],
)
def test_an_honest_training_has_no_errors(verified, name):
    training = HONEST[f"gpt_neox, {name}"]
    found = verified(train(replace(training, num_layers=3, width=32)))
    assert [row for row in found.rows if row.severity == "error"] == []
