"""The predicted order of a grid: what the law predicts, and which tables it has to survive.

The curves here follow the law by construction: they test the mechanics, and are no evidence for it.
"""

import math

import numpy as np
import pandas
import pytest
from tests.tolerances import TOLERANCES

import joma
from joma.errors import InvalidArgument
from joma.measure.curves.order import scores

RATES = (1e-5, 1e-4, 1e-3, 1e-2)
STEPS = np.arange(0, 201, 10)
WHOLE = 5800


def loss_of(rate, steps, depth=1):
    """A loss that falls with travel, from 6 nats, and has noise that grows with learning rate and depth."""
    return 2 + 4 / np.sqrt(1 + 3e4 * rate * steps) + 30 * depth * rate


def table(run, loss, steps=STEPS, **settings):
    columns = {"run": run, "step": steps, "layer": None, "head": None, "metric": "val_loss_nats", "value": loss}
    return pandas.DataFrame(columns | settings)


def grid(rates=RATES, depths=(1, 2), **more):
    return pandas.concat(
        table(f"{depth} {rate:g}", loss_of(rate, STEPS, depth), learning_rate=rate, num_layers=depth, **more)
        for depth in depths
        for rate in rates
    )


def once(frame, **settings):
    return joma.predict_order(frame, num_epochs=1, **settings)


def test_losses_that_follow_the_law_are_predicted():
    found = once(grid(), num_steps=WHOLE)
    last = {f"{depth} {rate:g}": loss_of(rate, WHOLE, depth) for depth in (1, 2) for rate in RATES}
    assert found.index.tolist() == sorted(last, key=lambda run: last[run])
    assert (found.name, found.index.name, found.is_monotonic_increasing) == ("score", "run", True)
    assert all(abs(found[run] - last[run]) < TOLERANCES["order.law"].bound for run in last)
    early = {f"{depth} {rate:g}": loss_of(rate, 200, depth) for depth in (1, 2) for rate in RATES}
    assert sorted(early, key=lambda run: early[run]) != found.index.tolist()


def test_the_best_learning_rate_falls_with_the_length_of_training():
    best = [once(grid(depths=(1,)), num_steps=num).index[0] for num in (200, 20_000)]
    assert best == ["1 0.001", "1 0.0001"]


def test_text_that_is_read_again_costs_fast_runs_most():
    change = joma.predict_order(grid(), num_steps=WHOLE) - once(grid(), num_steps=WHOLE)
    assert change["1 0.001"] > change["1 0.0001"] > change["1 1e-05"] >= 0
    assert change["1 0.001"] > change["1 0.01"]


def test_the_number_of_steps_is_given_in_a_column_or_29_times_the_last():
    pandas.testing.assert_series_equal(once(grid(), num_steps=WHOLE), once(grid(num_steps=WHOLE)))
    pandas.testing.assert_series_equal(once(grid(), num_steps=29 * 200), once(grid()))


def test_scores_depend_neither_on_the_order_of_rows_nor_on_names():
    frame = pandas.concat([grid().assign(seed=seed, value=grid()["value"] + seed / 100) for seed in (0, 1)])
    frame["run"] = frame["run"] + " seed " + frame["seed"].astype(str)
    found = joma.predict_order(frame)
    shuffled = pandas.concat([frame, frame.iloc[::3]]).sample(frac=1, random_state=1)
    pandas.testing.assert_series_equal(joma.predict_order(shuffled), found)
    names = dict(zip(found.index, reversed(found.index), strict=True))
    renamed = joma.predict_order(frame.assign(run=frame["run"].map(names)))
    assert [renamed[names[run]] for run in found.index] == found.tolist()


def test_without_learning_rates_the_future_of_a_slow_run_is_read_off_a_faster_one():
    frame = pandas.concat(table(f"{rate:g}", loss_of(rate, STEPS, 0)) for rate in (1e-5, 3e-5, 1e-4))
    found, last = once(frame, num_steps=2000), loss_of(1e-5, 2000, 0)
    assert abs(found["1e-05"] - last) < TOLERANCES["order.speed"].bound < loss_of(1e-5, 200, 0) - last


@pytest.mark.parametrize("last", [np.nan, np.inf, 1e300, -1e300])
def test_diverged_runs_come_last_and_a_stuck_run_stays_where_it_is(last):
    stuck = table("stuck", np.where(STEPS > 0, 5.5, 6.0), learning_rate=3e-3, num_layers=1)
    lost = table("lost", np.where(STEPS < 100, 4.0, last), learning_rate=2e-3, num_layers=1)
    found = once(pandas.concat([grid(), stuck, lost]), num_steps=WHOLE)
    assert (found.index[-1], found.iloc[-1]) == ("lost", math.inf)
    assert abs(found["stuck"] - 5.5) < TOLERANCES["order.stuck"].bound
    assert found["1 0.001"] == pytest.approx(
        once(grid(), num_steps=WHOLE)["1 0.001"], abs=TOLERANCES["order.law"].bound
    )


@pytest.mark.parametrize("steps", [[0], [50], [0, 7], [3, 90, 200]])
def test_runs_may_be_measured_rarely_and_at_other_steps(steps):
    few = np.array(steps)
    rare = table("rare", loss_of(1e-4, few), steps=few, learning_rate=1e-4, num_layers=1)
    found = joma.predict_order(pandas.concat([grid(), rare]))
    assert np.isfinite(found).all()
    assert len(joma.predict_order(rare)) == 1


def test_entropy_may_be_missing_and_changes_no_score():
    entropy = grid().assign(metric="attention_entropy_nats", layer=0)
    both = pandas.concat([grid(), entropy[entropy["run"] != "1 0.001"]])
    pandas.testing.assert_series_equal(joma.predict_order(both), joma.predict_order(grid()))


@pytest.mark.parametrize(
    "settings", [{"num_steps": 0}, {"num_steps": math.nan}, {"num_epochs": -1.0}, {"num_epochs": 1e300}]
)
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(InvalidArgument, match=next(iter(settings))):
        joma.predict_order(grid(), **settings)


def test_missing_columns_are_refused_by_name():
    with pytest.raises(InvalidArgument, match=r"predict_order: .*a table without step, value"):
        joma.predict_order(grid().drop(columns=["step", "value"]))


def test_no_runs_have_no_scores_and_lost_runs_infinite_ones():
    assert scores([]) == []
    assert joma.predict_order(grid().assign(value=np.nan)).tolist() == [math.inf] * 8
    assert joma.predict_order(grid().drop(columns="learning_rate").assign(value=np.nan)).tolist() == [math.inf] * 8


def test_runs_keep_their_names_whatever_these_are():
    names = dict(zip(grid()["run"].unique(), range(8), strict=True))
    numbered = joma.predict_order(grid().assign(run=grid()["run"].map(names)))
    assert numbered.index.tolist() == [names[run] for run in joma.predict_order(grid()).index]
    categories = pandas.Categorical(grid()["run"], categories=[*names, "never trained"])
    pandas.testing.assert_series_equal(
        joma.predict_order(grid().assign(run=categories)), joma.predict_order(grid()), check_index_type=False
    )


def test_a_depth_without_a_second_sound_learning_rate_takes_its_noise_from_the_others():
    lag = table("deep", loss_of(1e-4, STEPS, 9) + 0.5, learning_rate=1e-4, num_layers=9)
    slow = table("deep and slow", loss_of(1e-5, STEPS, 9) + 0.5, learning_rate=1e-5, num_layers=9)
    found = once(pandas.concat([grid(), lag, slow]), num_steps=500)
    assert abs(found["deep and slow"] - loss_of(1e-5, 500, 9) - 0.5) < TOLERANCES["order.law"].bound


def test_passes_of_the_text_are_those_that_the_table_counts_for_all_its_steps():
    given = joma.predict_order(grid(), num_steps=WHOLE, num_epochs=3)
    for steps, passes in ((WHOLE, 3), (2 * WHOLE, 6)):
        frame = grid(num_steps=steps, num_epochs=passes)
        pandas.testing.assert_series_equal(joma.predict_order(frame, num_steps=WHOLE), given)
    assert not given.equals(joma.predict_order(grid(), num_steps=WHOLE))
    with pytest.raises(InvalidArgument, match="num_epochs"):
        joma.predict_order(grid(num_epochs=-1))
