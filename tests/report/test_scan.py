"""Tables, charts and JSON of a scan built from rows with known curves."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from made_scan import GROUPS, LAYERS, STEPS, level, made_scan, result, spoilt
from rich.console import Console

from joma.measure.curves.quantities import verdicts
from joma.measure.curves.recovery import Interval
from joma.measure.scan.results import Row, probes_of
from joma.measure.scan.scanned import Scan
from joma.measure.scan.verification import Suspect
from joma.report.scan import (
    course_charts,
    format_level,
    format_share,
    heatmaps,
    levels,
    scan_record,
    scan_summary,
    scan_table,
    suspect_note,
    why_no_verdict,
)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return made_scan()


def printed(table) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_the_record_is_strict_json_with_failures_and_suspects(scan):
    record = json.loads(json.dumps(scan_record(scan), allow_nan=False))
    assert [entry["step"] for entry in record["failed"]] == [2000]
    assert record["suspects"][0]["kind"] == "not_finite"
    assert why_no_verdict(scan) == ""


def test_the_note_below_verdicts_names_failed_steps(scan):
    assert suspect_note(scan) == "Without step 2,000 (not measured)."
    copied = replace(scan, verification=replace(scan.verification, rows=(Suspect(4, "identical", "", "error", ""),)))
    assert suspect_note(copied) == "Without step 4 (identical), which is suspect. Without step 2,000 (not measured)."
    through = suspect_note(replace(copied, with_suspects=True))
    assert through.startswith("Includes step 4 (identical), which is suspect.")
    assert through.endswith("Without step 2,000 (not measured).")


def test_a_loss_alone_has_no_table_of_layers(scan):
    loss = tuple(result(step, rows=(Row(None, None, None, 0, "loss_nats", 2.0),)) for step in STEPS[:3])
    text = printed(scan_table(replace(scan, results=loss)))
    assert "layer" not in text
    assert "No verdict: 3 measured steps" in scan_summary(replace(scan, results=loss))


def test_heatmaps_hold_the_means(scan):
    steps = heatmaps(scan)[0]
    assert [heatmap.id for heatmap in steps] == [
        "attention_entropy_nats_steps_layers",
        "stable_rank_mlp_lower_steps_layers",
    ]
    assert steps[0].x == [str(step) for step in STEPS]
    assert steps[1].values[1][5] == 3 * level(STEPS[5], 1)
    heads = {heatmap.id: heatmap for heatmap in heatmaps(scan)[1]}
    assert "step 1000" in heads["attention_entropy_nats_layers_heads"].title
    sparsest = heads["attention_entropy_nats_layers_heads_sparsest"]
    assert "where it was lowest" in sparsest.title
    assert heads["stable_rank_query_layers_heads"].values == [[2.0]] * LAYERS
    assert heatmaps(replace(scan, results=scan.results[:1]))[0] == []
    assert heatmaps(replace(scan, results=()))[1] == []


def test_bands_are_over_groups(scan):
    charts = {chart.id: chart for chart in course_charts(scan)}
    assert charts["attention_entropy_nats"].x_scale == "log"
    assert all(curve.low is not None for curve in charts["attention_entropy_nats"].curves)
    assert all(curve.low is None for curve in charts["stable_rank_mlp_lower"].curves)


def test_suspect_steps_are_left_out_of_curves_and_verdicts_and_reported(scan):
    suspects = ((0, "not_initialisation"), (64, "identical"))
    found = spoilt(scan, *suspects)
    honest = {result.step: result for result in scan.measured}
    kept = [honest[step] for step in STEPS if step not in (0, 64)]
    text = "Without steps 0 (not initialisation) and 64 (identical), which are suspect."
    assert suspect_note(found) == f"{text} Without step 2,000 (not measured)."
    record = scan_record(found)
    assert [entry["lowest_step"] for entry in record["verdicts"]] == [
        entry.lowest_step for entry in verdicts(probes_of(kept)).values()
    ]
    assert 64 not in {entry["lowest_step"] for entry in record["verdicts"]}
    assert record["condemned"] == {"0": "not_initialisation", "64": "identical"}
    assert all(0.0 not in curve.x and 64.0 not in curve.x for chart in course_charts(found) for curve in chart.curves)
    assert all(text in chart.caption for chart in course_charts(found))
    assert all(list(heatmap.struck) == [0, STEPS.index(64)] for heatmap in heatmaps(found)[0])
    assert all("struck out" in heatmap.caption for heatmap in heatmaps(found)[0])
    assert not any("step 64" in heatmap.title for heatmap in heatmaps(found)[1])
    assert text in printed(scan_table(found))


def test_suspect_steps_are_included_on_request(scan):
    found = spoilt(scan, (64, "identical"), with_suspects=True)
    assert "Includes step 64 (identical)" in suspect_note(found)
    assert {entry["lowest_step"] for entry in scan_record(found)["verdicts"]} == {64}
    assert any("step 64, where it was lowest" in heatmap.title for heatmap in heatmaps(found)[1])
    assert all(list(heatmap.struck) == [STEPS.index(64)] for heatmap in heatmaps(found)[0])


def test_too_few_steps_that_are_not_suspect_have_no_verdict(scan):
    few = replace(scan, results=tuple(map(result, STEPS[:5])), steps=STEPS[:5])
    assert why_no_verdict(few) == ""
    found = spoilt(few, (4, "out_of_place"), (8, "out_of_place"))
    assert scan_record(found)["verdicts"] == []
    assert "3 measured steps that are not suspect (2 are)" in why_no_verdict(found)
    assert "Step 2" in printed(scan_table(found))
    assert levels(found)[1][0][1] == levels(replace(few, results=few.results[:3]))[1][0][1]
    alone = spoilt(replace(few, results=few.results[:1]), (0, "not_initialisation"))
    assert "Step 0 (suspect)" in printed(scan_table(alone))
    assert "step 0 (suspect)" in heatmaps(alone)[1][0].title


def test_tables_say_what_their_levels_and_shares_are(scan):
    text = " ".join(printed(scan_table(scan)).split())
    assert "Levels are means over stretches of saved steps" in text
    assert "what came back is a share of the fall" in text
    assert "of the fall" in text
    assert format_level(1.989, (512, 1000)) == "1.989 (steps 512 to 1,000)"
    assert format_level(2.0, (0, 0)) == "2.000 (step 0)"


def test_a_verdict_with_a_clear_half_keeps_it_in_table_and_summary(scan):
    def raised(result):  # the groups come back by 0 to 0.4 of a fall of 2
        rows = [row for row in result.rows if row.layer == 1 and row.metric == "attention_entropy_nats"]
        back = {f"sequences_{number}": 0.1 * number * (result.step >= 256) for number in range(GROUPS)}
        return replace(result, rows=tuple(row._replace(value=row.value + back.get(row.group, 0.0)) for row in rows))

    found = replace(scan, results=tuple(map(raised, scan.measured)))
    assert [entry["outcome"] for entry in scan_record(found)["verdicts"]] == ["fell; whether it comes back is open"]
    assert "is open" in printed(scan_table(found))
    assert "attention entropy (nats) fell, whether it comes back is open" in scan_summary(found)
    assert scan_record(found)["verdicts"][0]["end_steps"] == (256, 1000)


def test_an_open_verdict_stands_behind_a_colon_in_the_summary(scan):
    def scattered(result):  # the groups rise or fall by far more than they do together
        away = {f"sequences_{number}": (-1) ** number * 9.0 * (result.step >= 1) for number in range(GROUPS)}
        return replace(
            result, rows=tuple(row._replace(value=row.value + away.get(row.group, 0.0)) for row in result.rows)
        )

    found = replace(scan, results=tuple(map(scattered, scan.measured)))
    assert "attention entropy (nats): whether it fell is open" in scan_summary(found)


def test_a_share_of_nothing_has_no_sign():
    assert format_share(Interval(0.0, -0.001, 0.26)) == "0% (0% to 26%)"
