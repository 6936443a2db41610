"""A scan's tables, pictures and page: made of rows whose course is known, looked at in a real browser."""

import itertools
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from joma.charts import Heatmap
from joma.measure.scan.results import Row, StepResult
from joma.measure.scan.verification import Suspect, Verification
from joma.report.drawing.heatmaps import heatmap_figure, heatmap_plot, write_heatmap
from joma.report.pages.scan import write_scan
from joma.report.scan import (
    Scan,
    courses,
    levels,
    measurements,
    scan_record,
    scan_table,
    shown_verdicts,
    suspect_note,
    verdicts,
    why_no_verdict,
)
from joma.report.scan_charts import course_charts, head_heatmaps, step_heatmaps

HOSTILE = "<script>alert(1)</script> & 'q' \"q\""
STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
LAYERS, HEADS, GROUPS = 3, 4, 5


def level(step: int, layer: int) -> float:
    """Layer 0 falls and comes back, layer 1 falls, layer 2 stays."""
    fall = 2.0 * min(1.0, np.log2(step + 1) / 4)
    back = 1.5 * max(0.0, np.log2(step + 1) - 6) / 4
    return 5.0 - (fall - back, fall, 0.0)[layer]


def result(step: int, **changes) -> StepResult:
    noise = np.random.default_rng(step)
    rows = [
        Row(layer, head, None, group, "attention_entropy_nats", level(step, layer) + 0.1 * head + noise.normal(0, 0.01))
        for layer, head, group in itertools.product(range(LAYERS), range(HEADS), range(GROUPS))
    ]
    rows += [Row(layer, None, "mlp_lower", None, "stable_rank", 3 * level(step, layer)) for layer in range(LAYERS)]
    rows += [Row(layer, 0, "query", None, "stable_rank", 2.0) for layer in range(LAYERS)]
    changes = {"rows": tuple(rows)} | changes
    return StepResult(step, fingerprint="x", seconds=1.0, bytes_read=50, bytes_stored=100, **changes)


@pytest.fixture(scope="module")
def scan() -> Scan:
    failed = result(2000, rows=(), reason=f"it holds {HOSTILE}", remedy="leave it out")
    suspect = Suspect(2000, "not_finite", f"{HOSTILE} is NaN", "error", "leave it out")
    return Scan(
        f"someone/{HOSTILE}",
        {"measures": ["attention_entropy_nats", "stable_rank"]},
        f"8 sequences of {HOSTILE}",
        (*STEPS, 2000),
        True,
        (*map(result, STEPS), failed),
        Verification("someone", (*STEPS, 2000), (suspect,), 10, 100),
        12.0,
    )


def test_courses_are_means_over_heads_by_group(scan):
    found = {(course.measure, course.projection, course.layer): course for course in courses(scan.measured)}
    assert len(found) == 2 * LAYERS  # a head's own rank is in no course
    entropy = found["attention_entropy_nats", None, 0]
    assert entropy.steps == STEPS
    assert entropy.values.shape == (GROUPS, len(STEPS))
    frame = measurements(scan.measured)
    of_layer = frame[(frame["measure"] == "attention_entropy_nats") & (frame["layer"] == 0)]
    means = of_layer.groupby(["group", "step"])["value"].mean().unstack()
    assert np.allclose(entropy.values, means.to_numpy(), rtol=1e-12)


def test_verdicts_are_those_of_the_courses(scan):
    found = {(course.measure, course.layer): entry.outcome for course, entry in verdicts(scan.measured)}
    for measure in ("attention_entropy_nats", "stable_rank"):
        assert [found[measure, layer] for layer in range(LAYERS)] == [
            "fell and came back",
            "fell and stayed low",
            "did not fall",
        ]
    assert why_no_verdict(scan) == ""


def test_a_failed_step_is_a_row_with_its_reason(scan):
    frame = measurements(scan.results)
    last = frame[frame["step"] == 2000]
    assert list(last["reason"]) == [f"it holds {HOSTILE}"]
    assert last["value"].isna().all()
    record = json.loads(json.dumps(scan_record(scan), allow_nan=False))
    assert [entry["step"] for entry in record["failed"]] == [2000]
    assert record["suspects"][0]["kind"] == "not_finite"


def test_what_stands_below_verdicts_names_steps_that_failed(scan):
    assert suspect_note(scan) == "Without step 2,000 (not measured)."
    copied = replace(scan, verification=replace(scan.verification, rows=(Suspect(4, "identical", "", "error", ""),)))
    assert suspect_note(copied) == "Without step 4 (identical), which is suspect. Without step 2,000 (not measured)."
    through = suspect_note(replace(copied, with_suspects=True))
    assert through.startswith("With step 4 (identical), suspect as it is")
    assert through.endswith("Without step 2,000 (not measured).")


def test_a_loss_alone_has_no_table_of_layers(scan):
    loss = tuple(result(step, rows=(Row(None, None, None, 0, "loss_nats", 2.0),)) for step in STEPS[:3])
    said = printed(scan_table(replace(scan, results=loss)))
    assert "layer" not in said
    assert "no verdict: 3 measured steps" in said


def test_heatmaps_hold_the_means(scan):
    steps = step_heatmaps(scan)
    assert [heatmap.id for heatmap in steps] == [
        "attention_entropy_nats_steps_layers",
        "stable_rank_mlp_lower_steps_layers",
    ]
    assert steps[0].x == [str(step) for step in STEPS]
    assert steps[1].values[1][5] == 3 * level(STEPS[5], 1)
    heads = {heatmap.id: heatmap for heatmap in head_heatmaps(scan)}
    assert "step 1000" in heads["attention_entropy_nats_layers_heads"].title
    sparsest = heads["attention_entropy_nats_layers_heads_sparsest"]
    assert "where it was lowest" in sparsest.title
    assert heads["stable_rank_query_layers_heads"].values == [[2.0]] * LAYERS
    assert step_heatmaps(replace(scan, results=scan.results[:1])) == []
    assert head_heatmaps(replace(scan, results=())) == []


def test_bands_are_over_groups(scan):
    charts = {chart.id: chart for chart in course_charts(scan)}
    assert charts["attention_entropy_nats"].x_scale == "log"
    assert all(curve.low is not None for curve in charts["attention_entropy_nats"].curves)
    assert all(curve.low is None for curve in charts["stable_rank_mlp_lower"].curves)


def spoilt(scan: Scan, *suspects: tuple[int, str], **changes) -> Scan:
    """The scan with wrong numbers at some steps, as verification would have told."""
    rows = tuple(Suspect(step, kind, "evidence", "error", "leave it out") for step, kind in suspects)
    wrong = {
        step: result(step, rows=tuple(row._replace(value=1.0) for row in result(step).rows)) for step, _ in suspects
    }
    results = tuple(wrong.get(found.step, found) for found in scan.results)
    return replace(scan, results=results, verification=replace(scan.verification, rows=rows), **changes)


def test_suspect_steps_stay_out_of_curves_and_verdicts_and_are_said(scan):
    suspects = ((0, "not_initialisation"), (64, "identical"))
    found = spoilt(scan, *suspects)
    honest = {result.step: result for result in scan.measured}
    kept = [honest[step] for step in STEPS if step not in (0, 64)]
    said = "Without steps 0 (not initialisation) and 64 (identical), which are suspect."
    assert suspect_note(found) == f"{said} Without step 2,000 (not measured)."
    record = scan_record(found)
    assert [entry["lowest_step"] for entry in record["verdicts"]] == [entry.lowest_step for _, entry in verdicts(kept)]
    assert 64 not in {entry["lowest_step"] for entry in record["verdicts"]}
    assert record["condemned"] == {"0": "not_initialisation", "64": "identical"}
    assert all(0.0 not in curve.x and 64.0 not in curve.x for chart in course_charts(found) for curve in chart.curves)
    assert all(said in chart.caption for chart in course_charts(found))
    assert all(list(heatmap.struck) == [0, STEPS.index(64)] for heatmap in step_heatmaps(found))
    assert all("Struck out" in heatmap.caption for heatmap in step_heatmaps(found))
    assert not any("step 64" in heatmap.title for heatmap in head_heatmaps(found))
    assert said in printed(scan_table(found))


def test_suspect_steps_come_back_where_asked_for(scan):
    found = spoilt(scan, (64, "identical"), with_suspects=True)
    assert "With step 64 (identical)" in suspect_note(found)
    assert {entry["lowest_step"] for entry in scan_record(found)["verdicts"]} == {64}
    assert any("step 64, where it was lowest" in heatmap.title for heatmap in head_heatmaps(found))
    assert all(list(heatmap.struck) == [STEPS.index(64)] for heatmap in step_heatmaps(found))


def test_suspect_steps_stay_in_the_table_which_says_so(scan):
    found = spoilt(scan, (64, "identical"))
    frame = measurements(found.results, found.verification.condemned)
    assert set(frame["step"]) == {*STEPS, 2000}
    assert set(frame["suspect"][frame["step"] == 64]) == {"identical"}
    assert frame["suspect"][frame["step"] != 64].isna().all()


def test_too_few_steps_beside_suspect_ones_have_no_verdict(scan):
    few = replace(scan, results=tuple(map(result, STEPS[:5])), steps=STEPS[:5])
    assert why_no_verdict(few) == ""
    found = spoilt(few, (4, "out_of_place"), (8, "out_of_place"))
    assert scan_record(found)["verdicts"] == []
    assert "3 measured steps and not suspect (2 more are)" in why_no_verdict(found)
    assert "Step 2" in printed(scan_table(found))
    assert levels(found)[1][0][1] == levels(replace(few, results=few.results[:3]))[1][0][1]
    alone = spoilt(replace(few, results=few.results[:1]), (0, "not_initialisation"))
    assert "Step 0 (suspect)" in printed(scan_table(alone))
    assert "step 0 (suspect)" in head_heatmaps(alone)[0].title


def printed(table) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def heatmap(**changes) -> Heatmap:
    parts = {"x": ["0", "1", "2"], "y": ["a", "b"], "values": [[0.0, 0.5, 1.0], [1.0, None, 0.25]]}
    return Heatmap("map", "A title " * 12, "caption", "step", "layer", value_label=HOSTILE, **(parts | changes))


def test_a_heatmap_is_drawn_the_same_every_time_darker_where_larger(tmp_path):
    first = [path.read_bytes() for path in write_heatmap(heatmap(), tmp_path / "one")]
    paths = write_heatmap(heatmap(), tmp_path / "two")
    assert [path.read_bytes() for path in paths] == first
    assert ElementTree.parse(paths[0]).getroot().tag.endswith("svg")
    picture = imread(paths[1])[..., :3].sum(-1)
    height, width = picture.shape
    row = picture[int(height * 0.62)]
    places = [int(width * share) for share in (0.15, 0.4, 0.7)]
    assert row[places[0]] > row[places[1]] > row[places[2]]


def test_a_heatmap_of_another_shape_or_without_numbers_is_refused():
    with pytest.raises(ValueError, match="2 rows of 3"):
        heatmap(values=[[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="finite"):
        heatmap(values=[[1.0, 2.0, float("nan")], [1.0, 2.0, 3.0]])


def test_struck_columns_are_crossed_in_both_renderings(tmp_path):
    struck, plain = heatmap(struck=[1]), heatmap()
    shapes = heatmap_plot(struck)["layout"]["shapes"]
    assert {(shape["x0"], shape["x1"]) for shape in shapes} == {(0.5, 1.5)}
    assert heatmap_plot(plain)["layout"]["shapes"] == []
    pictures = [
        imread(write_heatmap(each, tmp_path / name)[1])[..., :3] for name, each in (("a", struck), ("b", plain))
    ]
    changed = np.flatnonzero((pictures[0] != pictures[1]).any(axis=(0, 2)))
    width = pictures[0].shape[1]
    assert 0.2 * width < changed.min() < changed.max() < 0.7 * width
    assert "1 (struck out)\n2" in heatmap_figure(struck, "map/map")


def test_long_names_of_steps_do_not_run_into_one_another():
    names = [str(1000 * place) for place in range(154)]
    shown = heatmap_plot(heatmap(x=names, y=["a"], values=[[0.5] * 154]))["layout"]["xaxis"]["ticktext"]
    assert shown[0] == "0"
    assert shown[-1] == "153000"
    letter, plot = (
        8,
        480,
    )  # CSS pixels of a 13 px digit with some space, and of a plot beside its scale on a small screen
    assert len("  ".join(shown)) * letter <= plot


def test_a_plot_leaves_what_is_missing_empty():
    trace = heatmap_plot(heatmap())["data"][0]
    assert trace["z"][1][1] is None
    assert heatmap_plot(heatmap())["layout"]["xaxis"]["ticktext"] == ["0", "1", "2"]


@pytest.fixture(scope="module")
def written(scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    path = write_scan(scan, folder, created=datetime(2026, 11, 23, tzinfo=UTC), versions={"torch": HOSTILE})
    names = {file.name for file in (folder / "figures").iterdir()}
    assert {"stable_rank_mlp_lower.svg", "attention_entropy_nats_layers_heads_sparsest.png"} <= names
    return path


@pytest.mark.browser
def test_the_page_in_a_browser(scan, written):
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser on this machine")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        tab, complaints = browser.new_page(), []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: complaints.append(request.url) if request.url != written.as_uri() else None)
        tab.goto(written.as_uri())
        tab.wait_for_function("[...document.querySelectorAll('.plot')].every((p) => p.querySelector('.xtick'))")
        headings = tab.locator("h2").all_inner_texts()
        assert headings[0] == "Suspects"
        assert headings.index("What became of each layer") < headings.index("Over the steps")
        rows = tab.locator("table").nth(2).locator("tbody tr")
        assert rows.count() == len(shown_verdicts(scan.measured)) == 2 * LAYERS
        assert "fell and came back" in rows.first.inner_text()
        assert tab.locator(".heatmaplayer .hm").count() == len(step_heatmaps(scan)) + len(head_heatmaps(scan))
        place = tab.locator('.plot[data-plot="map/stable_rank_mlp_lower_steps_layers"]')
        place.scroll_into_view_if_needed()
        area = place.locator(".nsewdrag").bounding_box()
        tab.mouse.move(area["x"] + area["width"] * 0.02, area["y"] + area["height"] * 0.95)
        reading = place.locator("xpath=..").locator(".axis-label.x .reading")
        tab.wait_for_function("(node) => node.textContent !== ''", arg=reading.element_handle())
        assert reading.inner_text() == "step 0, layer 0: 15"
        assert HOSTILE in tab.locator("body").inner_text()
        assert tab.locator("script").count() == 3
        browser.close()
    assert not complaints
