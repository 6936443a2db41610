"""Baselines of the predicted order: each orders a grid as its name says."""

import numpy as np
import pandas
import pytest
from tests.tolerances import TOLERANCES

from joma.measure.curves.baselines import BASELINES, Setting
from joma.measure.curves.grid import grid_of

STEPS = np.arange(0, 101, 10)
RATES = (1e-4, 1e-3, 1e-2)


def runs_of(losses, **more):
    tables = [
        pandas.DataFrame({"run": name, "step": STEPS, "layer": layer, "head": None, "metric": metric, "value": values})
        for metric, layer, curves in (("val_loss_nats", None, losses), *more.get("extra", ()))
        for name, values in curves.items()
    ]
    frame = pandas.concat(tables)
    rates = more.get("rates", {})
    return grid_of(frame.assign(learning_rate=frame["run"].map(rates)) if rates else frame, "test")


def order(name, runs, setting=None):
    found = BASELINES[name](runs, setting or Setting())
    return [run.name for _, run in sorted(zip(found, runs, strict=True), key=lambda pair: pair[0])]


FALLING = {"slow": 6 - STEPS / 50, "fast": 3 + 3 * np.exp(-STEPS / 10)}


def test_the_loss_so_far_and_its_area():
    runs = runs_of(FALLING)
    assert order("loss so far", runs) == order("area under the training loss", runs) == ["fast", "slow"]
    late = {"slow": 1 + 5 * (STEPS < 90), "fast": FALLING["fast"]}
    assert order("loss so far", runs_of(late)) == ["slow", "fast"]
    assert order("area under the training loss", runs_of(late)) == ["fast", "slow"]


def test_the_area_is_that_of_the_training_loss_if_there_is_one():
    trained = {"slow": 0 * STEPS, "fast": 0 * STEPS + 1.0}
    runs = runs_of(FALLING, extra=[("train_loss_nats", None, trained)])
    assert BASELINES["area under the training loss"](runs, Setting()) == [1.0, 0.0]


def test_the_prior_looks_at_learning_rates_only():
    flat = {f"{rate:g}": 0 * STEPS + 3.0 for rate in RATES}
    runs = runs_of(flat, rates={f"{rate:g}": rate for rate in RATES})
    assert order("prior: learning rate alone", runs)[0] == "0.001"
    assert order("prior: learning rate alone", runs, Setting(best_rate=1e-2))[0] == "0.01"


def test_the_law_of_horizons_moves_the_best_learning_rate_down():
    levels = {"0.0001": 3.4, "0.001": 3.0, "0.01": 3.3}
    runs = runs_of({name: 0 * STEPS + level for name, level in levels.items()}, rates={n: float(n) for n in levels})
    name = "loss so far, best rate moved by the law of horizons"
    assert order(name, runs, Setting(num_steps=100)) == ["0.001", "0.01", "0.0001"]
    assert order(name, runs, Setting(num_steps=1e5)) == ["0.0001", "0.001", "0.01"]


@pytest.mark.parametrize("name", ["prior: learning rate alone", "loss so far, best rate moved by the law of horizons"])
def test_a_baseline_that_needs_learning_rates_says_nothing_without_them(name):
    assert BASELINES[name](runs_of(FALLING), Setting()) is None


def test_a_power_law_is_continued():
    steps = np.maximum(STEPS, 1)
    runs = runs_of({"a": 2 + 4 * steps**-0.3})
    (found,) = BASELINES["power law of each run"](runs, Setting(num_steps=2900))
    assert abs(found - (2 + 4 * 2900**-0.3)) < TOLERANCES["baseline.power_law"].bound


def test_broken_runs_come_last():
    losses = {"stuck": 0 * STEPS + 5.0, "collapsed": 4 - STEPS / 50, "sound": 6 - STEPS / 100, "other": 5 - STEPS / 100}
    entropy = {"collapsed": np.where(STEPS < 50, 3.0, 0.1), "sound": 0 * STEPS + 3.0}
    runs = runs_of(losses, extra=[("attention_entropy_nats", 0, entropy)])
    assert set(order("loss so far, broken runs last", runs)[:2]) == {"sound", "other"}


def test_runs_whose_attention_logits_grow_large_in_one_layer_come_last():
    losses = {"large": 4 - STEPS / 50, "endless": 4 - STEPS / 50, "sound": 6 - STEPS / 100, "steady": 5 - STEPS / 100}
    first = dict.fromkeys(losses, 0 * STEPS + 1.0)
    last = first | {"large": STEPS + 1.0, "endless": np.where(STEPS < 50, 1.0, np.inf), "steady": 0 * STEPS + 60.0}
    extra = [("attention_max_logit", 0, first), ("attention_max_logit", 1, last)]
    assert order("loss so far, broken runs last", runs_of(losses, extra=extra))[:2] == ["steady", "sound"]
    assert set(order("loss so far, broken runs last", runs_of(losses))[:2]) == {"large", "endless"}
    hidden = [("attention_max_logit", 0, dict.fromkeys(losses, 0 * STEPS + 45.0)), extra[1]]
    assert order("loss so far, broken runs last", runs_of(losses, extra=hidden))[:2] == ["steady", "sound"]
