"""Sweeps end with the numbers of single runs, whatever interrupts them, and refuse what cannot be done."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import psutil
import pytest
from matplotlib.figure import Figure

import joma
from joma.errors import BadInput, RunFailed
from joma.journal import append_line
from joma.studies.result import Interrupted
from joma.train.run import load_run, locked
from joma.train.text.vocabulary import load_tokens
from joma.train.training import train
from linking import explorer_of

TINY = {
    "words": 20,
    "width": 8,
    "hidden": 8,
    "num_probe_sequences": 8,
    "length": 10,
    "batch_size": 4,
    "checkpoint_every": 20,
    "steps": 60,
}
GRID = {**TINY, "lr": [3e-3, 3e-2], "layers": [1, 2]}


def as_options(over) -> list[str]:
    parts = {key: value if isinstance(value, list) else [value] for key, value in over.items()}
    return [word for key, values in parts.items() for word in ("--over", f"{key}={','.join(map(str, values))}")]


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    """Words of which each is mostly followed by the next one."""
    dice, at, words = random.Random(0), 0, []
    for _ in range(4000):
        at = (at + (1 if dice.random() < 0.8 else dice.randrange(20))) % 20
        words.append(f"{'abcdefghijklmnopqrst'[at] * 2}")
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("\n\n".join(" ".join(words[start : start + 50]) for start in range(0, len(words), 50)))
    return str(path)


def silent(what: str, done: float, total: float) -> None:
    """No live table."""


def swept(out: Path, text: str, over=None, **settings):
    settings = {"progress": silent, "workers": 1, "seeds": 2, **settings}
    return joma.sweep("figure8", over=over or GRID, text=text, out=out, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, text):
    return swept(tmp_path_factory.mktemp("sweep") / "whole", text)


def numbers(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/metrics.jsonl")}


def test_every_point_has_a_run_for_each_seed_with_its_settings(whole):
    runs = whole.verdicts()
    assert len(runs) == 8
    assert set(runs["status"]) == {"finished"}
    assert set(zip(runs["learning_rate"], runs["num_layers"], runs["seed"], strict=True)) == {
        (rate, layers, seed) for rate in (3e-3, 3e-2) for layers in (1, 2) for seed in (0, 1)
    }
    assert runs["val_loss_nats"].between(0.5, 3).all()
    assert runs.groupby("learning_rate")["val_loss_nats"].mean().idxmin() == 3e-2


def test_the_table_is_tidy_and_the_same_in_the_parquet_file(whole):
    table = whole.frame()
    wanted = ["run", "step", "layer", "head", "projection", "metric", "value", "learning_rate", "num_layers", "seed"]
    assert list(table)[: len(wanted)] == wanted
    assert {"vocabulary_size", "status", "reason", "num_steps", "num_epochs"} <= set(table)
    read = joma.show(whole.folder / "sweep.parquet").frame()  # as joma advise reads it
    assert set(read["num_steps"]) == set(table["num_steps"])
    assert set(read["num_epochs"]) == set(table["num_epochs"])
    assert not table.duplicated(["run", "step", "layer", "head", "projection", "metric"]).any()
    assert {"attention_entropy_nats", "stable_rank", "val_loss_nats"} <= set(table["metric"])
    pandas.testing.assert_frame_equal(pandas.read_parquet(whole.folder / "sweep.parquet"), table)


def test_a_run_of_a_sweep_is_the_same_as_one_trained_alone(whole, tmp_path):
    run = load_run(whole.folder / "runs" / whole.verdicts()["run"][3])
    tokens = load_tokens(whole.folder / "text" / "20-words.safetensors")
    alone = train(run.recipe, tokens, tmp_path / "alone")
    assert alone.journal_path.read_bytes() == run.journal_path.read_bytes()


def test_the_record_has_settings_times_and_the_command_that_makes_it_again(whole):
    record = json.loads((whole.folder / "sweep.json").read_text())
    assert all(run["seconds"] > 0 and run["from_step"] == 0 for run in record["runs"])
    assert record["failed"] == []
    assert "torch" in record["versions"]
    assert "words 20 (28,782)" in record["different_from_paper"]
    options = record["command"].split()
    assert options[:3] == ["joma", "sweep", "figure8"]
    assert {"lr=0.003,0.03", "layers=1,2", "words=20"} <= set(options)
    assert "--yes" not in options


def test_a_second_call_trains_nothing_again_and_gives_the_same(whole, text):
    before = numbers(whole.folder)
    again = swept(whole.folder, text)
    assert numbers(whole.folder) == before
    pandas.testing.assert_frame_equal(again.frame(), whole.frame())
    assert [run["seconds"] for run in again.record["runs"]] == [run["seconds"] for run in whole.record["runs"]]


def test_more_points_reuse_the_runs_that_are_there(whole, text):
    wider = swept(whole.folder, text, GRID | {"lr": [3e-3, 1e-2, 3e-2]}, seeds=1)
    known = {run["run"]: run["seconds"] for run in whole.record["runs"]}
    assert sum(known.get(run["run"]) == run["seconds"] for run in wider.record["runs"]) == 4
    assert len(wider.verdicts()) == 6


def test_an_interrupted_sweep_keeps_what_is_finished_and_ends_with_the_same_numbers(whole, text, tmp_path):
    def interrupting(what: str, done: float, total: float) -> None:
        if done > 2.4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        swept(tmp_path / "out", text, progress=interrupting)
    runs = caught.value.result.verdicts()
    assert (runs["status"] == "finished").sum() == 2
    assert (runs["status"] == "unfinished").sum() == 6
    assert f" in {tmp_path / 'out'}; " in explorer_of(tmp_path / "out" / "sweep.html").read_text()
    found = swept(tmp_path / "out", text)
    assert numbers(tmp_path / "out") == {name: numbers(whole.folder)[name] for name in found.verdicts()["run"]}
    assert [run["from_step"] for run in found.record["runs"]].count(0) == 7  # one went on from its checkpoint


def test_a_run_that_diverges_stays_as_a_row_and_the_others_go_on(text, tmp_path):
    found = swept(tmp_path / "out", text, TINY | {"lr": [3e-2, 1e30], "layers": 1}, seeds=1)
    runs = found.verdicts().set_index("learning_rate")
    assert runs["status"].to_dict() == {3e-2: "finished", 1e30: "failed"}
    assert "NaN or infinite" in runs["reason"][1e30]
    failed = found.frame().query("status == 'failed'")
    assert failed["value"].isna().sum() == 1  # the row of the failure; what was measured before it stays
    assert failed["reason"].str.contains("NaN or infinite").all()
    assert found.record["failed"][0]["run"] == runs["run"][1e30]
    assert "1 failed" in found.summary()
    assert "NaN or infinite" in (tmp_path / "out" / "sweep.html").read_text()


def test_every_picture_of_a_sweep_is_drawn(whole):
    assert [picture.id for picture in whole.pictures()] == ["attention_entropy_nats", "stable_rank", "val_loss_nats"]
    own = Figure().subplots()
    assert whole.plot("stable_rank", ax=own).has_data()
    assert repr(whole).startswith("Sweep: figure8 (quick): 8 of 8 runs finished")


def test_explicit_points_are_trained_and_made_again_from_their_file(text, tmp_path):
    over = [TINY | {"lr": 3e-2, "layers": 1, "steps": 20}, TINY | {"lr": 1e-2, "layers": 2, "steps": 20}]
    found = swept(tmp_path / "out", text, over, seeds=1)
    assert found.verdicts()[["learning_rate", "num_layers"]].to_numpy().tolist() == [[3e-2, 1], [1e-2, 2]]
    again = swept(tmp_path / "out", text, str(tmp_path / "out" / "points.json"), seeds=1)
    assert f"--over {tmp_path / 'out' / 'points.json'}" in found.record["command"]
    pandas.testing.assert_frame_equal(again.frame(), found.frame())


def test_a_sweep_over_words_gives_each_run_its_own_vocabulary(text, tmp_path):
    found = swept(tmp_path / "out", text, TINY | {"words": [10, 20], "steps": 20}, seeds=1)
    assert sorted(path.name for path in (tmp_path / "out" / "text").iterdir()) == [
        "10-words.safetensors",
        "20-words.safetensors",
    ]
    assert len({run["unigram_nats"] for run in found.record["runs"]}) == 2


def test_the_same_sweep_started_twice_at_once_says_so(text, tmp_path, monkeypatch):
    monkeypatch.setattr("joma.train.run._WAIT_SECONDS", 0.1)
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(BadInput, match=r"another process is training in .*out"):
        swept(tmp_path / "out", text)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_another_sweep_or_with_other_files_is_refused(whole, text, tmp_path):
    with pytest.raises(BadInput, match=r"holds another sweep \(recipe: figure8, not figure6\)"):
        joma.sweep("figure6", over=GRID, text=text, out=whole.folder)
    with pytest.raises(BadInput, match=r"holds another sweep \(text"):
        swept(whole.folder, str(Path(text).parent))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"contains other files \(mine.txt\)"):
        swept(tmp_path, text)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"seeds": 0}, "`seeds` is 0"),
        ({"over": {"seed": [1, 2]}, "seeds": 2}, "left out if `over` names seeds"),
        ({"over": {"lr": "1e-5:1e-2:400log"}, "seeds": 3}, "1,200 runs"),
        ({"over": {"lr": "1e-5:1e-2:1000log", "dropout": "0:0.9:0.001"}}, "2,703,000 runs"),
        ({"over": {"lr": "1e-5:1e-2"}}, "without a number of values"),
        ({"over": TINY | {"words": 0}}, "`vocabulary_size` is 0; expected at least 2"),
        ({"over": TINY | {"words": 1}}, "`vocabulary_size` is 1; expected at least 2"),
        ({"over": TINY | {"words": 5000}}, "has only 22 words, but `over` asks for 5,000"),
        ({"over": TINY | {"length": 500}}, "tokens held out"),
        ({"over": TINY | {"num_heads": 3}}, "num_heads=3"),
        ({"profile": "quik"}, "did you mean 'quick'"),
        ({"engine": "rai"}, "did you mean 'ray'"),
        ({"device": "tpu"}, "device"),
        ({"engine": "ray", "device": "auto"}, "`engine` is ray and `device` is auto; expected `device` cpu"),
        ({"text": "no-such-text"}, "no-such-text"),
        ({"workres": 1}, "did you mean 'workers'"),
        ({"workers": 0}, "`workers` is 0"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(text, tmp_path, settings, problem):
    with pytest.raises(BadInput, match=problem):
        joma.sweep("figure8", **{"over": TINY, "out": tmp_path / "out", "text": text, "progress": silent} | settings)
    assert not list(tmp_path.glob("out/*"))


def test_after_a_request_that_was_refused_the_folder_takes_another_one(text, tmp_path):
    over = TINY | {"lr": [1e-3, 1e-2], "steps": 20}
    (tmp_path / "empty.txt").write_text("")
    refused = [
        {"search": 5},  # more points than the grid has
        {"text": str(tmp_path / "empty.txt")},
        {"text": str(tmp_path / "empty.txt"), "over": TINY | {"lr": "1e-4:1e-1:log"}, "search": 2},
        {"over": TINY | {"words": "10:5000", "lr": "1e-4:1e-1:log"}, "search": 2},
    ]
    for settings in refused:
        with pytest.raises(BadInput):
            swept(tmp_path / "out" / "inner", **{"text": text, "over": over, "seeds": 1} | settings)
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput):
        swept(tmp_path / "out", str(tmp_path / "empty.txt"))
    assert list((tmp_path / "out").iterdir()) == []  # it was there before
    assert set(swept(tmp_path / "out", text, over, seeds=1).verdicts()["status"]) == {"finished"}


def test_more_than_a_thousand_runs_are_trained_if_they_are_meant(text, tmp_path):
    def stop(what: str, done: float, total: float) -> None:
        if what.startswith("training"):
            assert total == 1200
            raise KeyboardInterrupt

    over = TINY | {"lr": "1e-5:1e-2:400log", "steps": 1}
    with pytest.raises(Interrupted) as caught:
        swept(tmp_path / "out", text, over, seeds=3, yes=True, progress=stop)
    assert caught.value.result.record["command"].endswith(" --yes")


def test_an_output_that_is_a_file_is_reported(text, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="`out` is the file"):
        swept(tmp_path / "out", text)


# --- a text that is not the same at each start

SHORT = TINY | {"words": 10, "lr": 1e-2, "layers": 1, "steps": 10, "seed": 0}


def test_a_text_file_that_has_changed_is_refused_until_it_is_put_back(text, tmp_path):
    mine, out, content = tmp_path / "mine.txt", tmp_path / "out", Path(text).read_text()
    mine.write_text(content)
    before = swept(out, str(mine), SHORT, seeds=None).frame()
    mine.write_text(content.replace("aa", "zz"))
    for words in (10, 20):
        with pytest.raises(BadInput, match=r"the text .*mine.txt has changed since this sweep began; .*; put it back"):
            swept(out, str(mine), SHORT | {"words": words}, seeds=None)
    assert [path.name for path in (out / "text").iterdir()] == ["10-words.safetensors"]
    mine.write_text(content)
    pandas.testing.assert_frame_equal(swept(out, str(mine), SHORT, seeds=None).frame(), before)


def test_a_sweep_without_a_digest_of_its_text_goes_on(text, tmp_path):
    swept(tmp_path / "out", text, SHORT, seeds=None)
    path = tmp_path / "out" / "settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("text_digest")
    path.write_text(json.dumps(settings))
    again = swept(tmp_path / "out", text, SHORT | {"words": [10, 20]}, seeds=None)
    assert set(again.verdicts()["status"]) == {"finished"}


def test_a_named_text_is_read_for_a_new_vocabulary_only_and_must_be_the_same_then(text, tmp_path, monkeypatch):
    folder, words = tmp_path / "data" / "wikitext-2", Path(text).read_text().split()
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(" ".join(words[:3000]))
    (folder / "valid.txt").write_text(" ".join(words[3000:]))
    monkeypatch.setenv("JOMA_DATA", str(tmp_path / "data"))
    before = swept(tmp_path / "out", "wikitext2", SHORT, seeds=None).frame()
    (folder / "train.txt").write_text(" ".join(words[:2000]))
    with pytest.raises(BadInput, match="the text wikitext2 has changed since this sweep began"):
        swept(tmp_path / "out", "wikitext2", SHORT | {"words": 20}, seeds=None)
    monkeypatch.setenv("JOMA_DATA", str(tmp_path / "no-such-folder"))
    pandas.testing.assert_frame_equal(swept(tmp_path / "out", "wikitext2", SHORT, seeds=None).frame(), before)


def test_a_search_over_words_keeps_the_digest_of_its_text(text, tmp_path):
    pytest.importorskip("optuna")
    mine = tmp_path / "mine.txt"
    mine.write_text(Path(text).read_text())
    over = SHORT | {"words": "5:20"}
    swept(tmp_path / "out", str(mine), over, seeds=None, search=1)
    mine.write_text(mine.read_text().replace("aa", "zz"))
    with pytest.raises(BadInput, match="has changed since this sweep began"):
        swept(tmp_path / "out", str(mine), over, seeds=None, search=2)


# --- a full disk


def test_a_full_disk_stops_the_sweep_keeps_what_is_finished_and_the_same_call_goes_on(
    whole, text, tmp_path, monkeypatch
):
    def refuse(path, line):
        if len(list((tmp_path / "out" / "runs").iterdir())) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        append_line(path, line)

    monkeypatch.setattr("joma.train.training.append_line", refuse)
    with pytest.raises(RunFailed, match=r"the disk is full: .*out keeps 2 of 8 runs finished.*run the same again"):
        swept(tmp_path / "out", text)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 3  # no other run was started
    monkeypatch.undo()
    found = swept(tmp_path / "out", text)
    assert found.record["failed"] == []
    assert numbers(tmp_path / "out") == {name: numbers(whole.folder)[name] for name in found.verdicts()["run"]}


def test_a_disk_that_is_full_for_a_worker_process_stops_the_sweep(text, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # two layers need more; processes inherit it
    try:
        with pytest.raises(RunFailed, match=r"the disk is full: a file cannot be written .* keeps 0 of 8 runs"):
            swept(tmp_path / "out", text, GRID | {"layers": [2, 3]}, workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list((tmp_path / "out" / "runs").iterdir())) <= 3


# --- kills, in processes of their own


def started(out: Path, text: str, *options: str, limit: int | None = None) -> subprocess.Popen:
    words = [sys.executable, "-m", "joma", "sweep", "figure8", *as_options(GRID), "--seeds", "2", "--text", text]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [*words, "--out", str(out), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def wait_for(condition, process, seconds: float = 280) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_sweep_killed_half_way_and_started_again_ends_with_the_same_numbers(whole, text, tmp_path):
    out = tmp_path / "out"
    process = started(out, text, "--workers", "2")
    wait_for(lambda: len(numbers(out)) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "sweep.parquet").exists()
    again = started(out, text, "--workers", "2", "--json")
    printed, _ = again.communicate(timeout=280)
    assert again.returncode == 0
    assert {run["status"] for run in json.loads(printed)["runs"]} == {"finished"}
    names = [run["run"] for run in json.loads(printed)["runs"]]
    assert numbers(out) == {name: numbers(whole.folder)[name] for name in names}


@pytest.mark.slow
def test_a_lost_worker_fails_its_run_only_and_the_next_start_finishes_it(whole, text, tmp_path):
    out = tmp_path / "out"
    process = started(out, text, "--workers", "2", "--json")
    wait_for(lambda: numbers(out), process)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    printed, _ = process.communicate(timeout=280)
    statuses = [run["status"] for run in json.loads(printed)["runs"]]
    assert process.returncode == 1
    assert (statuses.count("failed"), statuses.count("finished")) == (1, 7)
    assert "was killed" in json.loads(printed)["failed"][0]["reason"]
    assert swept(out, text).record["failed"] == []
    names = [run["run"] for run in json.loads(printed)["runs"]]
    assert numbers(out) == {name: numbers(whole.folder)[name] for name in names}


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_next_start_goes_on(whole, text, tmp_path):
    process = started(tmp_path / "out", text, "--workers", "1", limit=20_000)
    _, said = process.communicate(timeout=280)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1].startswith("joma: the disk is full: ")
    assert "Traceback" not in said
    assert "a file cannot be written" in said
    found = swept(tmp_path / "out", text)
    assert found.record["failed"] == []
    assert numbers(tmp_path / "out") == {name: numbers(whole.folder)[name] for name in found.verdicts()["run"]}


@pytest.mark.slow
def test_a_killed_worker_of_ray_is_replaced_and_no_run_counts_twice(whole, text, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    process = started(out, text, "--workers", "2", "--engine", "ray", "--json")
    wait_for(lambda: numbers(out), process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "ray::_in_ray" in " ".join(child.cmdline())
    ]
    assert workers
    workers[0].kill()
    printed, said = process.communicate(timeout=280)
    assert process.returncode == 0, said
    names = [run["run"] for run in json.loads(printed)["runs"]]
    assert len(names) == len(set(names)) == 8
    assert numbers(out) == {name: numbers(whole.folder)[name] for name in names}
    lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]
    assert sorted(line["run"] for line in lines) == sorted(names)


def test_a_ray_cluster_that_is_not_there_is_an_error_within_seconds(text, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started_at = time.monotonic()
    with pytest.raises(BadInput, match=r"no Ray cluster at RAY_ADDRESS=127\.0\.0\.1:1"):
        swept(tmp_path / "out", text, TINY, engine="ray")
    assert time.monotonic() - started_at < 30


# --- a search


@pytest.fixture
def search(text, tmp_path):
    pytest.importorskip("optuna")
    over = TINY | {"lr": "1e-4:1e-1:log", "layers": "1,2", "steps": 40}

    def run(name: str, num: int, **settings):
        return swept(tmp_path / name, text, over, seeds=1, search=num, **settings)

    return run


def test_a_search_samples_points_and_goes_on_where_it_was_interrupted(search):
    whole = search("whole", 6)
    rates = whole.verdicts()["learning_rate"]
    assert len(rates) == rates.nunique() == 6
    assert rates.between(1e-4, 1e-1).all()

    def interrupting(what: str, done: float, total: float) -> None:
        if done > 2.5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        search("cut", 6, progress=interrupting)
    pandas.testing.assert_frame_equal(search("cut", 6).frame(), whole.frame())
    assert len(search("cut", 8).verdicts()) == 8


def test_a_search_without_an_interval_or_with_too_few_points_is_refused(text, tmp_path):
    pytest.importorskip("optuna")
    for over, problem in ([TINY], "no settings to sample"), (TINY | {"lr": [1e-3]}, "has 1 points"):
        with pytest.raises(BadInput, match=problem):
            swept(tmp_path / problem[:3], text, over, search=5)


def test_a_search_without_optuna_names_the_extra(text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadInput, match=r"pip install 'joma\[search\]'"):
        swept(tmp_path / "out", text, TINY | {"lr": "1e-4:1e-1:log"}, search=5)
