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


@pytest.mark.parametrize("settings", [{"learning_rate": -1e-3}, {"learning_rate": np.inf}, {"num_steps": -1}])
def test_settings_that_no_training_has_are_refused(settings):
    with pytest.raises(InvalidArgument, match=next(iter(settings))):
        grid_of(table(**settings), "test")


@pytest.mark.parametrize("step", [-20.0, np.inf])
def test_steps_that_no_training_has_are_refused(step):
    with pytest.raises(InvalidArgument, match="step"):
        grid_of(table().assign(step=STEPS.astype(float)).replace({"step": {20.0: step}}), "test")


@pytest.mark.parametrize("frame", [None, dict.fromkeys(COLUMNS, 1)])
def test_what_is_no_table_is_refused(frame):
    with pytest.raises(InvalidArgument, match="frame"):
        grid_of(frame, "test")


def test_the_index_of_a_table_is_not_read():
    assert grid_of(table().set_index("run", drop=False), "test")[0].name == "a"


def test_a_run_cut_at_a_step_has_diverged_if_it_had_by_then():
    (late,) = grid_of(table(loss=[6, 5, 4, np.nan, np.nan, np.nan]), "test")
    assert [late.until(step).has_diverged for step in (20, 40, 60, 100)] == [False, False, True, True]
    (recovered,) = grid_of(table(loss=[6, 5, np.nan, np.nan, 4, 3]), "test")
    assert [recovered.until(step).has_diverged for step in (20, 60, 100)] == [False, True, False]


def test_held_out_losses_that_were_not_measured_are_no_divergence():
    trained = table(metric="train_loss_nats", loss=7 - STEPS / 50)
    melted = table(loss=[6, np.nan, 5, np.nan, 4, np.nan])
    (run,) = grid_of(pandas.concat([melted, trained]), "test")
    assert (run.loss.values.tolist(), run.has_diverged) == ([6, 5, 4], False)
    (run,) = grid_of(pandas.concat([table(loss=np.nan * STEPS), trained]), "test")
    assert (run.loss.values.tolist(), run.has_diverged) == ((7 - STEPS / 50).tolist(), False)
    lost = trained.assign(value=[7, 6, 5, np.nan, np.nan, np.nan])
    (run,) = grid_of(pandas.concat([table(loss=[6, 5, 4, np.nan, np.nan, np.nan]), lost]), "test")
    assert run.has_diverged


def test_failed_runs_count_as_diverged_also_without_a_measurement():
    nothing = table("c").iloc[:1].assign(metric=None, value=np.nan, status="failed")
    frame = pandas.concat([table("a").assign(status="finished"), table("b").assign(status="failed"), nothing])
    assert {run.name: run.has_diverged for run in grid_of(frame, "test")} == {"a": False, "b": True, "c": True}


def test_logits_are_read_layer_by_layer():
    layers = [table(metric="attention_max_logit", layer=layer, loss=layer + STEPS) for layer in (0, 1)]
    (run,) = grid_of(pandas.concat([table(), *layers]), "test")
    assert [curve.values[0] for curve in run.logits] == [0, 1]
    assert [len(curve) for curve in run.until(20).logits] == [2, 2]


@pytest.mark.parametrize(
    ("column", "value"),
    [("num_epochs", 0), ("num_epochs", 1e300), ("learning_rate", 1e-320), ("step", pandas.Timestamp("2026-01-01"))],
)
def test_numbers_beyond_any_training_are_refused(column, value):
    with pytest.raises(InvalidArgument, match=column):
        grid_of(table().assign(**{column: value}), "test")


def test_names_that_are_lists_are_refused():
    with pytest.raises(InvalidArgument, match="names of runs"):
        grid_of(table().assign(run=[["a"]] * len(STEPS)), "test")


def test_a_held_out_loss_that_was_due_and_is_nan_is_divergence_also_next_to_a_training_loss():
    trained = table(metric="train_loss_nats", loss=7 - STEPS / 50)
    (run,) = grid_of(pandas.concat([table(loss=[6, 5, 4, np.nan, np.nan, np.nan]), trained]), "test")
    assert run.has_diverged
    melted = table(loss=[6, np.nan, 5, np.nan, 4, np.nan])
    (run,) = grid_of(pandas.concat([melted, trained]), "test")
    assert [run.until(step).has_diverged for step in (40, 60, 100)] == [False] * 3


def test_a_training_loss_that_is_lost_after_the_last_held_out_one_is_divergence():
    trained = table(metric="train_loss_nats", loss=[7, 6, 5, 4, np.nan, np.nan])
    (run,) = grid_of(pandas.concat([table().iloc[:4], trained]), "test")
    assert run.has_diverged
    (run,) = grid_of(pandas.concat([table(), trained]), "test")
    assert not run.has_diverged


def test_the_last_status_counts():
    early, late = table().assign(status="failed"), table().assign(status="finished", step=STEPS + 101)
    assert not grid_of(pandas.concat([late, early]), "test")[0].has_failed
    assert grid_of(pandas.concat([late.assign(status="failed"), early.assign(status="finished")]), "test")[0].has_failed


def test_tables_with_a_column_twice_are_refused_and_texts_without_a_metric_left_out():
    with pytest.raises(InvalidArgument, match="two columns value"):
        grid_of(pandas.concat([table(), table()[["value"]]], axis=1), "test")
    note = table("note").iloc[:1].assign(metric=None, value="stopped")
    assert {run.name for run in grid_of(pandas.concat([table(), note]), "test")} == {"a", "note"}
