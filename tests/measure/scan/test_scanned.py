"""Courses, verdicts and the table of a scan with known results."""

from dataclasses import replace

import numpy as np
from made_scan import GROUPS, HOSTILE, LAYERS, STEPS, made_scan, result, spoilt

from joma.measure.curves.quantities import Quantity, by_head, courses, shown_verdicts, verdicts
from joma.measure.scan.results import probes_of
from joma.records import Row

SCAN = made_scan()


def test_courses_are_means_over_heads_by_group():
    found = courses(probes_of(SCAN.measured))
    assert len(found) == 2 * LAYERS  # ranks of single heads have no course
    entropy = found[Quantity("attention_entropy_nats", 0, None)]
    assert entropy.steps == STEPS
    assert entropy.values.shape == (GROUPS, len(STEPS))
    frame = SCAN.frame()
    of_layer = frame[(frame["metric"] == "attention_entropy_nats") & (frame["layer"] == 0)]
    means = of_layer.groupby(["group", "step"])["value"].mean().unstack()
    assert np.allclose(entropy.values, means.to_numpy(), rtol=1e-12)


def test_verdicts_are_those_of_the_courses():
    found = {
        (quantity.metric, quantity.layer): entry.outcome
        for quantity, entry in verdicts(probes_of(SCAN.measured)).items()
    }
    for measure in ("attention_entropy_nats", "stable_rank"):
        assert [found[measure, layer] for layer in range(LAYERS)] == [
            "fell and came back",
            "fell and stayed low",
            "did not fall",
        ]


def test_verdicts_are_shown_for_entropy_and_the_rank_of_the_first_projection():
    rows = tuple(Row(0, None, projection, "stable_rank", 1.0) for projection in ("mlp_lower", "query"))
    results = tuple(result(step, rows=rows) for step in STEPS)
    assert {quantity.projection for quantity in verdicts(probes_of(results))} == {"mlp_lower", "query"}
    assert {quantity.projection for quantity in shown_verdicts(probes_of(results))} == {"mlp_lower"}


def test_a_failed_step_is_a_row_with_its_reason():
    frame = SCAN.frame()
    last = frame[frame["step"] == 2000]
    assert list(last["reason"]) == [f"it holds {HOSTILE}"]
    assert last["value"].isna().all()


def test_suspect_steps_are_in_the_table_and_marked():
    found = spoilt(SCAN, (64, "identical"))
    frame = found.frame()
    assert set(frame["step"]) == {*STEPS, 2000}
    assert set(frame["suspect"][frame["step"] == 64]) == {"identical"}
    assert frame["suspect"][frame["step"] != 64].isna().all()


def test_suspect_steps_are_judged_only_on_request():
    found = spoilt(SCAN, (64, "identical"))
    assert 64 not in {result.step for result in found.judged}
    assert found.sparsest.step != 64
    through = replace(found, with_suspects=True)
    assert 64 in {result.step for result in through.judged}
    assert through.sparsest.step == 64


def test_the_last_step_is_suspect_only_if_all_are():
    found = spoilt(SCAN, (1000, "identical"))
    assert found.last.step == 512
    alone = replace(found, results=found.results[-2:])
    assert alone.last.step == 1000


def test_values_of_a_head_are_those_of_all_sequences():
    found = by_head(SCAN.last.rows)
    assert set(found) == {("attention_entropy_nats", None), ("stable_rank", "query")}
    wanted = ("attention_entropy_nats", 1, 2, None)
    (value,) = (row.value for row in SCAN.last.rows if (row.metric, row.layer, row.head, row.group) == wanted)
    assert found["attention_entropy_nats", None][1, 2] == value


def test_a_failed_step_has_no_metric_and_whole_tables_have_no_reason():
    assert SCAN.frame()["metric"].isna().sum() == 1
    assert "reason" not in replace(SCAN, results=SCAN.measured).frame()
