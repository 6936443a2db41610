"""The remark on a grid: it names the run, and is silent where it knows nothing."""

import numpy as np
import pandas
import pytest

from joma.measure.curves.forecast import forecast

STEPS = np.arange(0, 201, 5)


def table(rate, num_steps=4000, steps=STEPS):
    values = 2 + 4 / np.sqrt(1 + 3e4 * rate * steps) + 30 * rate
    columns = {"run": f"run {rate:g}", "step": steps, "layer": None, "head": None, "metric": "val_loss_nats"}
    return pandas.DataFrame(columns | {"value": values, "learning_rate": rate, "num_steps": num_steps})


def grid(rates=(1e-5, 1e-4, 1e-3, 1e-2), **settings):
    return pandas.concat(table(rate, **settings) for rate in rates)


def test_the_remark_names_run_learning_rate_and_how_sure_it_is():
    run, remark = forecast(grid())
    assert (run, remark.kind, remark.rule) == ("run 0.0001", "open", "forecast")
    assert "Of 4 runs, run 0.0001 (learning rate 0.0001) is predicted to end with the lowest" in remark.text
    assert "with a rank correlation of" in remark.text
    assert remark.numbers["loss_nats"] < remark.numbers["next_loss_nats"]
    assert remark.numbers["step"] == 4000
    assert -1 <= remark.numbers["rank_correlation"] <= 1


def test_with_few_probes_it_does_not_say_how_sure_it_is():
    _, remark = forecast(grid(steps=STEPS[::10]))
    assert "Too few probes" in remark.text
    assert "rank_correlation" not in remark.numbers


@pytest.mark.parametrize(
    "frame",
    [
        grid(rates=(1e-4, 1e-3)),
        grid().assign(metric="train_loss_nats"),
        grid().assign(metric="stable_rank"),
        grid(num_steps=200),
        grid().assign(value=np.nan),
    ],
    ids=["two runs", "no held-out loss", "no loss", "finished", "diverged"],
)
def test_there_is_no_remark_where_nothing_can_be_foreseen(frame):
    assert forecast(frame) is None


def test_a_run_that_has_ended_is_not_foreseen_and_is_named_if_it_is_lower():
    ended = table(1e-4, num_steps=200).assign(run="ended", value=1.0)
    run, remark = forecast(pandas.concat([grid().assign(num_layers=1), ended.assign(num_layers=2)]))
    assert run != "ended"
    assert "of those with steps left" in remark.text
    assert "ended (learning rate 0.0001) has ended lower, with 1.000 nats" in remark.text
    assert remark.numbers["ended_loss_nats"] == 1.0


def test_runs_of_different_lengths_are_named_with_their_own_last_steps():
    frames = [table(rate, num_steps=steps) for rate, steps in ((1e-5, 100_000), (1e-4, 4000), (1e-3, 400))]
    _, remark = forecast(pandas.concat(frames))
    named = remark.text.split(" is predicted")[0].split(", ")[1]
    goals = {"run 1e-05 (learning rate 1e-05)": "100,000", "run 0.0001 (learning rate 0.0001)": "4,000"}
    assert f"at step {goals[named]}; next is" in remark.text
    assert remark.text.count("nats at step") == 2


def test_failed_runs_are_not_foreseen():
    frame = grid().assign(status=lambda rows: np.where(rows["run"] == "run 0.0001", "failed", "unfinished"))
    run, remark = forecast(frame)
    assert run != "run 0.0001"
    assert "Of 3 runs" in remark.text


def test_a_run_that_alone_has_steps_left_is_not_called_the_lowest():
    ended = [table(rate, num_steps=200) for rate in (1e-5, 1e-3)]
    run, remark = forecast(pandas.concat([table(1e-4), *ended]))
    assert run == "run 0.0001"
    assert "alone has steps left, and is predicted to end with a held-out loss of" in remark.text
    assert "lowest" not in remark.text.split(".")[0]
