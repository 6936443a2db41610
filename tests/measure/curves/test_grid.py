"""Runs read from a tidy table: any order of rows, gaps, repeated rows, and what is missing."""

import numpy as np
import pandas
import pytest

from joma.errors import InvalidArgument
from joma.measure.curves.grid import COLUMNS, grid_of

STEPS = np.arange(0, 101, 20)


def table(run="a", loss=None, metric="val_loss_nats", layer=None, **settings):
    loss = 6 - STEPS / 50 if loss is None else loss
    columns = {"run": run, "step": STEPS, "layer": layer, "head": None, "metric": metric, "value": loss}
    return pandas.DataFrame(columns | settings)


def test_a_run_has_its_curves_and_settings():
    entropy = [table(metric="attention_entropy_nats", layer=layer, loss=layer + 1 + STEPS) for layer in (0, 1)]
    (run,) = grid_of(pandas.concat([table(learning_rate=1e-3, num_steps=900), *entropy]), "test")
    assert (run.name, run.learning_rate, run.num_steps, run.shape[0]) == ("a", 1e-3, 900, 2)
    assert run.loss.values.tolist() == (6 - STEPS / 50).tolist()
    assert run.entropy.values.tolist() == (1.5 + STEPS).tolist()
    assert not run.has_diverged


def test_order_of_rows_and_repeated_rows_change_nothing():
    rows = table(learning_rate=1e-3)
    shuffled = pandas.concat([rows, rows.iloc[::2]]).sample(frac=1, random_state=0)
    (plain,), (again,) = grid_of(rows, "test"), grid_of(shuffled, "test")
    assert plain.loss.steps.tolist() == again.loss.steps.tolist()
    assert plain.loss.values.tolist() == again.loss.values.tolist()


@pytest.mark.parametrize(
    ("values", "num_left", "diverged"),
    [
        ([6, 5, np.nan, 4, 3, 2], 5, False),
        ([6, 5, 4, 3, np.inf, np.nan], 4, True),
        ([np.nan] * 6, 0, True),
    ],
)
def test_a_run_whose_last_loss_is_not_finite_has_diverged(values, num_left, diverged):
    (run,) = grid_of(table(loss=values), "test")
    assert (len(run.loss), run.has_diverged) == (num_left, diverged)
    assert not run.until(20).has_diverged or num_left == 0


def test_the_training_loss_stands_in_for_a_missing_held_out_loss():
    frame = pandas.concat([table("a"), table("b", metric="train_loss_nats", loss=STEPS + 1.0)])
    runs = {run.name: run for run in grid_of(frame, "test")}
    assert runs["b"].loss.values.tolist() == runs["b"].trained.values.tolist() == (STEPS + 1.0).tolist()
    assert len(runs["a"].trained) == 0


def test_parts_of_a_probe_and_suspect_steps_are_left_out():
    frame = pandas.concat([table(), table(loss=0.0 * STEPS).assign(group="sequences_1")])
    spoilt = pandas.concat([frame, table(loss=0.0 * STEPS).assign(suspect="identical")])
    assert grid_of(spoilt, "test")[0].loss.values.tolist() == (6 - STEPS / 50).tolist()


@pytest.mark.parametrize("columns", [["metric"], ["run", "value"], ["layer", "head"]])
def test_missing_columns_are_named(columns):
    with pytest.raises(InvalidArgument, match=f"a table without {', '.join(columns)}") as caught:
        grid_of(table().drop(columns=columns), "predict_order")
    assert ", ".join(COLUMNS) in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (table().iloc[:0], "a table without a loss"),
        (table(metric="stable_rank"), "a table without a loss"),
        (table().assign(value="low"), "numbers in step, value"),
    ],
)
def test_a_table_without_usable_losses_is_refused(frame, words):
    with pytest.raises(InvalidArgument, match=words):
        grid_of(frame, "predict_order")
