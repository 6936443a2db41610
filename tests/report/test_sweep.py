"""Pictures of a sweep: every point has its box, every run its place, and the page needs no script."""

import re
import sys

import pytest
from made_sweep import points, run_rows

from joma.report.live import LiveRuns, Row, live_runs
from joma.report.pages.sweep import write_sweep
from joma.report.sweep import left_out_note, panels, point_rows, scatters, sweep_charts, sweep_summary
from joma.terminal import console

ENTROPY = "attention_entropy_nats"


@pytest.fixture(scope="module")
def grid():
    return points(
        *(
            run_rows(f"rate-{rate}_seed-{seed}", rate, dip=rate * 10 + seed / 10, seed=seed)
            for rate in (0.05, 0.1, 0.2)
            for seed in range(2)
        ),
        run_rows("rate-3_seed-0", 3.0, dip=1.0, status="failed"),
    )


RECORD = {
    "recipe": "figure8",
    "profile": "quick",
    "different_from_paper": "Different from the paper: words <1,000>.",
    "texts": ["a text"],
    "seconds": 5.0,
    "created": "2026-01-01T00:00:00+00:00",
    "runs": [{"status": "finished"}] * 6 + [{"status": "failed"}],
    "failed": [{"run": "rate-3_seed-0", "reason": "the loss is NaN & <b>worse</b>"}],
    "training": {"num_steps": [300]},
    "versions": {"torch": "2"},
    "command": "joma sweep figure8",
}


def test_every_point_has_a_box_in_the_column_of_its_learning_rate(grid):
    found = panels(grid, ENTROPY)
    assert found.columns == tuple(f"learning rate {rate}" for rate in ("0.05", "0.1", "0.2", "3"))
    (row,) = found.rows.values()
    assert [panel.is_failed for panel in row] == [False, False, False, True]
    assert [len(panel.lines) for panel in row] == [2, 2, 2, 0]  # a line for each layer
    assert "1 failed" in row[3].words


def test_points_of_lines_stay_inside_their_box_and_bands_are_only_drawn_for_several_seeds(grid):
    for panel in next(iter(panels(grid, ENTROPY).rows.values())):
        for line in panel.lines:
            assert line.band
            pairs = [tuple(map(float, pair.split(","))) for pair in line.points.split()]
            assert all(0 <= x <= 100 and 0 <= y <= 50 for x, y in pairs)
            assert [x for x, _ in pairs] == sorted(x for x, _ in pairs)
    (row,) = panels(points(run_rows("a", 0.1, dip=1.0)), ENTROPY).rows.values()
    assert row[0].lines[0].band == ""


def test_a_scatter_has_a_place_for_every_finished_run(grid):
    fall, rise = scatters(grid, ENTROPY)
    assert len(fall.dots) == len(rise.dots) == 6
    assert {dot.shade for dot in fall.dots} == {0, 50, 100}
    assert fall.shades == "learning rate 0.05 to 0.2"
    by_x = sorted(fall.dots, key=lambda dot: dot.x)
    assert [dot.shade for dot in by_x] == [0, 0, 50, 50, 100, 100]  # the larger the rate, the deeper the dip made here
    assert [scatter.title for scatter in scatters(grid, "stable_rank")] == [
        "fall of stable rank",
        "rise of stable rank after it",
        "fall of attention entropy",
        "rise of attention entropy after it",
    ]


def test_without_several_learning_rates_the_shades_are_another_setting_s(tmp_path):
    runs = [run_rows(f"{num} layers", 0.1, dip=1.0).assign(num_layers=num) for num in (3, 1, 10)]
    (fall, _) = scatters(of_depths := points(*runs), ENTROPY)
    shades = {dot.words.split(" layers")[0]: dot.shade for dot in fall.dots}
    assert (fall.shades, shades) == ("layers 1 to 10", {"1": 0, "3": 50, "10": 100})
    page = write_sweep(of_depths, RECORD | {"recipe": "figure6"}, "Is it so?", ENTROPY, tmp_path / "sweep.html")
    assert "layers 1 to 10.</figcaption>" in page.read_text()
    (alone, _) = scatters(points(runs[0], runs[0].assign(run="again", seed=1)), ENTROPY)
    assert (alone.shades, {dot.shade for dot in alone.dots}) == ("", {0})


def test_the_page_of_a_sweep_about_rank_shows_loss_against_attention_too(grid, tmp_path):
    page = write_sweep(grid, RECORD | {"recipe": "figure7"}, "Is it so?", "stable_rank", tmp_path / "sweep.html")
    for words in ("fall of stable rank", "fall of attention entropy", "rise of attention entropy after it"):
        assert f"Held-out loss against the {words}</h3>" in page.read_text()


def test_points_whose_runs_are_not_finished_say_how_far_they_are_and_are_not_the_lowest():
    found = points(run_rows("a", 0.1, dip=1.0), run_rows("b", 0.2, dip=1.0, status="unfinished", last=100))
    assert [row[1] for row in point_rows(found, ["learning_rate"])] == ["1", "1 until step 90"]
    record = RECORD | {"runs": [{"status": "finished"}, {"status": "unfinished"}]}
    assert "learning rate 0.1" in sweep_summary(found, record)


def test_tables_and_summary_name_the_lowest_loss_and_what_failed(grid):
    rows = point_rows(grid, ["learning_rate"])
    assert [row[0] for row in rows] == ["0.05", "0.1", "0.2", "3"]
    assert rows[3][1:] == ("0, 1 failed", "–", "–", "–", "–", "–")
    assert "6 of 7 runs finished; 1 failed" in sweep_summary(grid, RECORD)
    assert left_out_note(grid) == ""
    assert "anywhere" in left_out_note(points(run_rows("a", 0.1, dip=1.0, loss=9.0)))


def test_charts_have_a_curve_for_each_point_the_leading_metric_first(grid):
    charts = sweep_charts(grid, "stable_rank")
    assert [chart.id for chart in charts] == ["stable_rank", ENTROPY, "val_loss_nats"]
    assert [curve.label for curve in charts[0].curves] == [f"learning rate {rate}" for rate in ("0.05", "0.1", "0.2")]


def test_the_page_is_one_file_without_scripts_and_escapes_reasons(grid, tmp_path):
    page = write_sweep(grid, RECORD, "Is it so?", ENTROPY, tmp_path / "sweep.html").read_text()
    assert "<b>worse" not in page
    assert "words <1,000>" not in page
    assert "&lt;b&gt;worse" in page
    assert not re.search(r"<script(?! type=\"application/json\")|https?://(?!www.w3.org)", page)
    assert "default-src 'none'; style-src" in page
    assert len(page) < 120_000


def test_the_page_of_the_whole_grid_of_the_paper_is_small(tmp_path):
    runs = [
        run_rows(f"{layers}_{rate}_{seed}", rate, dip=1.0, seed=seed).assign(num_layers=layers)
        for layers in range(1, 6)
        for rate in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
        for seed in range(2)
    ]
    page = write_sweep(points(*runs), RECORD, "Is it so?", ENTROPY, tmp_path / "sweep.html")
    assert page.stat().st_size / 25 < 30_000  # a point; the grid of the paper has 47, with up to five times the layers


# --- the live table


ROWS = [Row(f"run{number}", "training", 100, 1_000, 3.5, 1.25) for number in range(20)]


def test_a_terminal_shows_the_runs_and_how_many_more_there_are(capsys):
    from joma.report.live import _picture

    screen = console(sys.stdout, 100)
    with screen.capture() as captured:
        screen.print(_picture(ROWS, "training 20 networks: 5%"))
    shown = captured.get()
    assert "run11" in shown
    assert "run12" not in shown
    assert "100 of 1,000" in shown
    assert "training 20 networks: 5%; 8 more runs are not shown" in shown


def test_without_a_terminal_lines_say_how_far_the_runs_are(capsys, monkeypatch):
    monkeypatch.setattr("joma.report.live.QUIET_SECONDS", 0.0)
    with live_runs(lambda: ROWS) as display:
        display("training 20 networks", 1.0, 20.0)
        display("training 20 networks", 2.0, 20.0)
    said = capsys.readouterr().err
    assert isinstance(display, LiveRuns)
    assert "training 20 networks: 10%" in " ".join(said.split())
    assert "run0 training at step 100" in " ".join(said.split())
