"""Points of a sweep: courses over seeds, what failed, and movements read only where they can be."""

import numpy as np
import pytest
from made_sweep import STEPS, points, run_rows

from joma.measure.curves.points import MOVED


def test_seeds_of_a_point_become_rows_of_its_courses_with_heads_averaged():
    one, other = points(run_rows("a", 0.1, dip=1.0), run_rows("b", 0.1, dip=1.2, seed=1), run_rows("c", 0.2, dip=0.5))
    assert (one.runs, other.runs) == (("a", "b"), ("c",))
    course = one.layers("attention_entropy_nats")[1]
    assert course.values.shape == (2, len(STEPS))
    assert course.values[0, 0] == pytest.approx(2.105)
    assert one.mean_over_layers("attention_entropy_nats").values[1, 0] == pytest.approx(2.055)


def test_falls_and_rises_are_those_of_the_curve_from_the_onset_on():
    (point,) = points(*(run_rows(f"run{seed}", 0.1, dip=1.0, seed=seed) for seed in range(3)))
    assert (point.onset, point.learned) == (40, (0, 1, 2))  # where the loss falls below 6.5
    for moved in point.movements().values():
        assert set(moved) == set(MOVED)
        assert moved["entropy_fall"] == pytest.approx(0.6 - 0.1, abs=0.1)  # means over stretches of probes
        assert moved["entropy_rise"] == pytest.approx(0.5 - 0.05, abs=0.1)
        assert moved["rank_rise"] <= 0  # it only falls
        assert moved["val_loss_nats"] == pytest.approx(3.0, abs=0.2)


def test_without_more_than_word_frequencies_attention_is_not_read():
    (point,) = points(run_rows("a", 0.1, dip=1.0, loss=6.6))
    assert point.onset is None
    assert set(point.movements()["a"]) == {"rank_fall", "rank_rise", "val_loss_nats"}


def test_attention_of_a_network_that_falls_back_to_word_frequencies_is_not_read():
    for last, read in ((6.45, False), (6.3, True)):
        loss = np.interp(STEPS, [0, 100, STEPS[-1]], [7.0, 5.0, last])
        rows = run_rows("a", 0.1, dip=1.0)
        rows.loc[rows["metric"] == "val_loss_nats", "value"] = loss
        (point,) = points(rows)
        assert (point.onset is not None) == read == ("entropy_fall" in point.movements()["a"])


def test_a_run_that_falls_back_neither_has_numbers_nor_takes_them_from_others():
    sound = [run_rows(f"run{seed}", 0.1, dip=1.0, seed=seed) for seed in range(3)]
    broken = run_rows("broken", 0.1, dip=5.0, seed=3)
    broken.loc[broken["metric"] == "val_loss_nats", "value"] = np.interp(STEPS, [0, 100, STEPS[-1]], [7.0, 5.0, 9.0])
    (alone,), (together,) = points(*sound), points(*sound, broken)
    assert together.learned == (0, 1, 2)
    found = together.movements()
    assert set(found.pop("broken")) == {"rank_fall", "rank_rise", "val_loss_nats"}
    assert found == alone.movements()


def test_failed_runs_are_named_and_not_averaged():
    one, other = points(
        run_rows("a", 0.1, dip=1.0),
        run_rows("b", 0.1, dip=50.0, seed=1, status="failed", last=50),
        run_rows("c", 0.2, dip=1.0, status="failed"),
    )
    assert (one.runs, dict(one.failed)) == (("a",), {"b": "NaN"})
    assert one.loss.steps[-1] == STEPS[-1]
    assert (other.runs, other.courses, other.movements()) == ((), {}, {})


def test_unfinished_runs_count_only_if_no_run_of_the_point_is_finished():
    finished, unfinished = run_rows("a", 0.1, dip=1.0), run_rows("b", 0.1, dip=1.0, status="unfinished", last=100)
    assert points(finished, unfinished)[0].runs == ("a",)
    assert points(unfinished)[0].loss.steps[-1] == 90
